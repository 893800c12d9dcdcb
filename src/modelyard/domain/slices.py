"""On which kinds of rows is the release worse than promised?

A metric over all rows hides a loss on a few of them. Each level of the columns that the gate looks
at is measured by itself and compared with the same level of the holdout. The intervals of all
levels hold together, so that many of them do not add up to an alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelyard.domain.gate import simultaneous
from modelyard.domain.intervals import metric_interval
from modelyard.domain.metrics import Interval, Metric
from modelyard.domain.promises import promise_limit, shortfall, surely_beyond
from modelyard.domain.values import Value
from modelyard.errors import InvalidInputError

LEAST_ROWS = 30
"""A level with fewer rows with a label says nothing."""


class SliceFigure(Value):
    """A metric on the rows with one level of a column."""

    column: str
    level: str
    rows: int
    value: Interval

    @property
    def name(self) -> str:
        return f"{self.column} = {self.level}"


class SliceVerdict(Value):
    """A level in a window, beside the same level in the holdout."""

    name: str
    labels: int
    realized: Interval
    promised: Interval
    limit: float
    """The metric's worst value there that still counts as promised."""
    shortfall: float
    """How much worse than promised, as a share of the promised value."""
    degraded: bool
    """Whether all of the interval is worse than the limit."""

    def words(self, metric: str) -> str:
        """Return the figures behind the verdict."""
        return (
            f"{self.name}: {metric} {self.realized} on {self.labels} labels, promised "
            f"{self.promised}, limit {self.limit:.4g}"
        )


def measure_slices(
    metric: Metric,
    truth: np.ndarray,
    predicted: np.ndarray,
    columns: Mapping[str, np.ndarray],
    *,
    confidence: float,
) -> tuple[SliceFigure, ...]:
    """Return a metric on each level that has enough rows, so sure that all intervals hold at once.

    Args:
        truth: true outcomes in event-time order, shape (rows,).
        predicted: what the model said, as the metric takes it.
        columns: the level of each row by column, objects of str or None, shape (rows,); rows
            without a level are in no slice.

    Levels on which the metric is not defined are left out.
    """
    found = [
        (column, level, rows)
        for column, levels in columns.items()
        for level in sorted({str(level) for level in levels if level is not None})
        if (rows := np.flatnonzero(levels == level)).size >= LEAST_ROWS
    ]
    each = simultaneous(confidence, len(found))
    measured = []
    for column, level, rows in found:
        try:
            value = metric_interval(metric, truth[rows], predicted[rows], confidence=each)
        except InvalidInputError:  # one class only, or a constant outcome
            continue
        measured.append(SliceFigure(column=column, level=level, rows=rows.size, value=value))
    return tuple(measured)


def compare_slices(
    metric: Metric,
    realized: Sequence[SliceFigure],
    promised: Sequence[SliceFigure],
    tolerance: float,
) -> tuple[SliceVerdict, ...]:
    """Return how each level of a window compares with the holdout's, the worst first.

    A level that the holdout lacks was never promised anything, and is left out.
    """
    promises = {figure.name: figure.value for figure in promised}
    compared = []
    for figure in realized:
        promise = promises.get(figure.name)
        if promise is None:
            continue
        limit = promise_limit(metric, promise, tolerance, figure.value)
        compared.append(
            SliceVerdict(
                name=figure.name,
                labels=figure.rows,
                realized=figure.value,
                promised=promise,
                limit=limit,
                shortfall=shortfall(metric, figure.value.value, promise),
                degraded=surely_beyond(metric, figure.value, limit),
            )
        )
    return tuple(sorted(compared, key=lambda s: (not s.degraded, -s.shortfall)))
