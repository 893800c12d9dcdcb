"""How good is the release likely to be on rows whose labels have not come?

On the holdout it is known what a metric sums to where the model said what. A window in which the
model says otherwise more often is the holdout with its rows weighted anew: the metric's sums are
taken by groups of the model's own output, and added up by the window's counts. For classes the
output is the score, which makes this confidence-based performance estimation; for numbers it is the
predicted value, which makes it an estimation of the loss (both after NannyML's CBPE and DLE).

What it sees: rows that are harder or easier by what the model itself says of them. What it cannot
see: a world in which the same rows have other outcomes (concept drift), and rows that are harder
without the model's output showing it. It then says that all is well. It therefore stands beside
what labels show and never for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from modelyard.domain.metrics import Interval, Metric, RankArea, RowSums
from modelyard.domain.profiles import equal_mass_edges
from modelyard.domain.promises import surely_beyond
from modelyard.domain.values import Value
from modelyard.errors import InvalidInputError

GROUPS = 20
"""Groups of the output, of equal mass on the holdout. Five or a hundred estimate as well
(docs/decisions/0020)."""
_GROUP_ROWS = 10
"""Rows that a group has at least: of a small holdout there are fewer groups."""
LEAST_ROWS = 50
"""Holdout rows below which nothing is estimated."""


class Expectation(Value):
    """A metric on the holdout, taken apart by what the model said."""

    metric: str
    edges: tuple[float, ...] = ()
    """Inner edges of the groups of the output, ascending; a group begins with its edge."""
    rows: tuple[int, ...] = ()
    """Holdout rows of each group."""
    sums: tuple[tuple[float, ...], ...] = ()
    """What the metric is computed from, summed over each group's rows, shape (groups, k)."""
    missing: str | None = None
    """Why the metric cannot be estimated; None where it can."""


class Estimate(Value):
    """What a metric of one window is likely to be: estimated, not measured."""

    metric: str
    likely: Interval | None
    """Where the metric on all labels is expected, if outcomes follow outputs as on the holdout;
    None where that cannot be told."""
    rows: int
    """Rows of the window that it stands for."""
    limit: float
    """The metric's worst value that still counts as promised."""
    beyond: bool
    """Whether all of the interval is worse than the limit."""
    words: str
    alarm: bool = False
    """Whether people are told of it although no label has come."""
    error: float | None = None
    """Realized minus estimated; None while labels have not told."""
    held: bool | None = None
    """Whether what labels told lay inside the interval."""

    def confronted(self, realized: Interval | None) -> Estimate:
        """Return the estimate with its own error, once labels have told."""
        if self.likely is None or realized is None:
            return self
        error = realized.value - self.likely.value
        held = self.likely.low <= realized.value <= self.likely.high
        return self.model_copy(update={"error": error, "held": held})


class TrackRecord(Value):
    """How right the estimates were of windows whose labels came."""

    windows: int
    median_error: float
    """Median of the absolute errors."""
    held: int
    """Windows in which what labels told lay inside the interval."""


