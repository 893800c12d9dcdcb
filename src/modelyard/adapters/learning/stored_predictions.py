"""How is it kept what a fit said about the holdout?"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from modelyard.domain.values import Contract
from modelyard.serving.predictor import Prediction


def write_predictions(said: Prediction, contract: Contract, path: Path) -> None:
    """Write predictions as Parquet: the outcome, and a column for each class's probability."""
    columns: dict[str, Any] = {"prediction": said.predictions}
    if said.probabilities is not None:
        by_class = said.probabilities.astype(np.float64).T
        names = [_probability_of(name) for name in contract.classes]
        columns |= dict(zip(names, by_class, strict=True))
    pd.DataFrame(columns).to_parquet(path, index=False)


def read_predictions(path: Path | IO[bytes], contract: Contract) -> Prediction:
    """Return what `write_predictions` wrote."""
    table = pd.read_parquet(path)
    names = [_probability_of(name) for name in contract.classes]
    probabilities = table[names].to_numpy() if names and names[0] in table else None
    if contract.task.is_classification:
        return Prediction(table["prediction"].astype(str).tolist(), probabilities)
    numbers = table["prediction"].astype("float64")
    return Prediction([None if value != value else value for value in numbers], None)


def _probability_of(name: str) -> str:
    return f"probability of {name}"
