"""How far are the predictions and metrics of a refit from the recorded ones?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.learning.measuring import measure
from modelyard.adapters.learning.outcomes import as_outcomes, as_truth
from modelyard.adapters.learning.stored_predictions import read_predictions
from modelyard.domain.metrics import METRICS, metrics_for
from modelyard.domain.reproduction import Agreement, MetricPair, compare_predictions
from modelyard.domain.values import Contract
from modelyard.errors import InvalidInputError
from modelyard.serving.predictor import Prediction


class Comparison(NamedTuple):
    """Recorded and reproduced predictions of the same rows."""

    agreement: Agreement
    metrics: dict[str, MetricPair]
    recorded: np.ndarray
    """Figures that a plot shows, shape (rows,): predicted numbers, or a class's probability."""
    reproduced: np.ndarray


def compare_fits(
    recorded: Path, reproduced: Path, holdout: pd.DataFrame, contract: Contract, confidence: float
) -> Comparison:
    """Compare two files of predictions of the holdout rows."""
    before, after = read_predictions(recorded, contract), read_predictions(reproduced, contract)
    labels = None
    if contract.task.is_classification:
        labels = ([str(v) for v in before.predictions], [str(v) for v in after.predictions])
    figures = [_figures(said, contract) for said in (before, after)]
    same_rows = len(before.predictions) == len(after.predictions) == len(holdout)
    agreement = compare_predictions(
        figures[0], figures[1], labels if labels and len(labels[0]) == len(labels[1]) else None
    )
    metrics = _metrics(before, after, holdout, contract, confidence) if same_rows else {}
    shown = [
        _shown(said, figure, contract)
        for said, figure in zip((before, after), figures, strict=True)
    ]
    return Comparison(agreement, metrics, shown[0], shown[1])


def _figures(said: Prediction, contract: Contract) -> np.ndarray:
    """Return numbers, shape (rows, 1), or probabilities, shape (rows, classes or 0)."""
    if contract.task.is_classification:
        if said.probabilities is None:
            return np.empty((len(said.predictions), 0))
        return np.array(said.probabilities, dtype=np.float64)
    return np.array(said.predictions, dtype=np.float64).reshape(-1, 1)


def _shown(said: Prediction, figures: np.ndarray, contract: Contract) -> np.ndarray:
    if figures.shape[1] == 0:
        return np.array([contract.classes.index(str(v)) for v in said.predictions], dtype=float)
    if contract.positive is not None:
        return figures[:, contract.classes.index(contract.positive)]
    return figures.max(axis=1)


def _metrics(
    before: Prediction,
    after: Prediction,
    holdout: pd.DataFrame,
    contract: Contract,
    confidence: float,
) -> dict[str, MetricPair]:
    try:
        truth = as_truth(holdout[contract.target], contract)
        recorded, reproduced = as_outcomes(before, contract), as_outcomes(after, contract)
        intervals = measure(recorded, truth, metrics_for(contract.task), confidence)
    except InvalidInputError:  # rows that were altered may hold no label that the contract knows
        return {}
    return {
        name: MetricPair(
            recorded=interval,
            reproduced=METRICS[name](truth, reproduced.for_metric(METRICS[name])),
        )
        for name, interval in intervals.items()
    }
