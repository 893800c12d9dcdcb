"""How does a fitted scikit-learn pipeline predict? Imports pandas and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from modelyard.domain.values import Contract, Runtime
from modelyard.errors import ModelCodeError
from modelyard.serving.features import Features
from modelyard.serving.frames import features_frame
from modelyard.serving.predictor import Prediction, as_numbers, class_order, model_code

_LIKELIEST = frozenset(
    {
        DecisionTreeClassifier,
        ExtraTreesClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    }
)
"""Their `predict` is the likeliest class, of equals the first: one pass gives both."""


class EstimatorPredictor:
    """A fitted estimator behind its contract: the sklearn runtime."""

    runtime = Runtime.SKLEARN

    def __init__(self, estimator: Any, contract: Contract) -> None:
        """Raise BundleError when the estimator's classes are not the contract's."""
        self.contract = contract
        self._estimator = estimator
        self._class_order: list[int] = []
        if contract.task.is_classification:
            with model_code("to say which classes it knows"):
                known = estimator.classes_
            self._class_order = class_order(known, contract)
            self._names = np.array([str(label) for label in known], dtype=object)
            last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
            self._likeliest = type(last) in _LIKELIEST

    @property
    def gives_probabilities(self) -> bool:
        return self.contract.task.is_classification and hasattr(self._estimator, "predict_proba")

    def predict(self, features: Features) -> Prediction:
        """Predict rows.

        Labels come from the estimator's own `predict`, and from the largest probability only where
        that is what `predict` is known to do: a tuned decision threshold would be lost. Raises
        ModelCodeError where the estimator fails, or does not give one prediction a row.
        """
        frame, rows = features_frame(features, self.contract), len(features)
        with sklearn.config_context(skip_parameter_validation=True):  # a tenth of one row's time
            if not self.contract.task.is_classification:
                with model_code("to predict numbers"):
                    return as_numbers(self._predict(frame), rows)
            if not self.gives_probabilities:
                return Prediction([str(label) for label in self._predict(frame)], None)
            by_model = self._probabilities(frame)
            if self._likeliest:
                labels = self._names[by_model.argmax(axis=1)].tolist()
            else:
                labels = [str(label) for label in self._predict(frame)]
        return Prediction(labels, by_model[:, self._class_order])

    def _predict(self, frame: pd.DataFrame) -> np.ndarray:
        with model_code(f"to predict {len(frame):,} rows"):
            raw = np.asarray(self._estimator.predict(frame))
        if raw.size != len(frame) or np.iscomplexobj(raw):
            raise ModelCodeError(
                f"The model gave {raw.dtype} predictions of shape {raw.shape} for {len(frame):,} "
                "rows; it must give one real number, or one class, for each."
            )
        return raw.reshape(len(frame))

    def _probabilities(self, frame: pd.DataFrame) -> np.ndarray:
        """Return them in the estimator's order of classes, shape (rows, classes)."""
        with model_code(f"to give probabilities for {len(frame):,} rows"):
            said = np.asarray(self._estimator.predict_proba(frame), dtype=np.float64)
            by_model = said.reshape(len(frame), -1)
            if by_model.shape[1] != len(self._class_order):
                raise ValueError(f"{by_model.shape[1]} for {len(self._class_order)} classes")
        return by_model
