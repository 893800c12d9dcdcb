"""How do rows of pandas become features, and features rows of pandas?

For the scikit-learn runtime and for everything outside of a replica: a compiled model is served
without pandas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as dtypes

from modelyard.domain.values import Contract
from modelyard.errors import RequestError
from modelyard.serving.features import Features, Reader
from modelyard.serving.predictor import Prediction, Predictor


def read_features(frame: pd.DataFrame, contract: Contract) -> Features:
    """Return a frame's features; raises RequestError like `Reader.read`."""
    if repeated := [str(name) for name in frame.columns[frame.columns.duplicated()]]:
        raise RequestError(f"Column {repeated[0]!r} is there more than once.", repeated[0])
    names = [name for name in contract.names() if name in frame.columns]
    return Reader(contract).read({name: _cells(frame[name]) for name in names}, len(frame))


def prepare_features(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return the contract's feature columns of a frame, in its order and with its types.

    float64 with NaN, or str objects with None, as `Reader.read` says; the index is kept.
    """
    return features_frame(read_features(frame, contract), contract, frame.index)


def features_frame(
    features: Features, contract: Contract, index: pd.Index | None = None
) -> pd.DataFrame:
    """Return features as a frame of the contract's columns, what a pipeline is fitted on."""
    columns = dict(zip(contract.names(), features.columns(contract), strict=True))
    return pd.DataFrame(columns, index=pd.RangeIndex(len(features)) if index is None else index)


def predict_frame(predictor: Predictor, frame: pd.DataFrame) -> Prediction:
    """Prepare and predict rows; raises RequestError like `read_features`."""
    return predictor.predict(read_features(frame, predictor.contract))


def _cells(values: pd.Series) -> list[Any]:
    """Return a column as plain values, None for every kind of missing one but NaN."""
    if values.dtype == np.float64 or (
        dtypes.is_numeric_dtype(values.dtype)
        and not dtypes.is_complex_dtype(values.dtype)
        and not values.hasnans
    ):
        return values.tolist()
    cells = values.astype(object).to_numpy(copy=True)
    cells[values.isna().to_numpy()] = None
    return cells.tolist()
