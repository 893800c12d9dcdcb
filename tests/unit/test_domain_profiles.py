"""Does a profile hold what its rows hold?"""

from collections import Counter

import numpy as np
import pytest

from modelyard.domain.profiles import (
    CategoricalProfile,
    NumericProfile,
    Profile,
    merge_profiles,
    profile_reference,
    profile_window,
)
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

    merged = merge_profiles(*parts)
    expected = profile_window(whole, reference)

    assert merged.rows == expected.rows
    assert merged.columns["city"] == expected.columns["city"]
    for name in ("price", "rain"):
        x, y = numeric(merged, name), numeric(expected, name)
        exact = {"counts", "nulls", "min", "max", "outside", "far_outside", "non_zero"}
        assert x.model_dump(include=exact) == y.model_dump(include=exact)
        assert (x.mean, x.sd, x.log_mean) == pytest.approx((y.mean, y.sd, y.log_mean))


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