def expect(
    metric: Metric, truth: np.ndarray, predicted: np.ndarray, output: np.ndarray
) -> Expectation:
    """Take a metric on the holdout apart by the model's output.

    Args:
        truth: true outcomes, as the metric takes them, shape (rows,).
        predicted: what the model said, as the metric takes it.
        output: what windows are weighted by, float64 of shape (rows,): a predicted number, the
            score of the positive class, or of several classes the predicted one or its score.

    A metric that cannot be estimated, or too few rows, are said in the result's `missing`.
    """
    why_not = _why_not(metric, len(truth))
    if why_not is not None:
        return Expectation(metric=metric.name, missing=why_not)
    try:
        metric(truth, predicted)
    except InvalidInputError as undefined:
        return Expectation(metric=metric.name, missing=str(undefined))
    truth, predicted = metric.checked(truth, predicted)
    output = np.asarray(output, dtype=np.float64)
    edges = equal_mass_edges(output, min(GROUPS, len(output) // _GROUP_ROWS))
    if not metric.needs_score:
        edges = np.union1d(edges, _turns(predicted, output))
    edges = edges[edges > output.min()]
    groups = group_of(output, edges)
    rows = np.bincount(groups, minlength=edges.size + 1)
    taken = (
        _summed(metric.statistic.rows(truth, predicted), groups)
        if isinstance(metric.statistic, RowSums)
        else _ranks(truth, predicted, groups)
    )
    return Expectation(
        metric=metric.name,
        edges=tuple(edges.tolist()),
        rows=tuple(rows.tolist()),
        sums=tuple(map(tuple, taken.tolist())),
    )


def group_of(output: np.ndarray, edges: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the group of each output, shape (rows,)."""
    return np.searchsorted(np.asarray(edges, dtype=np.float64), output, side="right")


def count_groups(output: np.ndarray, expectation: Expectation) -> np.ndarray:
    """Return how many outputs are in each group, shape (groups,); those that are no number in none.

    Counts of batches add up.
    """
    present = output[np.isfinite(output)]
    groups = group_of(present, expectation.edges)
    return np.bincount(groups, minlength=len(expectation.edges) + 1)


def estimate(
    metric: Metric, expectation: Expectation, counts: np.ndarray, promised: Interval, limit: float
) -> Estimate:
    """Return what a metric is likely to be on a window's rows.

    The interval is the promise's, carried from the holdout's number of rows to the window's: it
    has the noise of outcomes, with neighbours that err alike, in both. What the weights explain is
    not taken off it, so that it is rather too wide.

    Args:
        counts: rows of the window in each of the expectation's groups, as `count_groups` has it.
        promised: the metric on the same holdout with its interval.
        limit: the metric's worst value that still counts as promised.
    """
    rows = int(counts.sum())
    missing = expectation.missing or (None if rows else "the release answered no row")
    value = math.nan if missing else _reweighted(metric, expectation, counts)
    if not math.isfinite(value):
        return Estimate(
            metric=metric.name,
            likely=None,
            rows=rows,
            limit=limit,
            beyond=False,
            words=f"{metric.name} is not estimated: {missing or 'not defined on these rows'}",
        )
    reach = max(promised.high - promised.value, promised.value - promised.low)
    reach *= math.sqrt(1 + sum(expectation.rows) / rows)
    likely = Interval(
        value=value,
        low=max(value - reach, metric.least),
        high=min(value + reach, metric.most),
        confidence=promised.confidence,
    )
    return Estimate(
        metric=metric.name,
        likely=likely,
        rows=rows,
        limit=limit,
        beyond=surely_beyond(metric, likely, limit),
        words=f"{metric.name} is estimated to be {likely} on {rows} rows, if outcomes follow "
        f"outputs as on the holdout; limit {limit:.4g}",
    )


def track_record(estimates: Sequence[Estimate]) -> TrackRecord | None:
    """Return how right estimates were; None where no labels have told yet."""
    told = [e for e in estimates if e.error is not None]
    if not told:
        return None
    return TrackRecord(
        windows=len(told),
        median_error=float(np.median([abs(e.error) for e in told if e.error is not None])),
        held=sum(e.held is True for e in told),
    )


def _why_not(metric: Metric, rows: int) -> str | None:
    if metric.name == "calibration_error":
        return "that scores mean what they meant on the holdout is what an estimate takes as given"
    if not isinstance(metric.statistic, RowSums | RankArea):
        return "it is no sum over rows"
    if rows < LEAST_ROWS:
        return f"the holdout has {rows} rows, {LEAST_ROWS} are needed"
    return None


def _turns(answers: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return the output from which on the answer is another, where two classes follow a score."""
    low, high = output[answers == 0], output[answers == 1]
    if not low.size or low.size + high.size < answers.size or not high.size:
        return np.empty(0)
    return np.array([high.min()]) if low.max() < high.min() else np.empty(0)


def _summed(statistics: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(groups, weights=column) for column in statistics.T], axis=1)


def _ranks(truth: np.ndarray, score: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return for each group of ascending scores its positives, and the area inside the group.

    The area is kept times the rows, so that both are sums.
    """
    found = []
    for group in range(groups.max() + 1):
        inside = groups == group
        area = RankArea().whole(truth[inside], score[inside])
        rows = int(inside.sum())
        found.append((float(truth[inside].sum()), rows * (0.5 if math.isnan(area) else area)))
    return np.array(found)


def _reweighted(metric: Metric, expectation: Expectation, counts: np.ndarray) -> float:
    rows = np.array(expectation.rows, dtype=np.float64)
    means = np.array(expectation.sums) / rows[:, None]
    if isinstance(metric.statistic, RowSums):
        sums = (counts @ means)[None]
        return float(metric.statistic.finish(sums, np.array([float(counts.sum())]))[0])
    positives = counts * means[:, 0]
    negatives = counts - positives
    below = np.cumsum(negatives) - negatives
    pairs = positives.sum() * negatives.sum()
    won = positives @ below + (positives * negatives) @ means[:, 1]
    return float(won / pairs) if pairs > 0 else math.nan
