"""What still counts as promised, when both sides were measured on samples?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.metrics import METRICS, Interval, Metric
from modelyard.domain.promises import promise_limit, shortfall, surely_beyond, tolerated

ACCURACY, AUC, MAE = METRICS["accuracy"], METRICS["roc_auc"], METRICS["mae"]
widths = st.floats(0.001, 0.2)


def interval(value: float, below: float, above: float) -> Interval:
    return Interval(value=value, low=value - below, high=value + above, confidence=0.95)


@given(
    st.floats(0.1, 0.9), st.floats(0.1, 0.9), widths, widths, widths, widths, st.floats(0.0, 0.2)
)
def test_beyond_the_limit_is_what_is_surely_worse_by_more_than_is_tolerated(
    said: float, shown: float, a: float, b: float, c: float, d: float, tolerance: float
) -> None:
    promised, found = interval(said, a, b), interval(shown, c, d)
    for metric, worse, unsure, facing in (
        (ACCURACY, said - shown, a, d),
        (MAE, shown - said, b, c),
    ):
        surely_worse_by = worse - math.hypot(unsure, facing)
        if abs(surely_worse_by - tolerance * said) < 1e-9:
            continue
        limit = promise_limit(metric, promised, tolerance, found)
        assert surely_beyond(metric, found, limit) is (surely_worse_by > tolerance * said)
        assert shortfall(metric, shown, promised) == pytest.approx(worse / said)


def test_what_was_measured_without_error_is_held_against_the_bad_end() -> None:
    promised = interval(0.8, 0.05, 0.03)
    assert promise_limit(ACCURACY, promised, 0.1) == pytest.approx(0.8 - 0.08 - 0.05)
    assert promise_limit(MAE, promised, 0.1) == pytest.approx(0.8 + 0.08 + 0.03)
    unsure = interval(0.6, 0.5, 0.5)
    assert promise_limit(ACCURACY, promised, 0.1, unsure) == pytest.approx(0.72, abs=0.003)


def test_two_samples_of_one_population_are_told_apart_as_seldom_as_the_confidence_says() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(4_000):
        means = rng.normal(0.8, [0.02, 0.03])
        promised, found = (
            interval(value, 1.96 * error, 1.96 * error)
            for value, error in zip(means, (0.02, 0.03), strict=True)
        )
        alarms += surely_beyond(ACCURACY, found, promise_limit(ACCURACY, promised, 0.0, found))
    assert alarms / 4_000 == pytest.approx(0.025, abs=0.007)


@pytest.mark.parametrize(
    ("metric", "promised", "naive", "lost"),
    [
        (AUC, 0.8, 0.5, 0.03),  # a tenth of what the model knows, not of the figure
        (ACCURACY, 0.95, 0.93, 0.002),
        (MAE, 20.0, 100.0, 2.0),  # a tenth of the gain would be 8: nearly half of the error
        (MAE, 20.0, 25.0, 0.5),
        (AUC, 0.48, 0.5, 0.0),  # what is no better than the naive model has nothing to lose
        (AUC, 0.8, None, 0.08),
        (MAE, 0.0, 5.0, 0.0),
    ],
)
def test_what_is_tolerated_is_a_share_of_the_figure_or_of_the_gain_where_that_is_less(
    metric: Metric, promised: float, naive: float | None, lost: float
) -> None:
    share = tolerated(metric, interval(promised, 0.01, 0.01), naive, 0.1)
    assert share * promised == pytest.approx(lost)
