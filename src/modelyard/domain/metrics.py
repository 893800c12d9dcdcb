"""How good are predictions?

A metric can also be had without each of many stretches of rows, which is what intervals are made of
(`modelyard.domain.intervals`): most are functions of sums over rows, so that leaving a stretch out
costs a subtraction and not another pass.

Truth and predictions are arrays over the same rows in event-time order. Regression takes values.
Classification takes class codes (`as_codes`): 1 and 0 for positive and negative, or the index in
the contract's classes; metrics that need a score take P(positive), shape (rows,), or
probabilities in the order of the contract's classes, shape (rows, classes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from modelyard.domain.values import MLTask, Value
from modelyard.errors import InvalidInputError

_CLASSIFIERS = frozenset({MLTask.BINARY, MLTask.MULTICLASS})
_REGRESSION = frozenset({MLTask.REGRESSION})
_BINARY = frozenset({MLTask.BINARY})
_PROBABILITY_FLOOR = float(np.finfo(np.float64).eps)
_CALIBRATION_BINS = 15


class Interval(Value):
    """A figure and the range in which it lies with the given confidence."""

    value: float
    low: float
    high: float
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


class Statistic(Protocol):
    """How a metric is computed."""

    def whole(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        """Return it over all rows; NaN where it is not defined on them."""
        ...

    def without(self, truth: np.ndarray, predicted: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return it over all rows but those of one stretch, for each stretch.

        Args:
            starts: first row of each stretch, ascending from 0, shape (stretches,); a stretch ends
                where the next one starts.
        """
        ...


