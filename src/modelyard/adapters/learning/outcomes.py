"""How do labels and predictions become the arrays that metrics take?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from modelyard.domain.metrics import Metric, as_codes
from modelyard.domain.values import Contract
from modelyard.serving.predictor import Prediction


@dataclass(frozen=True)
class Outcomes:
    """What a model said about n rows, as numbers."""

    values: np.ndarray
    """Predicted numbers, or class codes; shape (n,)."""
    scores: np.ndarray | None
    """P(positive), shape (n,), or class probabilities, shape (n, classes)."""

    @property
    def silent(self) -> int:
        """How many rows have no finite figure."""
        both = self.values if self.scores is None else np.column_stack((self.values, self.scores))
        return int((~np.isfinite(both.reshape(len(self.values), -1)).all(axis=1)).sum())

    def for_metric(self, metric: Metric) -> np.ndarray:
        """Return what this metric takes; NaN where the model gives no scores."""
        if not metric.needs_score:
            return self.values
        return np.full(len(self.values), np.nan) if self.scores is None else self.scores


def as_labels(labels: pd.Series, contract: Contract) -> np.ndarray:
    """Return labels as a model is fitted on them: float64, or class names as str; shape (n,)."""
    if contract.task.is_classification:
        return np.array([class_name(label) for label in labels], dtype=object)
    return labels.to_numpy(dtype=np.float64)


def as_truth(labels: pd.Series, contract: Contract) -> np.ndarray:
    """Return labels as metrics take them: numbers, or class codes; shape (n,).

    Raises InvalidInputError for a label that is none of the contract's classes.
    """
    fitted = as_labels(labels, contract)
    if contract.task.is_classification:
        return as_codes(fitted, contract.classes, contract.positive)
    return fitted


def as_outcomes(prediction: Prediction, contract: Contract) -> Outcomes:
    """Return a prediction as metrics take it."""
    if not contract.task.is_classification:
        numbers = [np.nan if value is None else value for value in prediction.predictions]
        return Outcomes(np.array(numbers, dtype=np.float64), None)
    codes = as_codes(np.array(prediction.predictions), contract.classes, contract.positive)
    if prediction.probabilities is None:
        return Outcomes(codes, None)
    scores = prediction.probabilities
    if contract.positive is not None:
        scores = scores[:, contract.classes.index(contract.positive)]
    return Outcomes(codes, scores)


def class_name(label: object) -> str:
    """Return a class as text: 1, 1.0 and "1" are one class, however a file was read."""
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        return str(int(label))
    return str(label)
