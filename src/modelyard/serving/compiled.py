"""How does a model that was compiled to ONNX predict? Imports neither pandas nor scikit-learn."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from modelyard.domain.values import Contract, Runtime
from modelyard.errors import BundleError
from modelyard.serving.features import Features
from modelyard.serving.predictor import Prediction, as_numbers, class_order

NUMERIC_INPUT = "modelyard_numeric"
"""double, shape (n, numeric columns)."""
CATEGORICAL_INPUT = "modelyard_categorical"
"""string, shape (n, categorical columns)."""
PREDICTION_OUTPUT = "modelyard_prediction"
"""double or float, shape (n, 1) for a regression; string labels, shape (n,), otherwise."""
PROBABILITIES_OUTPUT = "modelyard_probabilities"
"""double or float, shape (n, classes) in the order of CLASSES_KEY."""
CLASSES_KEY = "classes"
"""Entry of the model's metadata: labels, one a line."""

MISSING = "\x00missing"
"""What a missing category is called in a graph, which knows no null."""


class CompiledPredictor:
    """An ONNX graph behind its contract: the compiled runtime."""

    runtime = Runtime.COMPILED

    def __init__(self, content: bytes, contract: Contract) -> None:
        """Raise BundleError when the graph cannot be read, or does not fit the contract."""
        self.contract = contract
        self._session = _open(content)
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]
        if not self._inputs <= {NUMERIC_INPUT, CATEGORICAL_INPUT}:
            raise BundleError(
                f"The compiled model takes {', '.join(sorted(self._inputs))}: it was compiled by "
                "another version of ModelYard. Build it again."
            )
        self._class_order: list[int] = []
        if contract.task.is_classification:
            known = self._session.get_modelmeta().custom_metadata_map.get(CLASSES_KEY, "")
            order = class_order(known.split("\n"), contract)
            # most often there is nothing to put in order, and a copy is saved
            self._class_order = [] if order == sorted(order) else order

    @property
    def gives_probabilities(self) -> bool:
        return PROBABILITIES_OUTPUT in self._outputs

    def predict(self, features: Features) -> Prediction:
        given: dict[str, Any] = {}
        if NUMERIC_INPUT in self._inputs:
            given[NUMERIC_INPUT] = features.numeric
        if CATEGORICAL_INPUT in self._inputs:
            given[CATEGORICAL_INPUT] = _without_none(features.categorical)
        try:
            said = self._session.run(self._outputs, given)
        except Exception as err:  # its own exceptions share no base class
            raise ValueError(f"the graph does not take these rows: {err}") from err
        if not self.contract.task.is_classification:
            return as_numbers(said[0], len(features))
        labels = said[0].tolist()
        if len(said) == 1:
            return Prediction(labels, None)
        if not np.isfinite(said[1]).all():  # a label would be one that nothing speaks for
            raise ValueError("the graph gives no probabilities for these rows")
        return Prediction(labels, said[1][:, self._class_order] if self._class_order else said[1])


def _open(content: bytes) -> Any:
    # Later releases than the one that is pinned report to their maker; read at import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # More threads burn twice the processor time for no gain on small batches: replicas scale.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as err:  # its own exceptions share no base class
        raise BundleError(f"The compiled model cannot be read: {err}. Build it again.") from err


def _without_none(texts: np.ndarray) -> np.ndarray:
    missing = texts == np.array(None)
    return np.where(missing, MISSING, texts) if missing.any() else texts