@dataclass(frozen=True)
class RowSums:
    """A function of sums over rows."""

    rows: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Truth and prediction to what is summed over rows, shape (rows, k)."""
    finish: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Sums, shape (samples, k), and rows in each sample to the metric, shape (samples,)."""

    def whole(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        sums = self.rows(truth, predicted).sum(axis=0)
        return float(self.finish(sums[None], np.array([float(len(truth))]))[0])

    def without(self, truth: np.ndarray, predicted: np.ndarray, starts: np.ndarray) -> np.ndarray:
        statistics = self.rows(truth, predicted)
        left = statistics.sum(axis=0) - np.add.reduceat(statistics, starts, axis=0)
        return self.finish(left, len(truth) - _lengths(starts, len(truth)))


@dataclass(frozen=True)
class RankArea:
    """The area under the ROC curve: the share of pairs of unlike rows in right order, ties half."""

    def whole(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        positive = truth == 1
        pairs = positive.sum() * (~positive).sum()
        return float(_pairs_in_order(positive, predicted).sum() / 2 / pairs) if pairs else np.nan

    def without(self, truth: np.ndarray, predicted: np.ndarray, starts: np.ndarray) -> np.ndarray:
        # A pair is lost with either of its rows; one that lies in the stretch is lost only once.
        positive = truth == 1
        won = _pairs_in_order(positive, predicted)
        inside = [
            _pairs_in_order(positive[start : start + length], predicted[start : start + length])
            for start, length in zip(starts, _lengths(starts, len(truth)), strict=True)
        ]
        lost = np.add.reduceat(won, starts) - np.array([pairs.sum() / 2 for pairs in inside])
        positives = positive.sum() - np.add.reduceat(positive.astype(np.int64), starts)
        negatives = (~positive).sum() - np.add.reduceat((~positive).astype(np.int64), starts)
        return _ratio(won.sum() / 2 - lost, positives * negatives)


@dataclass(frozen=True)
class AnyFunction:
    """A function of truth and prediction that is computed anew without each stretch."""

    function: Callable[[np.ndarray, np.ndarray], float]

    def whole(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        return float(self.function(truth, predicted))

    def without(self, truth: np.ndarray, predicted: np.ndarray, starts: np.ndarray) -> np.ndarray:
        kept = np.ones(len(truth), dtype=bool)
        found = []
        for start, length in zip(starts, _lengths(starts, len(truth)), strict=True):
            kept[start : start + length] = False
            found.append(self.whole(truth[kept], predicted[kept]))
            kept[start : start + length] = True
        return np.array(found)


@dataclass(frozen=True)
class Metric:
    """A figure of merit that gates and monitors use by name."""

    name: str
    higher_is_better: bool
    needs_score: bool
    """Whether it takes probabilities instead of values or class codes."""
    tasks: frozenset[MLTask]
    statistic: Statistic
    least: float = -math.inf
    most: float = math.inf
    """Values beyond which no model can be."""

    def __call__(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        """Return the metric over all rows; NaN where it is not defined on them.

        Raises InvalidInputError for predictions that are no finite numbers, or too few.
        """
        return self.statistic.whole(*self.checked(truth, predicted))

    def without(self, truth: np.ndarray, predicted: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the metric without each stretch of rows; see `Statistic.without`."""
        return self.statistic.without(*self.checked(truth, predicted), starts)

    def checked(self, truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both as arrays. Raises InvalidInputError like `__call__`."""
        truth, predicted = np.asarray(truth), np.asarray(predicted).astype(np.float64)
        if truth.ndim != 1 or len(truth) != len(predicted) or not len(truth):
            raise InvalidInputError(
                f"{self.name} needs as many predictions as true outcomes and at least one, got "
                f"{truth.shape} and {predicted.shape}."
            )
        if bad := int(np.sum(~np.isfinite(predicted))):
            raise InvalidInputError(
                f"{self.name} cannot be measured: {bad} predictions are missing or infinite."
            )
        return truth, predicted


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


def _lengths(starts: np.ndarray, rows: int) -> np.ndarray:
    return np.diff(starts, append=rows)


def _pairs_in_order(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return for each row how many rows of the other kind it is in right order with, ties half."""
    high, low = np.sort(score[positive]), np.sort(score[~positive])
    below = np.searchsorted(low, score, "left") + np.searchsorted(low, score, "right")
    above = np.searchsorted(high, score, "left") + np.searchsorted(high, score, "right")
    return np.where(positive, below / 2, len(high) - above / 2)


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


def _gaps_by_bin(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return score minus outcome in the score's bin, shape (rows, bins); of the top class."""
    if predicted.ndim == 1:
        score, came_true = predicted, truth == 1
    else:
        score, came_true = predicted.max(axis=1), predicted.argmax(axis=1) == truth
    bins = np.clip((score * _CALIBRATION_BINS).astype(np.int64), 0, _CALIBRATION_BINS - 1)
    gaps = np.zeros((len(truth), _CALIBRATION_BINS))
    gaps[np.arange(len(truth)), bins] = score - came_true
    return gaps


def _mean_gap(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.abs(sums).sum(axis=1) / rows


def _sums(
    name: str,
    tasks: frozenset[MLTask],
    rows: Callable[[np.ndarray, np.ndarray], np.ndarray],
    finish: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    higher_is_better: bool = False,
    needs_score: bool = False,
    least: float = 0.0,
    most: float = math.inf,
) -> Metric:
    return Metric(name, higher_is_better, needs_score, tasks, RowSums(rows, finish), least, most)


_METRICS = (
    _sums("mae", _REGRESSION, _absolute_errors, _mean),
    _sums("rmse", _REGRESSION, _squared_errors, _root_mean),
    _sums(
        "r2",
        _REGRESSION,
        _errors_and_spread,
        _explained,
        higher_is_better=True,
        least=-math.inf,
        most=1.0,
    ),
    # Absolute error as a share of the outcomes' size. The mean percentage error (MAPE) is not
    # offered: one outcome near zero makes it explode.
    _sums("wape", _REGRESSION, _errors_and_size, _share_of_total),
    _sums("accuracy", _CLASSIFIERS, _hits, _mean, higher_is_better=True, most=1.0),
    _sums(
        "balanced_accuracy", _CLASSIFIERS, _confusion, _mean_recall, higher_is_better=True, most=1.0
    ),
    _sums("f1", _BINARY, _binary_confusion, _mean_f1, higher_is_better=True, most=1.0),
    _sums("f1_macro", _CLASSIFIERS, _confusion, _mean_f1, higher_is_better=True, most=1.0),
    Metric("roc_auc", True, True, _BINARY, RankArea(), 0.0, 1.0),
    _sums("log_loss", _CLASSIFIERS, _log_losses, _mean, needs_score=True),
    _sums("brier", _BINARY, _squared_errors, _mean, needs_score=True, most=1.0),
    # By how much scores and what came true differ on average, in 15 bins of the score: the
    # expected calibration error (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017).
    _sums("calibration_error", _CLASSIFIERS, _gaps_by_bin, _mean_gap, needs_score=True, most=1.0),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _METRICS}
"""Every metric by name."""
