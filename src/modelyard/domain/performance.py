"""Is the release as good on real outcomes as its gate promised?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import numpy as np
from pydantic import Field

from modelyard.domain.intervals import mean_interval, metric_interval
from modelyard.domain.metrics import Interval, Metric
from modelyard.domain.promises import promise_limit, shortfall, surely_beyond
from modelyard.domain.slices import SliceVerdict
from modelyard.domain.values import Value
from modelyard.errors import InvalidInputError

_NEARLY_ALL = 0.9
"""Share of a window's rows from which on those that are due stand for all."""

TOGETHER = 3
"""Windows that are judged together, the newest among them: a loss that is too small for one shows
in three, and of five hardly more do, later (docs/decisions/0024)."""


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
    """Share of the rows whose label is due that must have one."""
    tolerance: Annotated[float, Field(ge=0)] = 0.10
    """How much worse than promised is still as promised, as a share of the promised value: weeks
    differ. See `promises.tolerated`."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    alert_on_slices: bool = True
    """Whether a slice that is worse than promised is told where the whole is not."""


class Lasting(Value):
    """A window and those right before it that the same release served, taken together."""

    windows: int
    labels: int
    realized: Interval
    """The mean of the windows' metrics, weighted by their labels."""
    limit: float
    """Its worst value that still counts as promised."""
    degraded: bool
    """Whether all of the interval is worse than the limit, and the newest window is one of those
    that make it so."""

    def words(self, metric: str) -> str:
        """Return the figures behind it."""
        return (
            f"{self.windows} windows together: {metric} {self.realized} on {self.labels} labels, "
            f"limit {self.limit:.4g}"
        )


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
    """Labels that count: of rows whose label is due."""
    rows: int
    coverage: float
    """Share of the rows that have a label that counts, 0..1."""
    due: int | None = None
    """Rows old enough for their label to be known; None in records from before it was asked."""
    early: int = 0
    """Labels that came before they were due, and do not count."""
    lasting: Lasting | None = None
    """What this window and those before it show together; None for the first one."""
    slices: tuple[SliceVerdict, ...] = ()
    """The worst first."""
    alarm: bool = False
    """Whether a slice is worse than promised, and the policy tells of it."""
    reasons: tuple[str, ...]

    @property
    def mature(self) -> bool:
        """Whether the labels of nearly all rows are due."""
        return self.due is not None and self.due >= _NEARLY_ALL * self.rows

    @property
    def beyond(self) -> float:
        """Return how far beyond its limit the metric is, as a share of the promised value."""
        if self.outcome is not PerformanceOutcome.DEGRADED or self.realized is None:
            return 0.0
        shown = self.lasting if self.lasting and self.lasting.degraded else self
        assert shown.realized is not None
        return abs(shown.realized.value - shown.limit) / (abs(self.promised.value) or 1.0)

    @property
    def degraded_slices(self) -> tuple[SliceVerdict, ...]:
        return tuple(one for one in self.slices if one.degraded)


DUE_SHARE = 0.95
"""Share of the labels that are known at the age at which a label is due. On bookings, of which
cancelled ones are known sooner, ROC AUC is then off by 0.02; it is by 0.07 when all labels count
that are known (docs/decisions/0021)."""


def due_after(delays: np.ndarray, windows: np.ndarray | None = None) -> timedelta:
    """Return the age from which on a row's label is due, by how long labels took before.

    Windows whose labels stalled tell how long a fault took, and do not count: hardly one of theirs
    was known by the age at which nearly all of the usual window's were.

    Args:
        delays: seconds from event to label of rows whose label is known, shape (rows,).
        windows: number of the window that each row falls into, shape (rows,).
    """
    if not delays.size:
        return timedelta(0)
    numbers = np.zeros(delays.size) if windows is None else windows
    by_window = [delays[numbers == number] for number in np.unique(numbers)]
    usual = float(np.median([_nearly_all_by(took) for took in by_window]))
    counted = [took for took in by_window if np.quantile(took, 1 - DUE_SHARE) <= usual]
    return timedelta(seconds=max(0.0, _nearly_all_by(np.concatenate(counted))))


def _nearly_all_by(delays: np.ndarray) -> float:
    return float(np.quantile(delays, DUE_SHARE, method="higher"))


