"""How sure is a metric, and the difference between two models on the same rows?

Rows next to each other in time err alike, so they say less than their number: drawing single rows
promises too narrow an interval, and so does a bootstrap of short blocks. Here the rows are cut into
stretches of neighbours and the metric is computed without each (the jackknife: Tukey 1958; of
groups of rows: Shao and Wu 1989), which turns any metric into a series of stretch influences with
the metric's own variance. The variance of their mean is then estimated from the slowest cosine
waves of that series, which see what is alike over long stretches, and a Student quantile with as
many degrees of freedom as there are waves pays for their small number (Lazarus, Lewis, Stock and
Watson 2018, "HAR inference: recommendations for practice", the EWC estimator; for so few waves
Mueller 2014, "HAC corrections for strongly autocorrelated time series").

It is measured beside block bootstraps in docs/benchmarks.md. It draws nothing: the same rows give
the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from modelyard.domain.metrics import Interval, Metric
from modelyard.errors import InvalidInputError

_STRETCHES = 100
_WAVES = 10
"""Fewer see slower changes and make wider intervals: 10 cost a tenth more width than knowing the
variance, and hold their level up to errors that forget by half over a thirtieth of the rows."""
LEAST_ROWS = 3


def metric_interval(
    metric: Metric, truth: np.ndarray, predicted: np.ndarray, *, confidence: float = 0.95
) -> Interval:
    """Return a metric over rows in event-time order and the interval it lies in.

    Raises InvalidInputError where the metric is not defined on these rows, or not without some.
    """
    value = metric(truth, predicted)
    without = metric.without(truth, predicted, _stretches(metric, len(truth)))
    interval = _interval(metric, value, without, confidence)
    return interval.model_copy(
        update={"low": max(interval.low, metric.least), "high": min(interval.high, metric.most)}
    )


def paired_difference(
    metric: Metric,
    truth: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    *,
    confidence: float = 0.95,
) -> Interval:
    """Return by how much the challenger is better than the champion on the same rows.

    Positive is better, whatever the metric's direction. Both are measured without the same
    stretches, so what makes rows hard for both cancels.

    Raises InvalidInputError where the metric is not defined on these rows, or not without some.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    starts = _stretches(metric, len(truth))
    value = metric(truth, challenger) - metric(truth, champion)
    without = metric.without(truth, challenger, starts) - metric.without(truth, champion, starts)
    gain = sign * value + 0.0  # no gain has no sign: it is 0 and not -0
    return _interval(metric, gain, sign * without, confidence)


def mean_interval(intervals: Sequence[Interval], weights: Sequence[float]) -> Interval:
    """Return the weighted mean of metrics of rows that have no row in common, and its interval.

    Distances to the ends add up as the sides of a right triangle (MOVER; Zou and Donner 2008,
    "Construction of confidence limits about effect measures"). Together they stand on more waves
    than each by itself, by which Student's quantile shrinks (Welch 1947, Satterthwaite 1946).

    Args:
        intervals: as `metric_interval` has them, of one confidence.
        weights: of each, above 0.
    """
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    value, low, high = np.array([(i.value, i.low, i.high) for i in intervals]).T
    below, above = shares * (value - low), shares * (high - value)
    variances = np.maximum(below, above) ** 2  # an end may be cut where no metric can be
    waves = _WAVES
    if variances.any():
        waves *= float(variances.sum() ** 2 / (variances**2).sum())
    confidence = intervals[0].confidence
    each, all_ = stdtrit(np.array([_WAVES, waves]), (1 + confidence) / 2)
    mean, shrunk = float(shares @ value), float(all_ / each)
    return Interval(
        value=mean,
        low=mean - shrunk * float(np.linalg.norm(below)),
        high=mean + shrunk * float(np.linalg.norm(above)),
        confidence=confidence,
    )


def _stretches(metric: Metric, rows: int) -> np.ndarray:
    """Return the first row of each of up to 100 stretches, as equal in length as can be."""
    if rows < LEAST_ROWS:
        raise InvalidInputError(
            f"{metric.name} of {rows} rows has no interval: at least {LEAST_ROWS} are needed."
        )
    return np.arange(min(rows, _STRETCHES)) * rows // min(rows, _STRETCHES)


def _interval(metric: Metric, value: float, without: np.ndarray, confidence: float) -> Interval:
    if not np.isfinite(value):
        raise InvalidInputError(
            f"{metric.name} is not defined on these rows: the truth does not vary, has one "
            "class only, or the figure is not finite. Take more rows, or another metric."
        )
    if not np.isfinite(without).all():
        raise InvalidInputError(
            f"{metric.name} hangs on one stretch of rows: without it, it is not defined. Take more "
            "rows, or another metric."
        )
    stretches = len(without)
    influence = (stretches - 1) * (without.mean() - without)
    waves = min(_WAVES, (stretches - 1) // 2 * 2)
    angles = np.pi * np.arange(1, waves + 1)[:, None] * (np.arange(stretches) + 0.5) / stretches
    loads = np.sqrt(2 / stretches) * (np.cos(angles) @ influence)
    error = float(np.sqrt(np.mean(loads**2) / stretches))
    reach = float(stdtrit(waves, (1 + confidence) / 2)) * error
    return Interval(
        value=float(value),
        low=float(value) - reach,
        high=float(value) + reach,
        confidence=confidence,
    )
