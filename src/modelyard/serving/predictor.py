"""What does the model say about these rows, whatever protocol they came in by?

One core for training-time golden rows, the command and the server, so that all of them read a row
the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as dtypes

from modelyard.domain.values import Column, ColumnKind, Contract
from modelyard.errors import BundleError, RequestError


def prepare_features(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return the contract's feature columns, in its order and with its types.

    Numeric columns become float64 with NaN for a missing value; booleans count as 0 and 1.
    Categorical columns become str objects with None for a missing value; numbers are written
    without a needless fraction (5.0 is "5"), so that a column read as int, float or text agrees.
    Other columns are left out; an optional column that is absent is all missing. Text in a numeric
    column is refused even when it looks like a number: nobody could tell which spelling was meant.

    Raises RequestError that names the column, the row (from 0) and what is expected.
    """
    if not len(frame):
        raise RequestError("There are no rows to predict: send at least one.")
    if repeated := [str(name) for name in frame.columns[frame.columns.duplicated()]]:
        raise RequestError(f"Column {repeated[0]!r} is there more than once.", repeated[0])
    missing = [c.name for c in contract.columns if c.required and c.name not in frame.columns]
    if missing:
        raise RequestError(
            f"Missing column {', '.join(map(repr, missing))}. Expected are: "
            f"{', '.join(contract.names())}.",
            missing[0],
        )
    return pd.DataFrame(
        {column.name: _coerce(column, frame) for column in contract.columns}, index=frame.index
    )


@dataclass(frozen=True)
class Prediction:
    """What the model said about n rows."""

    predictions: list[float | None] | list[str]
    """n outcomes: numbers (None where the model gave no finite one), or class labels."""
    probabilities: list[list[float]] | None
    """n rows, one number a class in the contract's order; None where the model gives none."""


class Predictor:
    """A fitted estimator behind its contract."""

    def __init__(self, estimator: Any, contract: Contract) -> None:
        """Raise BundleError when the estimator's classes are not the contract's."""
        self.contract = contract
        self._estimator = estimator
        self._class_order: list[int] = []
        if contract.task.is_classification:
            known = [str(label) for label in estimator.classes_]
            if sorted(known) != sorted(contract.classes):
                raise BundleError(
                    f"The model knows the classes {', '.join(known)}, its contract says "
                    f"{', '.join(contract.classes)}. Train it again with this contract."
                )
            self._class_order = [known.index(label) for label in contract.classes]

    @property
    def gives_probabilities(self) -> bool:
        return self.contract.task.is_classification and hasattr(self._estimator, "predict_proba")

    def predict(self, features: pd.DataFrame) -> Prediction:
        """Predict rows that `prepare_features` returned.

        Labels come from the estimator's own `predict`, never from the largest probability: a
        tuned decision threshold would be lost.
        """
        raw = np.asarray(self._estimator.predict(features))
        if not self.contract.task.is_classification:
            numbers = raw.reshape(len(features)).astype(np.float64).tolist()
            return Prediction([v if math.isfinite(v) else None for v in numbers], None)
        probabilities = None
        if self.gives_probabilities:
            by_model = np.asarray(self._estimator.predict_proba(features), dtype=np.float64)
            probabilities = by_model[:, self._class_order].tolist()
        return Prediction([str(label) for label in raw], probabilities)

    def predict_frame(self, frame: pd.DataFrame) -> Prediction:
        """Prepare and predict; raises RequestError like `prepare_features`."""
        return self.predict(prepare_features(frame, self.contract))


def _coerce(column: Column, frame: pd.DataFrame) -> np.ndarray:
    """Return one column as n values of the contract's type."""
    if column.name not in frame.columns:
        empty = np.nan if column.kind is ColumnKind.NUMERIC else None
        return np.full(len(frame), empty, dtype=object if empty is None else np.float64)
    values = frame[column.name]
    if column.kind is ColumnKind.CATEGORICAL:
        texts = np.empty(len(values), dtype=object)
        texts[:] = [_category(column.name, row, value) for row, value in enumerate(values)]
        return texts
    if dtypes.is_numeric_dtype(values.dtype) and not dtypes.is_complex_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        numbers = np.array([_number(column.name, row, v) for row, v in enumerate(values)])
    if infinite := np.flatnonzero(np.isinf(numbers)).tolist():
        raise _refusal(column.name, infinite[0], "a finite number or null", numbers[infinite[0]])
    return numbers


def _number(name: str, row: int, value: Any) -> float:
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        try:
            return float(value)
        except OverflowError:
            pass
    elif _is_missing(value):
        return np.nan
    raise _refusal(name, row, "a number or null", value)


def _category(name: str, row: int, value: Any) -> str | None:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(value)
    if _is_missing(value):
        return None
    if isinstance(value, (float, np.floating)) and math.isfinite(value):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    raise _refusal(name, row, "text or null", value)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value


def _refusal(name: str, row: int, expected: str, value: Any) -> RequestError:
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return RequestError(f"Column {name!r}, row {row}: expected {expected}, got {shown}.", name)
