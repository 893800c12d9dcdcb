"""How good are the models of a comparison: each, against each other, and on each slice?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from modelyard.adapters.learning.judging import Comparison, Judged
from modelyard.adapters.learning.outcomes import Outcomes
from modelyard.domain.gate import SliceMetric, simultaneous
from modelyard.domain.intervals import metric_interval, paired_difference
from modelyard.domain.metrics import Interval, Metric
from modelyard.errors import InvalidInputError

MIN_SLICE_ROWS = 30
"""A slice with fewer holdout rows says nothing."""


class Slices(NamedTuple):
    """The slices that have enough rows, and how many have not."""

    measured: tuple[SliceMetric, ...]
    skipped: int


def measure(
    outcomes: Outcomes, truth: np.ndarray, metrics: Sequence[Metric], confidence: float
) -> dict[str, Interval]:
    """Return each metric with its interval; those undefined on these rows are left out."""
    measured = {}
    for metric in metrics:
        if metric.needs_score and outcomes.scores is None:
            continue
        try:
            measured[metric.name] = metric_interval(
                metric, truth, outcomes.for_metric(metric), confidence=confidence
            )
        except InvalidInputError:  # one class only, or a constant outcome
            continue
    return measured


def measure_gain(
    comparison: Comparison, rival: Judged, metric: Metric, confidence: float
) -> Interval:
    """Return by how much the challenger is better than another model on the same rows.

    Raises InvalidInputError where the metric is not defined on them.
    """
    return paired_difference(
        metric,
        comparison.truth,
        comparison.challenger.outcomes.for_metric(metric),
        rival.outcomes.for_metric(metric),
        confidence=confidence,
    )


def measure_gains(
    comparison: Comparison, metrics: Mapping[str, Metric], confidence: float
) -> dict[str, Interval]:
    """Return the challenger's gain over the champion in every metric that both have."""
    gains = {}
    for name, metric in metrics.items() if comparison.champion else ():
        try:
            gains[name] = measure_gain(comparison, comparison.rival, metric, confidence)
        except InvalidInputError:  # the champion gives no probabilities
            continue
    return gains


def measure_slices(
    comparison: Comparison, metric: Metric, columns: Sequence[str], confidence: float
) -> Slices:
    """Return the metric of challenger and champion on each large enough level of each column.

    The intervals of all gains hold together with the given confidence.
    """
    found = list(_levels(comparison, columns))
    enough = [level for level in found if len(level[2]) >= MIN_SLICE_ROWS]
    each = simultaneous(confidence, len(enough))
    measured = (_slice(comparison, metric, *level, each) for level in enough)
    return Slices(
        tuple(slice_ for slice_ in measured if slice_ is not None), len(found) - len(enough)
    )


def _levels(
    comparison: Comparison, columns: Sequence[str]
) -> Iterator[tuple[str, str, np.ndarray]]:
    for column in columns:
        groups = comparison.rows.groupby(column, sort=False, dropna=False).indices
        for level, rows in groups.items():
            yield column, str(level), np.asarray(rows)


def _slice(
    comparison: Comparison,
    metric: Metric,
    column: str,
    level: str,
    rows: np.ndarray,
    confidence: float,
) -> SliceMetric | None:
    """Measure one slice; None where the metric is not defined on it."""
    truth = comparison.truth[rows]
    challenger = comparison.challenger.outcomes.for_metric(metric)[rows]
    champion = gain = None
    try:
        value = metric(truth, challenger)
        if comparison.champion is not None:
            before = comparison.champion.outcomes.for_metric(metric)[rows]
            champion = metric(truth, before)
            gain = paired_difference(metric, truth, challenger, before, confidence=confidence)
    except InvalidInputError:  # one class only, or predictions that are no numbers
        return None
    if not np.isfinite([value, value if champion is None else champion]).all():
        return None
    return SliceMetric(
        column=column, level=level, rows=len(rows), challenger=value, champion=champion, gain=gain
    )