def judge_performance(
    metric: Metric,
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    rows: int,
    promised: Interval,
    policy: PerformancePolicy,
    due: int | None = None,
    early: int = 0,
    slices: Sequence[SliceVerdict] = (),
    before: Sequence[PerformanceVerdict] = (),
) -> PerformanceVerdict:
    """Judge the matured labels of one window by what the gate promised for the release.

    Degraded is only what is certain: the metric must be worse than promised by more than is
    tolerated, with the errors of both sides counted in (`promises.promise_limit`). An interval that
    reaches both sides of the limit is chance, or too few labels to tell. A loss that is too small
    for one window is looked for in the last three together, as long as the newest has it too.

    Labels that are known before they are due are not like the rest: a cancelled booking is known
    sooner than one that is kept. They do not count, whatever they say, until those of all rows of
    the same age have had their time.

    Args:
        truth: labels of rows whose label is due, in event-time order, shape (labels,).
        predicted: what the release answered for those rows, as the metric takes it.
        rows: all rows that the release answered in the window, labelled or not.
        due: how many of them are old enough for their label to be known; None: all.
        early: how many of the others have a label all the same.
        slices: how levels of columns compare with what was promised for them.
        before: verdicts on the windows right before this one that the same release was judged by,
            oldest first; more than are judged together may be given.
    """
    labels, due = len(truth), rows if due is None else due
    coverage = labels / rows if rows else 0.0
    left_out = (
        f"; {early} more came before they are due and are left out: what is known sooner is "
        "seldom like the rest"
        if early
        else ""
    )

    def verdict(
        outcome: PerformanceOutcome,
        realized: Interval | None,
        reason: str,
        lasting: Lasting | None = None,
    ) -> PerformanceVerdict:
        told = () if realized is None else tuple(slices)
        bad = [one for one in told if one.degraded]
        return PerformanceVerdict(
            outcome=outcome,
            metric=metric.name,
            realized=realized,
            promised=promised,
            limit=promise_limit(metric, promised, policy.tolerance, realized),
            labels=labels,
            rows=rows,
            coverage=coverage,
            due=due,
            early=early,
            lasting=lasting,
            slices=told,
            alarm=policy.alert_on_slices and bool(bad),
            reasons=(
                reason + left_out,
                *([lasting.words(metric.name)] if lasting else []),
                *_slice_words(metric.name, told),
            ),
        )

    too_few = PerformanceOutcome.TOO_FEW_LABELS
    if labels < policy.min_labels:
        return verdict(
            too_few, None, f"{labels} matured labels of {rows} rows, {policy.min_labels} are needed"
        )
    if labels < policy.min_coverage * due:
        return verdict(
            too_few,
            None,
            f"{labels / due:.0%} of the rows whose label is due have one, "
            f"{policy.min_coverage:.0%} are needed",
        )
    try:
        realized = metric_interval(metric, truth, predicted, confidence=policy.confidence)
    except InvalidInputError as undefined:
        return verdict(too_few, None, str(undefined))
    limit = promise_limit(metric, promised, policy.tolerance, realized)
    lasting = _lasting(metric, realized, labels, before, promised, policy)
    beyond = surely_beyond(metric, realized, limit) or bool(lasting and lasting.degraded)
    outcome = PerformanceOutcome.DEGRADED if beyond else PerformanceOutcome.OK
    return verdict(
        outcome,
        realized,
        f"{metric.name} {realized} on {labels} labels ({coverage:.0%} of the rows), promised "
        f"{promised}, limit {limit:.4g}",
        lasting,
    )


def _lasting(
    metric: Metric,
    realized: Interval,
    labels: int,
    before: Sequence[PerformanceVerdict],
    promised: Interval,
    policy: PerformancePolicy,
) -> Lasting | None:
    """Return what a window shows together with those before it that have a figure."""
    told = [(v.realized, v.labels) for v in before if v.realized is not None][1 - TOGETHER :]
    if not told:
        return None
    found, counts = zip(*told, (realized, labels), strict=True)
    mean = mean_interval(found, counts)
    limit = promise_limit(metric, promised, policy.tolerance, mean)
    goes_on = shortfall(metric, realized.value, promised) > policy.tolerance
    return Lasting(
        windows=len(found),
        labels=sum(counts),
        realized=mean,
        limit=limit,
        degraded=goes_on and surely_beyond(metric, mean, limit),
    )


def _slice_words(metric: str, slices: Sequence[SliceVerdict]) -> tuple[str, ...]:
    """Return the figures of the slices that are degraded, or of the worst one where none is."""
    bad = [one for one in slices if one.degraded]
    if bad:
        return tuple(f"worse than promised where {one.words(metric)}" for one in bad)
    return (f"worst slice {slices[0].words(metric)}",) if slices else ()
