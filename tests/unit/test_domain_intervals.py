"""Do intervals hold what they say, on rows that err alike over time too?"""

import numpy as np
import pytest
from scipy import signal

from modelyard.domain.intervals import mean_interval, metric_interval, paired_difference
from modelyard.domain.metrics import METRICS, Metric
from modelyard.domain.values import MLTask
from modelyard.errors import InvalidInputError

RNG = np.random.default_rng(11)
ROWS = 400
VALUES = RNG.gamma(2.0, 50.0, ROWS)
FITTED = VALUES * RNG.uniform(0.7, 1.3, ROWS)
CODES = (RNG.random(ROWS) < 0.3).astype(int)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_positive_difference_means_a_better_challenger_whatever_the_metric(
    metric: Metric,
) -> None:
    if MLTask.REGRESSION in metric.tasks:
        truth, good, bad = VALUES, VALUES * 1.01, VALUES * 1.5
    elif metric.needs_score:
        truth, good, bad = CODES, 0.1 + 0.8 * CODES, np.full(ROWS, 0.7)
    else:
        truth, good, bad = CODES, CODES, 1 - CODES

    difference = paired_difference(metric, truth, good, bad)

    assert difference.low > 0
    swapped = paired_difference(metric, truth, bad, good)
    assert (swapped.value, swapped.low) == pytest.approx((-difference.value, -difference.high))


def autocorrelated(series: int, rows: int, memory: float) -> np.ndarray:
    """Return AR(1) series of unit variance, shape (series, rows)."""
    noise = np.random.default_rng(2).normal(size=(series, rows + 200))
    errors = signal.lfilter([1.0], [1.0, -memory], noise, axis=1)[:, 200:]
    return errors * np.sqrt(1 - memory**2)


@pytest.mark.parametrize(("memory", "rows"), [(0.0, 60), (0.0, 1_000), (0.5, 300), (0.9, 1_000)])
def test_intervals_cover_the_true_value_as_often_as_they_say(memory: float, rows: int) -> None:
    errors, truth = autocorrelated(400, rows, memory), np.full(rows, 100.0)

    intervals = [metric_interval(METRICS["wape"], truth, truth + 50 + e) for e in errors]

    covered = np.mean([i.low <= 0.5 <= i.high for i in intervals])
    assert 0.92 < covered < 0.98


@pytest.mark.parametrize(("memory", "confidence"), [(0.0, 0.95), (0.5, 0.95), (0.5, 0.8)])
def test_the_mean_of_windows_covers_the_true_value_as_often_as_it_says(
    memory: float, confidence: float
) -> None:
    errors, truth = autocorrelated(400, 600, memory), np.full(600, 100.0)
    parts = (slice(0, 100), slice(100, 300), slice(300, 600))

    intervals = [
        mean_interval(
            [
                metric_interval(
                    METRICS["wape"], truth[at], truth[at] + 50 + e[at], confidence=confidence
                )
                for at in parts
            ],
            [100, 200, 300],
        )
        for e in errors
    ]

    covered = np.mean([i.low <= 0.5 <= i.high for i in intervals])
    assert abs(covered - confidence) < 0.045
    assert {i.confidence for i in intervals} == {confidence}
    means = [float(np.mean(50 + e)) / 100 for e in errors]
    assert [i.value for i in intervals] == pytest.approx(means)


def test_a_mean_of_figures_without_error_has_none() -> None:
    exact = metric_interval(METRICS["accuracy"], CODES, CODES)

    mean = mean_interval([exact, exact], [1, 3])

    assert (mean.value, mean.low, mean.high) == (1.0, 1.0, 1.0)


def test_pairing_cancels_what_is_hard_for_both() -> None:
    challenger, champion = FITTED, VALUES + (FITTED - VALUES) * 1.1

    paired = paired_difference(METRICS["mae"], VALUES, challenger, champion)
    alone = metric_interval(METRICS["mae"], VALUES, champion)

    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_the_same_predictions_differ_by_nothing() -> None:
    same = paired_difference(METRICS["roc_auc"], CODES, FITTED, FITTED)

    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_an_interval_stays_where_the_metric_can_be() -> None:
    said = CODES.copy()
    said[5] = 1 - said[5]

    interval = metric_interval(METRICS["accuracy"], CODES, said)

    assert interval.high == 1.0
    assert interval.low < interval.value < 1.0


def test_more_confidence_makes_a_wider_interval() -> None:
    narrow, wide = (
        metric_interval(METRICS["mae"], VALUES, FITTED, confidence=c) for c in (0.8, 0.999)
    )

    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


@pytest.mark.parametrize(
    ("name", "truth", "predicted"),
    [("roc_auc", np.ones(9), np.linspace(0, 1, 9)), ("r2", np.ones(9), np.arange(9.0))],
)
def test_a_metric_without_meaning_on_the_rows_is_said_to_have_none(name, truth, predicted) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} is not defined"):
        metric_interval(METRICS[name], truth, predicted)


def test_a_metric_that_hangs_on_one_stretch_has_no_interval() -> None:
    truth = np.zeros(300)
    truth[17] = 1

    with pytest.raises(InvalidInputError, match="hangs on one stretch"):
        metric_interval(METRICS["roc_auc"], truth, RNG.random(300))


def test_two_rows_have_no_interval() -> None:
    with pytest.raises(InvalidInputError, match="at least 3 are needed"):
        metric_interval(METRICS["mae"], np.ones(2), np.zeros(2))
