"""Is the release as good on real outcomes as its gate promised?"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import numpy as np
from pydantic import Field

from modelyard.domain.intervals import metric_interval
from modelyard.domain.metrics import Interval, Metric
from modelyard.domain.values import Value
from modelyard.errors import InvalidInputError


class PerformanceOutcome(StrEnum):
    """What a window's performance verdict says."""

    OK = "ok"
    DEGRADED = "degraded"
    TOO_FEW_LABELS = "too few labels"


class PerformancePolicy(Value):
    """When a release counts as worse than promised."""

    min_labels: Annotated[int, Field(ge=1)] = 100
    """Matured labels below which nothing is said."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the window's rows that must have a label; the first labels to come are seldom like
    the rest."""
    tolerance: Annotated[float, Field(ge=0)] = 0.10
    """How much worse than the bad end of the promise is still as promised, as a share of the
    promised value: weeks differ."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


class PerformanceVerdict(Value):
    """What the labels of a window say about the release that served it."""

    outcome: PerformanceOutcome
    metric: str
    realized: Interval | None
    """The metric on the window's labels; None where there are too few."""
    promised: Interval
    """The metric on the release's holdout, as the gate measured it."""
    limit: float
    """The metric's worst value that still counts as promised."""
    labels: int
    rows: int
    coverage: float
    """Share of the rows that have a label, 0..1."""
    reasons: tuple[str, ...]


def judge_performance(
    metric: Metric,
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    rows: int,
    promised: Interval,
    policy: PerformancePolicy,
) -> PerformanceVerdict:
    """Judge the matured labels of one window by what the gate promised for the release.

    Degraded is only what is certain: the good end of the window's interval must lie beyond the
    limit. An interval that reaches both sides is chance, or too few labels to tell.

    Args:
        truth: labels that have matured, in event-time order, shape (labels,).
        predicted: what the release answered for those rows, as the metric takes it.
        rows: all rows that the release answered in the window, labelled or not.
    """
    labels = len(truth)
    coverage = labels / rows if rows else 0.0
    limit = _limit(metric, promised, policy.tolerance)

    def verdict(outcome: PerformanceOutcome, realized: Interval | None, reason: str):
        return PerformanceVerdict(
            outcome=outcome,
            metric=metric.name,
            realized=realized,
            promised=promised,
            limit=limit,
            labels=labels,
            rows=rows,
            coverage=coverage,
            reasons=(reason,),
        )

    too_few = PerformanceOutcome.TOO_FEW_LABELS
    if labels < policy.min_labels:
        return verdict(
            too_few, None, f"{labels} matured labels of {rows} rows, {policy.min_labels} are needed"
        )
    if coverage < policy.min_coverage:
        return verdict(
            too_few,
            None,
            f"{coverage:.0%} of the rows have a label, {policy.min_coverage:.0%} are needed",
        )
    try:
        realized = metric_interval(metric, truth, predicted, confidence=policy.confidence)
    except InvalidInputError as undefined:
        return verdict(too_few, None, str(undefined))
    good_end = realized.high if metric.higher_is_better else realized.low
    beyond = good_end < limit if metric.higher_is_better else good_end > limit
    outcome = PerformanceOutcome.DEGRADED if beyond else PerformanceOutcome.OK
    return verdict(
        outcome,
        realized,
        f"{metric.name} {realized} on {labels} labels ({coverage:.0%} of the rows), promised "
        f"{promised}, limit {limit:.4g}",
    )


def _limit(metric: Metric, promised: Interval, tolerance: float) -> float:
    slack = tolerance * abs(promised.value)
    return promised.low - slack if metric.higher_is_better else promised.high + slack
