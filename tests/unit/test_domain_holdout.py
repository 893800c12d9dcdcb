"""Is the holdout newer than everything that is trained on?"""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.holdout import split_newest


def days(*numbers: int) -> np.ndarray:
    return np.array(sorted(numbers), dtype="datetime64[D]").astype("datetime64[ns]")


@given(st.lists(st.integers(0, 40), min_size=2, max_size=200), st.floats(0.01, 0.99))
def test_every_holdout_row_is_strictly_newer_than_every_training_row(
    numbers: list[int], share: float
) -> None:
    times = days(*numbers)
    training, holdout = split_newest(times, len(times), share=share)
    assert holdout.any()
    assert not (training & holdout).any()
    if training.any():
        assert times[training].max() < times[holdout].min()


def test_rows_of_one_moment_stay_together_even_beyond_the_share() -> None:
    training, holdout = split_newest(days(1, 2, 3, 3, 3, 3), 6, share=0.2)
    assert holdout.sum() == 4
    assert training.sum() == 2


def test_a_window_leaves_older_rows_out() -> None:
    times = days(*range(100))
    training, holdout = split_newest(times, 100, span=timedelta(days=10), window=timedelta(days=30))
    assert holdout.sum() == 10
    assert training.sum() == 30
    assert times[training].min() == np.datetime64("1970-03-02")


def test_without_times_the_order_of_rows_counts() -> None:
    training, holdout = split_newest(None, 10, share=0.2)
    assert training.tolist() == [True] * 8 + [False] * 2
    assert holdout.tolist() == [False] * 8 + [True] * 2


def test_a_span_without_times_is_refused() -> None:
    with pytest.raises(ValueError, match="time column"):
        split_newest(None, 10, span=timedelta(days=1))
