"""Is the holdout newer than everything that is trained on?"""

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.holdout import split_by_hash, split_newest


def days(*numbers: int) -> np.ndarray:
    return np.array(sorted(numbers), dtype="datetime64[D]").astype("datetime64[ns]")


@given(st.lists(st.integers(0, 40), min_size=2, max_size=200), st.floats(0.01, 0.99))
def test_every_holdout_row_is_strictly_newer_than_every_training_row(
    numbers: list[int], share: float
) -> None:
    times = days(*numbers)
    training, holdout = split_newest(times, share=share)
    assert holdout.any()
    assert not (training & holdout).any()
    if training.any():
        assert times[training].max() < times[holdout].min()


def test_rows_of_one_moment_stay_together_even_beyond_the_share() -> None:
    training, holdout = split_newest(days(1, 2, 3, 3, 3, 3), share=0.2)
    assert holdout.sum() == 4
    assert training.sum() == 2


def test_a_window_leaves_older_rows_out() -> None:
    times = days(*range(100))
    training, holdout = split_newest(times, span=timedelta(days=10), window=timedelta(days=30))
    assert holdout.sum() == 10
    assert training.sum() == 30
    assert times[training].min() == np.datetime64("1970-03-02")


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, unique=True), st.floats(0, 1))
def test_a_row_never_changes_sides_when_rows_are_added(keys: list[int], share: float) -> None:
    known, more = np.array(keys[: len(keys) // 2 + 1], np.uint64), np.array(keys, np.uint64)
    training, holdout = split_by_hash(known, share)

    assert (training ^ holdout).all()
    assert split_by_hash(more, share)[1][: len(known)].tolist() == holdout.tolist()


def test_a_hash_holds_out_about_the_share_and_a_key_as_a_whole() -> None:
    keys = np.random.default_rng(1).integers(0, 2**64, 5_000, dtype=np.uint64)
    _, holdout = split_by_hash(np.repeat(keys, 3), 0.2)

    assert abs(holdout.mean() - 0.2) < 0.02
    assert (
        holdout.reshape(-1, 3).any(axis=1).tolist() == holdout.reshape(-1, 3).all(axis=1).tolist()
    )
    assert not split_by_hash(keys, 0.0)[1].any()
