"""Does relevance rank columns by what they tell about the prediction?"""

import numpy as np
import pytest

from modelyard.domain.profiles import PREDICTION, Profile, profile_reference, profile_window
from modelyard.domain.relevance import relevance
from modelyard.domain.values import ColumnKind

KINDS = {
    "decides": ColumnKind.NUMERIC,
    "hints": ColumnKind.CATEGORICAL,
    "gap": ColumnKind.NUMERIC,
    "noise": ColumnKind.NUMERIC,
    "names": ColumnKind.CATEGORICAL,
    PREDICTION: ColumnKind.CATEGORICAL,
}


def rows(seed: int, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    said = rng.random(count) < 0.5
    hints = np.where(rng.random(count) < 0.8, said, ~said)
    return {
        "decides": said * 2.0 + rng.random(count),
        "hints": np.where(hints, "high", "low").astype(object),
        "gap": np.where(said & (rng.random(count) < 0.5), np.nan, rng.random(count)),
        "noise": rng.normal(size=count),
        "names": rng.choice(np.array([f"n{i}" for i in range(40)], dtype=object), count),
        PREDICTION: np.where(said, "yes", "no").astype(object),
    }


def test_columns_are_ranked_by_what_they_tell_and_nulls_tell_too() -> None:
    told = relevance(profile_reference(rows(0, 20_000), KINDS))

    assert list(told) == [name for name in KINDS if name != PREDICTION]
    assert sorted(told, key=lambda name: -told[name])[:3] == ["decides", "gap", "hints"]
    assert 0.95 < told["decides"] <= 1  # one tenth holds the border
    share = 1 + 0.8 * np.log2(0.8) + 0.2 * np.log2(0.2)  # of one bit, known to four fifths
    assert told["hints"] == pytest.approx(share, abs=0.02)
    assert told["noise"] < 0.001


def test_in_few_rows_columns_that_tell_nothing_do_not_seem_to() -> None:
    reference = profile_reference(rows(0, 5_000), KINDS)
    told = [relevance(profile_window(rows(seed, 200), reference)) for seed in range(1, 60)]

    # Uncorrected, chance gives each about (11 - 1)(2 - 1) / 2n nats of 0.69: 0.036.
    assert np.mean([t["noise"] for t in told]) < 0.02
    assert np.mean([t["names"] for t in told]) < 0.02


def test_a_prediction_that_never_varies_leaves_nothing_to_tell() -> None:
    constant = {**rows(0, 500), PREDICTION: np.full(500, "yes", dtype=object)}

    assert set(relevance(profile_reference(constant, KINDS)).values()) == {0.0}


def test_without_a_prediction_nothing_is_said() -> None:
    kinds = {name: kind for name, kind in KINDS.items() if name != PREDICTION}

    assert relevance(profile_reference(rows(0, 500), kinds)) == {}
    assert relevance(Profile(rows=0, columns={})) == {}
