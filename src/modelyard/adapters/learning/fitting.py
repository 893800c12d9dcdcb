"""What does a recipe learn from training rows, and what does it then say about the holdout?

A delivery and the fresh environment of a reproduction call the same function: a model that is
trained again is trained in the same way. So this imports nothing that a fit does not need: no
MLflow, no Prefect, no Docker (the extra `training` in pyproject.toml is what it takes).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from modelyard.adapters.data.times import as_datetime64
from modelyard.adapters.learning.outcomes import as_labels
from modelyard.adapters.learning.pipelines import build_pipeline, fit_pipeline
from modelyard.adapters.learning.stored_predictions import write_predictions
from modelyard.config import Training
from modelyard.domain.row_weights import age_weights
from modelyard.domain.values import Contract
from modelyard.errors import RequestError
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.frames import predict_frame, prepare_features
from modelyard.serving.model_file import ModelFile, save_model

PREDICTIONS = "predictions.parquet"


class Fit(NamedTuple):
    """A fitted pipeline and the files that it left in a folder."""

    pipeline: Any
    features: pd.DataFrame
    """What it was fitted on, shape (training rows, features)."""
    stored: ModelFile
    predictions: Path | None
    """What it says about each holdout row; None where it can say nothing about them."""
    seconds: float


def fit_recipe(
    training: Training,
    contract: Contract,
    rows: pd.DataFrame,
    holdout: pd.DataFrame,
    folder: Path,
    time_column: str | None = None,
) -> Fit:
    """Fit a recipe on rows, store the model below `folder` and what it says about the holdout.

    `time_column` holds the event time, by which `training.half_life` weights rows.
    """
    features = prepare_features(rows, contract)
    labels = as_labels(rows[contract.target], contract)
    weights = None
    if training.half_life is not None and time_column is not None:
        weights = age_weights(as_datetime64(rows[time_column]), training.half_life)
    started = time.perf_counter()
    pipeline = fit_pipeline(build_pipeline(training, contract), features, labels, weights)
    seconds = time.perf_counter() - started
    stored = save_model(pipeline, folder, sample=features.head(1000))
    try:
        said = predict_frame(EstimatorPredictor(pipeline, contract), holdout)
    except RequestError:  # no holdout row, or rows that break the contract: the gate says which
        predictions = None
    else:
        predictions = folder / PREDICTIONS
        write_predictions(said, contract, predictions)
    return Fit(pipeline, features, stored, predictions, seconds)
