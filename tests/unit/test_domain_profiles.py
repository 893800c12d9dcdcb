"""Does a profile hold what its rows hold?"""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from modelyard.domain.profiles import (
    PREDICTION,
    SAMPLE_ROWS,
    CategoricalProfile,
    Levels,
    NumericProfile,
    Profile,
    ProfileBuilder,
    ReferenceSample,
    merge_profiles,
    profile_reference,
    profile_window,
)
from modelyard.domain.tallies import TRACKED_LEVELS
from modelyard.domain.values import ColumnKind
from modelyard.errors import InvalidInputError

KINDS = {
    "price": ColumnKind.NUMERIC,
    "rain": ColumnKind.NUMERIC,
    "city": ColumnKind.CATEGORICAL,
}


def columns(seed: int, rows: int = 3_000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    price = rng.lognormal(3, 1, rows)
    price[rng.random(rows) < 0.1] = np.nan
    rain = np.where(rng.random(rows) < 0.8, 0.0, rng.exponential(2.0, rows))
    city = rng.choice(np.array(["Rome", "Oslo", "Bern", None], dtype=object), rows)
    return {"price": price, "rain": rain, "city": city}


def predicted(seed: int, rows: int = 3_000, *, classes: bool) -> dict[str, np.ndarray]:
    """Return columns with a prediction that price and city decide."""
    known = columns(seed, rows)
    said = np.nan_to_num(known["price"]) + 20 * (known["city"] == "Oslo")
    said = np.where(said > 30, "dear", "cheap").astype(object) if classes else said
    said[:3] = None if classes else np.nan
    return {**known, PREDICTION: said}


def kinds(*, classes: bool) -> dict[str, ColumnKind]:
    return {**KINDS, PREDICTION: ColumnKind.CATEGORICAL if classes else ColumnKind.NUMERIC}


def same(a: Profile, b: Profile) -> None:
    """Check that all counts are equal, and what is summed up to the last digits."""
    rounded = {"mean", "sd", "log_mean"}
    assert a.rows == b.rows
    for name, x in a.columns.items():
        y = b.columns[name]
        assert x.model_dump(exclude=rounded) == y.model_dump(exclude=rounded)
        if isinstance(x, NumericProfile) and isinstance(y, NumericProfile):
            assert (x.mean, x.sd, x.log_mean) == pytest.approx((y.mean, y.sd, y.log_mean))


def numeric(profile: Profile, name: str) -> NumericProfile:
    column = profile.columns[name]
    assert isinstance(column, NumericProfile)
    return column


def categorical(profile: Profile, name: str) -> CategoricalProfile:
    column = profile.columns[name]
    assert isinstance(column, CategoricalProfile)
    return column


def test_counts_moments_and_levels_are_those_of_the_rows() -> None:
    rows = columns(1)
    profile = profile_reference(rows, KINDS)
    present = rows["price"][~np.isnan(rows["price"])]
    price = numeric(profile, "price")

    assert price.nulls == np.isnan(rows["price"]).sum()
    expected = np.histogram(present, [-np.inf, *price.edges, np.inf])[0]
    assert price.counts == tuple(expected)
    assert (price.mean, price.sd) == pytest.approx((present.mean(), present.std()))
    assert (price.min, price.max) == (present.min(), present.max())
    levels = Counter(rows["city"])
    nulls = levels.pop(None)
    assert categorical(profile, "city").levels == levels
    assert categorical(profile, "city").nulls == nulls


def test_bins_have_equal_mass_and_frequent_values_a_bin_of_their_own() -> None:
    rows = columns(1)
    profile = profile_reference(rows, KINDS, bins=64)

    price = numeric(profile, "price")
    assert max(price.counts) < 1.5 * price.present / 64
    assert int((rows["rain"] == 0).sum()) in numeric(profile, "rain").counts


def test_merging_parts_gives_the_profile_of_the_whole() -> None:
    reference = profile_reference(columns(1), KINDS)
    whole = columns(2)
    whole["city"][:7] = ["Cairo"] * 5 + ["Lima"] * 2
    parts = [
        profile_window({name: values[rows] for name, values in whole.items()}, reference)
        for rows in (slice(0, 10), slice(10, 700), slice(700, 700), slice(700, None))
    ]

    same(merge_profiles(*parts), profile_window(whole, reference))


@pytest.mark.parametrize("classes", [True, False])
def test_batches_of_any_size_give_the_profile_of_the_whole(classes: bool) -> None:
    rng = np.random.default_rng(5)
    reference = profile_reference(predicted(1, classes=classes), kinds(classes=classes))
    whole = predicted(2, 5_000, classes=classes)
    whole["city"][-40:] = [f"village {i % 7}" for i in range(40)]
    expected = profile_window(whole, reference)
    for _ in range(5):
        cuts = [0, *np.sort(rng.integers(0, 5_000, 6)), 5_000]
        builders = [ProfileBuilder(reference) for _ in range(2)]
        merged: list[Profile] = []
        for turn, (a, b) in enumerate(pairwise(cuts)):
            part = {name: values[a:b] for name, values in whole.items()}
            builders[turn % 2].add(part)
            merged.append(profile_window(part, reference))
        builders[0].merge(builders[1])
        same(builders[0].profile(), expected)
        same(merge_profiles(*merged), expected)


@pytest.mark.parametrize("classes", [True, False])
def test_joint_counts_are_those_of_the_rows(classes: bool) -> None:
    reference = profile_reference(predicted(1, classes=classes), kinds(classes=classes))
    rows = predicted(2, classes=classes)
    window = profile_window(rows, reference)
    said = window.columns[PREDICTION]
    price, city = numeric(window, "price"), categorical(window, "city")
    outputs, cells, cities = [], [], []
    for value, cost, town in zip(rows[PREDICTION], rows["price"], rows["city"], strict=True):
        if value is None or value != value:
            continue
        place = (
            said.groups.index(value) if classes else np.searchsorted(said.groups, value, "right")
        )
        outputs.append(place)
        null = np.isnan(cost)
        cells.append(
            len(price.groups) + 1 if null else np.searchsorted(price.groups, cost, "right")
        )
        cities.append(len(city.groups) + 1 if town is None else city.groups.index(town))
    groups = len(said.groups) + 1
    for column, places in ((price, cells), (city, cities)):
        expected = np.zeros((len(column.groups) + 2, groups), dtype=int)
        np.add.at(expected, (places, outputs), 1)
        assert np.array_equal(column.joint, expected)
    assert said.joint == ()
    assert len(price.groups) == 9
    assert set(price.groups) <= set(price.edges)


def test_codes_of_levels_are_counted_as_their_names() -> None:
    reference = profile_reference(columns(1), KINDS)
    city = Levels(np.array([2, 0, -1, 1, 0]), ["Oslo", "Cairo", "Bern"])
    plain = np.array(["Bern", "Oslo", None, "Cairo", "Oslo"], dtype=object)

    assert profile_window({"city": city}, reference) == profile_window({"city": plain}, reference)


def test_whole_and_decimal_numbers_may_be_levels() -> None:
    known = profile_reference(
        {"a": np.array([1, 2, 2]), "b": np.array([0.5, np.nan, 2.0])},
        {"a": ColumnKind.CATEGORICAL, "b": ColumnKind.CATEGORICAL},
    )

    assert categorical(known, "a").levels == {"2": 2, "1": 1}
    assert categorical(known, "b").levels == {"0.5": 1, "2.0": 1}
    assert categorical(known, "b").nulls == 1


def test_a_column_of_identifiers_takes_bounded_memory_and_loses_no_row() -> None:
    cities = {"city": ColumnKind.CATEGORICAL}
    reference = profile_reference({"city": columns(1)["city"]}, cities)
    builder = ProfileBuilder(reference)
    for batch in range(5):
        names = [f"id {batch} {i}" for i in range(TRACKED_LEVELS)]
        builder.add({"city": Levels(np.arange(TRACKED_LEVELS), names)})
        builder.add({"city": np.array(["Oslo", "new", "new", None], dtype=object)})
        assert sum(len(tally.levels) for tally in builder._tallies.values()) < 2 * TRACKED_LEVELS
    city = categorical(builder.profile(), "city")

    assert (city.levels, city.nulls) == ({"Oslo": 5}, 5)
    assert city.unseen_rows == 5 * TRACKED_LEVELS + 10
    assert city.unseen["new"] == 10


def test_bins_of_many_rows_are_laid_by_evenly_spread_ones_and_all_are_counted() -> None:
    rows = 3 * SAMPLE_ROWS
    trend = np.arange(rows, dtype=float)
    hour = trend % 24  # a sample in step with the day would know one hour only
    whole = {"trend": trend, "hour": hour}
    known = profile_reference(whole, dict.fromkeys(whole, ColumnKind.NUMERIC))
    sample = ReferenceSample(dict.fromkeys(whole, ColumnKind.NUMERIC))
    for start in range(0, rows, 70_001):
        sample.add({name: values[start : start + 70_001] for name, values in whole.items()})

    for profile in (known, sample.bins()):
        edges = numeric(profile, "trend").edges
        assert np.diff(edges).max() < 1.05 * rows / 130
        assert set(numeric(profile, "hour").edges) >= set(range(24))
    assert sum(numeric(known, "trend").counts) == rows
    assert (numeric(known, "trend").min, numeric(known, "trend").max) == (0, rows - 1)


def test_a_profile_that_was_stored_before_there_were_joint_counts_still_serves() -> None:
    new = profile_reference(predicted(1, classes=True), kinds(classes=True))
    stored = new.model_dump()
    for column in stored["columns"].values():
        del column["groups"], column["joint"]
    old = Profile.model_validate(stored)
    rows = predicted(2, classes=True)
    window = profile_window(rows, old)

    assert window.rows == 3_000
    assert all(column.joint == () for column in window.columns.values())
    assert numeric(window, "price").counts == numeric(profile_window(rows, new), "price").counts


def test_profiles_on_different_bins_do_not_merge() -> None:
    first, second = (profile_reference(columns(seed), KINDS) for seed in (1, 2))

    with pytest.raises(InvalidInputError, match="different bins"):
        merge_profiles(first, second)


def test_a_profile_survives_json_and_is_small() -> None:
    many = {f"x{i}": np.random.default_rng(i).normal(size=2_000) for i in range(20)}
    reference = profile_reference(many, dict.fromkeys(many, ColumnKind.NUMERIC))
    text = reference.model_dump_json()

    assert Profile.model_validate_json(text) == reference
    assert len(text) < 80_000


def test_a_column_that_the_window_lacks_is_all_null() -> None:
    reference = profile_reference(columns(1), KINDS)
    window = profile_window({"rain": np.zeros(5)}, reference)

    assert numeric(window, "price").nulls == 5
    assert categorical(window, "city").nulls == 5


def test_unseen_levels_are_counted_apart() -> None:
    reference = profile_reference(columns(1), KINDS)
    rows = columns(2, rows=4)
    rows["city"] = np.array(["Rome", "Cairo", "Cairo", float("nan")], dtype=object)
    city = categorical(profile_window(rows, reference), "city")

    assert (city.levels, city.unseen, city.unseen_rows, city.nulls) == (
        {"Rome": 1},
        {"Cairo": 2},
        2,
        1,
    )


def test_with_more_levels_than_are_kept_nothing_counts_as_unseen() -> None:
    names = np.array([f"user{i}" for i in range(50)] * 2, dtype=object)
    kinds = {"user": ColumnKind.CATEGORICAL}
    reference = profile_reference({"user": names}, kinds, max_levels=10)
    window = profile_window({"user": np.array(["user49", "new", "user0"], dtype=object)}, reference)

    assert len(categorical(reference, "user").levels) == 10
    assert categorical(reference, "user").other == 80
    assert categorical(window, "user").unseen_rows == 0
    assert categorical(window, "user").present == 3


def test_infinite_and_huge_values_leave_a_profile_that_json_can_hold() -> None:
    values = np.array([np.inf, -np.inf, 1e200, -1e200, np.nan, 0.0])
    profile = profile_reference({"x": values}, {"x": ColumnKind.NUMERIC})
    x = numeric(profile, "x")

    assert x.nulls == 3
    assert np.isfinite([x.mean, x.sd]).all()
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


@pytest.mark.parametrize(
    ("reference", "window", "outside", "far_outside"),
    [
        ([0, 10], [-1, 0, 10, 12, 21, -11], 4, 2),
        ([200, 214], [190, 236, 450], 3, 1),  # a narrow range says little about how far is far
        ([5, 35], [-3, 0, 42, 300], 4, 1),  # a winter is no fault
        ([30, 98], [0.71, 71, -999], 2, 2),  # a fraction among percentages
        ([-98, -30], [-0.71, -71], 1, 1),
    ],
)
def test_rows_beyond_the_reference_are_counted(reference, window, outside, far_outside) -> None:
    known = profile_reference({"x": np.array(reference, float)}, {"x": ColumnKind.NUMERIC})
    x = numeric(profile_window({"x": np.array(window, float)}, known), "x")

    assert (x.outside, x.far_outside) == (outside, far_outside)


def test_a_window_may_be_empty_and_a_reference_may_not() -> None:
    nothing = {"x": np.empty(0)}
    reference = profile_reference({"x": np.arange(3.0)}, {"x": ColumnKind.NUMERIC})

    assert profile_window(nothing, reference).rows == 0
    with pytest.raises(InvalidInputError, match="has no rows"):
        profile_reference(nothing, {"x": ColumnKind.NUMERIC})
    with pytest.raises(InvalidInputError, match="lacks y"):
        profile_reference({"x": np.arange(3.0)}, {"y": ColumnKind.NUMERIC})
    with pytest.raises(InvalidInputError, match="same number of rows"):
        profile_window({"x": np.arange(3.0), "y": np.arange(2.0)}, reference)
