"""How good are predictions, and how sure is that?

Each metric is a function of sums over rows, so that a thousand resamples cost sums of blocks and
not a thousand passes; only the area under the ROC curve needs the ranks.

Truth and predictions are arrays over the same rows in event-time order. Regression takes values.
Classification takes class codes (`as_codes`): 1 and 0 for positive and negative, or the index in
the contract's classes; metrics that need a score take P(positive), shape (rows,), or
probabilities in the order of the contract's classes, shape (rows, classes).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from modelyard.domain.values import MLTask, Value
from modelyard.errors import InvalidInputError

RowStatistics = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Truth and prediction to what is summed over rows, shape (rows, k)."""
Finish = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Sums, shape (samples, k), and rows in each sample to the metric, shape (samples,)."""

_CLASSIFIERS = frozenset({MLTask.BINARY, MLTask.MULTICLASS})
_REGRESSION = frozenset({MLTask.REGRESSION})
_BINARY = frozenset({MLTask.BINARY})
_PROBABILITY_FLOOR = float(np.finfo(np.float64).eps)
_MAX_CELLS = 4_000_000  # rows times resamples held at once: 32 MB


class Interval(Value):
    """A figure and the range in which it lies with the given confidence."""

    value: float
    low: float
    high: float
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Metric:
    """A figure of merit that gates and monitors use by name."""

    name: str
    higher_is_better: bool
    needs_score: bool
    """Whether it takes probabilities instead of values or class codes."""
    tasks: frozenset[MLTask]
    row_statistics: RowStatistics | None = None
    finish: Finish | None = None

    def __call__(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        """Return the metric over all rows; NaN where it is not defined on them."""
        truth, predicted = _checked(self, truth, predicted)
        return float(_Resampler(self, truth, predicted).whole()[0])


def get_metric(name: str) -> Metric:
    """Return a metric by name. Raises InvalidInputError with the nearest spelling."""
    if name in METRICS:
        return METRICS[name]
    near = difflib.get_close_matches(name, METRICS, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(sorted(METRICS))}."
    raise InvalidInputError(f"There is no metric {name!r}. {hint}")


def metrics_for(task: MLTask) -> tuple[Metric, ...]:
    """Return the metrics that apply to a task."""
    return tuple(metric for metric in METRICS.values() if task in metric.tasks)


def as_codes(labels: np.ndarray, classes: Sequence[str], positive: str | None = None) -> np.ndarray:
    """Return class codes: 1 where a label is `positive` and else 0, or its index in `classes`.

    Raises InvalidInputError for a label that is none of the classes.
    """
    index = {label: code for code, label in enumerate(classes)}
    text = [str(label) for label in labels]
    unknown = sorted(set(text) - index.keys())
    if unknown:
        raise InvalidInputError(
            f"Labels {', '.join(map(repr, unknown[:3]))} are none of the model's classes "
            f"{', '.join(map(repr, classes))}. Mend the labels, or deliver a model that knows them."
        )
    codes = np.array([index[label] for label in text], dtype=np.int64)
    return codes if positive is None else (codes == index[positive]).astype(np.int64)


def metric_interval(
    metric: Metric,
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 1_000,
    block_length: int | None = None,
) -> Interval:
    """Return a metric and its percentile interval under the moving block bootstrap.

    Rows next to each other in time err alike; drawing blocks of neighbours keeps that, where
    drawing single rows would promise too narrow an interval (Künsch 1989, "The jackknife and the
    bootstrap for general stationary observations"). Blocks wrap around the end, so every row is
    drawn equally often (Politis and Romano 1992).

    Args:
        block_length: rows in a block; by default the cube root of the rows, the order that is
            optimal for a variance (Hall, Horowitz and Jing 1995).

    Raises InvalidInputError where the metric is not defined on these rows.
    """
    truth, predicted = _checked(metric, truth, predicted)
    resampler = _Resampler(metric, truth, predicted)
    draws = _draw_blocks(len(truth), resamples, block_length, np.random.default_rng(seed))
    return _percentile_interval(metric, resampler.whole()[0], resampler.draw(*draws), confidence)


def paired_difference(
    metric: Metric,
    truth: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 1_000,
    block_length: int | None = None,
) -> Interval:
    """Return by how much the challenger is better than the champion on the same rows.

    Positive is better, whatever the metric's direction. Both are resampled on the same blocks, so
    what makes rows hard for both cancels. See `metric_interval` for the method.

    Raises InvalidInputError where the metric is not defined on these rows.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    rng = np.random.default_rng(seed)
    draws = _draw_blocks(len(truth), resamples, block_length, rng)
    new = _Resampler(metric, *_checked(metric, truth, challenger))
    old = _Resampler(metric, *_checked(metric, truth, champion))
    return _percentile_interval(
        metric,
        sign * (new.whole()[0] - old.whole()[0]),
        sign * (new.draw(*draws) - old.draw(*draws)),
        confidence,
    )


class _Resampler:
    """One metric on resamples made of blocks of rows."""

    def __init__(self, metric: Metric, truth: np.ndarray, predicted: np.ndarray) -> None:
        self._rows = len(truth)
        self._finish = metric.finish
        if metric.row_statistics is None:  # by ranks
            self._order = np.argsort(predicted, kind="stable")
            self._positive = (truth[self._order] == 1).astype(np.float64)
            self._tie_starts = np.flatnonzero(np.diff(predicted[self._order], prepend=-np.inf))
        else:
            self._statistics = metric.row_statistics(truth, predicted)

    def whole(self) -> np.ndarray:
        if self._finish is None:
            return self._areas(np.ones((1, self._rows)))
        return self._finish(self._statistics.sum(axis=0)[None], np.array([float(self._rows)]))

    def draw(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the metric on each resample.

        Args:
            starts: first row of each block, shape (resamples, blocks); blocks wrap around.
            lengths: rows in each block, shape (blocks,), adding up to all rows.
        """
        if self._finish is None:
            return self._draw_areas(starts, lengths)
        wrapped = np.concatenate([self._statistics, self._statistics[: lengths.max()]])
        before = np.concatenate([np.zeros((1, wrapped.shape[1])), np.cumsum(wrapped, axis=0)])
        sums = np.stack(
            [(column[starts + lengths] - column[starts]).sum(axis=1) for column in before.T],
            axis=1,
        )
        return self._finish(sums, np.full(len(starts), float(self._rows)))

    def _draw_areas(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        offsets = np.concatenate([np.arange(length) for length in lengths])
        portion = max(_MAX_CELLS // self._rows, 1)
        areas = []
        for some in np.array_split(starts, max(1, -(-len(starts) // portion))):
            rows = (np.repeat(some, lengths, axis=1) + offsets) % self._rows
            rows += np.arange(len(some))[:, None] * self._rows
            weights = np.bincount(rows.ravel(), minlength=len(some) * self._rows)
            areas.append(self._areas(weights.reshape(len(some), -1)[:, self._order].astype(float)))
        return np.concatenate(areas)

    def _areas(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the ROC curve (ties count half), by sorted weighted rows."""
        positive = np.add.reduceat(weights * self._positive, self._tie_starts, axis=1)
        negative = np.add.reduceat(weights * (1.0 - self._positive), self._tie_starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return _ratio(((below + 0.5 * negative) * positive).sum(axis=1), pairs)


def _draw_blocks(
    rows: int, resamples: int, block_length: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return starts, shape (resamples, blocks), and lengths, shape (blocks,), of random blocks."""
    length = min(max(block_length or round(rows ** (1 / 3)), 1), rows)
    blocks = -(-rows // length)
    lengths = np.full(blocks, length)
    lengths[-1] = rows - length * (blocks - 1)
    return rng.integers(0, rows, size=(resamples, blocks)), lengths


def _percentile_interval(
    metric: Metric, value: float, draws: np.ndarray, confidence: float
) -> Interval:
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not draws.size:
        raise InvalidInputError(
            f"{metric.name} is not defined on these rows: the truth does not vary, or has one "
            "class only. Take more rows, or another metric."
        )
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=float(value), low=float(low), high=float(high), confidence=confidence)


def _checked(
    metric: Metric, truth: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.ndim != 1 or len(truth) != len(predicted) or not len(truth):
        raise InvalidInputError(
            f"{metric.name} needs as many predictions as true outcomes and at least one, got "
            f"{truth.shape} and {predicted.shape}."
        )
    if not np.isfinite(predicted.astype(np.float64)).all():
        bad = int(np.sum(~np.isfinite(predicted.astype(np.float64))))
        raise InvalidInputError(
            f"{metric.name} cannot be measured: {bad} predictions are missing or infinite."
        )
    return truth, predicted.astype(np.float64)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float = np.nan) -> np.ndarray:
    filled = np.full(np.broadcast(numerator, denominator).shape, empty)
    return np.divide(numerator, denominator, out=filled, where=denominator > 0)


def _mean(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return sums[:, 0] / rows


def _root_mean(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.sqrt(sums[:, 0] / rows)


def _share_of_total(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return _ratio(sums[:, 0], sums[:, 1])


def _absolute_errors(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.abs(truth - predicted)[:, None]


def _squared_errors(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return ((truth - predicted) ** 2)[:, None]


def _errors_and_spread(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    centred = truth - truth.mean()  # sums of squares of large values cancel otherwise
    return np.stack([(truth - predicted) ** 2, centred, centred**2], axis=1)


def _explained(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    spread = sums[:, 2] - sums[:, 1] ** 2 / rows
    return 1.0 - _ratio(sums[:, 0], np.where(spread > 1e-12 * sums[:, 2], spread, 0.0))


def _errors_and_size(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.stack([np.abs(truth - predicted), np.abs(truth)], axis=1)


def _hits(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return (truth == predicted).astype(np.float64)[:, None]


def _confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return for each class of either: hits, rows of the class, rows predicted as it."""
    classes = np.union1d(truth, predicted)
    true, said = truth[:, None] == classes, predicted[:, None] == classes
    return np.concatenate([true & said, true, said], axis=1).astype(np.float64)


def _binary_confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    true, said = truth == 1, predicted == 1
    return np.stack([true & said, true, said], axis=1).astype(np.float64)


def _mean_recall(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    hits, true, _ = np.split(sums, 3, axis=1)
    recalls = _ratio(hits, true, empty=0.0)
    return _ratio(recalls.sum(axis=1), (true > 0).sum(axis=1))  # classes absent do not count


def _mean_f1(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    hits, true, said = np.split(sums, 3, axis=1)
    present = true + said > 0
    scores = _ratio(2 * hits, true + said, empty=0.0)
    return _ratio(scores.sum(axis=1), present.sum(axis=1), empty=0.0)


def _log_losses(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    if predicted.ndim == 1:
        of_truth = np.where(truth == 1, predicted, 1.0 - predicted)
    else:
        of_truth = predicted[np.arange(len(truth)), truth.astype(np.int64)]
    return -np.log(np.clip(of_truth, _PROBABILITY_FLOOR, 1.0))[:, None]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("mae", False, False, _REGRESSION, _absolute_errors, _mean),
        Metric("rmse", False, False, _REGRESSION, _squared_errors, _root_mean),
        Metric("r2", True, False, _REGRESSION, _errors_and_spread, _explained),
        # Absolute error as a share of the outcomes' size. The mean percentage error (MAPE) is not
        # offered: one outcome near zero makes it explode.
        Metric("wape", False, False, _REGRESSION, _errors_and_size, _share_of_total),
        Metric("accuracy", True, False, _CLASSIFIERS, _hits, _mean),
        Metric("balanced_accuracy", True, False, _CLASSIFIERS, _confusion, _mean_recall),
        Metric("f1", True, False, _BINARY, _binary_confusion, _mean_f1),
        Metric("f1_macro", True, False, _CLASSIFIERS, _confusion, _mean_f1),
        Metric("roc_auc", True, True, _BINARY),
        Metric("log_loss", False, True, _CLASSIFIERS, _log_losses, _mean),
        Metric("brier", False, True, _BINARY, _squared_errors, _mean),
    )
}
"""Every metric by name; `get_metric` finds one and explains when there is none."""
