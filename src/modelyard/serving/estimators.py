"""How does a fitted scikit-learn pipeline predict? Imports pandas and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn

from modelyard.domain.values import Contract, Runtime
from modelyard.serving.features import Features
from modelyard.serving.frames import features_frame
from modelyard.serving.predictor import Prediction, as_numbers, class_order


class EstimatorPredictor:
    """A fitted estimator behind its contract: the sklearn runtime."""

    runtime = Runtime.SKLEARN

    def __init__(self, estimator: Any, contract: Contract) -> None:
        """Raise BundleError when the estimator's classes are not the contract's."""
        self.contract = contract
        self._estimator = estimator
        self._class_order: list[int] = []
        if contract.task.is_classification:
            self._class_order = class_order(estimator.classes_, contract)

    @property
    def gives_probabilities(self) -> bool:
        return self.contract.task.is_classification and hasattr(self._estimator, "predict_proba")

    def predict(self, features: Features) -> Prediction:
        """Predict rows.

        Labels come from the estimator's own `predict`, never from the largest probability: a
        tuned decision threshold would be lost.
        """
        frame = features_frame(features, self.contract)
        with sklearn.config_context(skip_parameter_validation=True):  # a tenth of one row's time
            raw = np.asarray(self._estimator.predict(frame))
            if not self.contract.task.is_classification:
                return as_numbers(raw, len(features))
            probabilities = None
            if self.gives_probabilities:
                by_model = np.asarray(self._estimator.predict_proba(frame), dtype=np.float64)
                probabilities = by_model[:, self._class_order].tolist()
        return Prediction([str(label) for label in raw], probabilities)
