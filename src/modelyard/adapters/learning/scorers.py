"""Which metric is meant by a name: one of ModelYard's own, or any scikit-learn scorer?

A scorer asks an estimator about rows. Here the predictions are there already, so it asks one that
answers from them: whatever scorer there is, or a user makes, it is computed as scikit-learn does.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from modelyard.adapters.learning.imports import locate
from modelyard.config import Evaluation
from modelyard.config.file import closest
from modelyard.domain.metrics import METRICS, AnyFunction, Metric
from modelyard.domain.values import MLTask
from modelyard.errors import InvalidInputError

Scorer = Callable[[Any, np.ndarray, np.ndarray], float]


def find_metrics(evaluation: Evaluation, task: MLTask) -> dict[str, Metric]:
    """Return the metrics that an evaluation names. Raises InvalidInputError like `find_metric`."""
    names = (evaluation.primary_metric, *evaluation.thresholds)
    return {name: find_metric(name, task) for name in names}


@functools.cache
def find_metric(name: str, task: MLTask) -> Metric:
    """Return a metric by its name, by that of a scikit-learn scorer, or by `module:scorer`.

    Of a scorer, more is always better: those of errors are called `neg_...`.

    Raises InvalidInputError for a name that means nothing, or nothing for this task.
    """
    if name in METRICS and task in METRICS[name].tasks:
        return METRICS[name]
    scorer = locate(name, "evaluation") if ":" in name else _by_name(name)
    asked: list[str] = []
    truth, sample = _sample(task)
    try:
        _score(scorer, task, truth, sample, asked)
    except (Exception, SystemExit) as err:  # foreign code: whatever it raises, it is of no use
        raise InvalidInputError(
            f"The scorer {name!r} cannot measure a {task}: {type(err).__name__}: {err}"
        ) from err
    return Metric(
        name=name,
        higher_is_better=True,
        needs_score="predict_proba" in asked,
        tasks=frozenset({task}),
        statistic=AnyFunction(functools.partial(_score, scorer, task)),
    )


class _Said:
    """An estimator that knows what was said about each row; rows are row numbers."""

    def __init__(self, task: MLTask, predicted: np.ndarray, asked: list[str] | None) -> None:
        self._task, self._predicted, self._asked = task, predicted, asked
        if task.is_classification:
            classes = predicted.shape[1] if predicted.ndim == 2 else 2
            if predicted.ndim == 1:
                classes = max(2, int(predicted.max(initial=0.0)) + 1)
            self.classes_ = np.arange(classes)

    def fit(self, rows: np.ndarray, truth: np.ndarray) -> _Said:
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        self._note("predict")
        said = self._predicted[rows]
        if not self._task.is_classification:
            return said
        if said.ndim == 2:
            return said.argmax(axis=1)
        if self._task is MLTask.BINARY:  # codes, or P(positive) for a scorer that asks for both
            said = said > 0.5
        return said.astype(np.int64)

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        self._note("predict_proba")
        scores = self._predicted[rows]
        return np.stack([1.0 - scores, scores], axis=1) if scores.ndim == 1 else scores

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        kind = "classifier" if self._task.is_classification else "regressor"
        return Tags(
            estimator_type=kind,
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if kind == "classifier" else None,
            regressor_tags=RegressorTags() if kind == "regressor" else None,
        )

    def _note(self, method: str) -> None:
        if self._asked is not None:
            self._asked.append(method)


def _score(
    scorer: Scorer,
    task: MLTask,
    truth: np.ndarray,
    predicted: np.ndarray,
    asked: list[str] | None = None,
) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not defined is NaN, and said where it is used
        try:
            # a copy: nobody's scorer may change the outcomes that the next metric is measured on
            said = _Said(task, predicted, asked)
            return float(scorer(said, np.arange(len(truth)), truth.copy()))
        except (Exception, SystemExit) as err:  # foreign code again
            if asked is not None:
                raise
            raise InvalidInputError(
                f"The metric cannot be computed on these {len(truth)} rows: "
                f"{type(err).__name__}: {err}"
            ) from err


def _sample(task: MLTask) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes and predictions that serve to ask what a scorer needs."""
    if task is MLTask.REGRESSION:
        return np.arange(1.0, 9.0), np.arange(1.0, 9.0) + 0.5
    if task is MLTask.BINARY:
        return np.arange(8) % 2, np.arange(8) % 2 * 1.0
    truth = np.arange(9) % 3
    return truth, np.eye(3)[truth] * 0.7 + 0.1


def _by_name(name: str) -> Scorer:
    from sklearn.metrics import get_scorer, get_scorer_names

    if name not in get_scorer_names():
        raise InvalidInputError(
            f"There is no metric {name!r}.{closest(name, [*METRICS, *get_scorer_names()])}"
        )
    return get_scorer(name)
