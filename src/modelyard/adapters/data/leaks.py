"""Which columns give the target away?

A column that is only known after the outcome makes a model look perfect and fail in service. No
rule sees all of them (the length of the call that sold something is one): these see what cannot
be anything else.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

_MIN_ROWS = 100
_MAX_LEVELS = 50
_MAX_FITTED_ROWS = 5_000


def find_leaks(columns: pd.DataFrame, target: pd.Series, *, classification: bool) -> dict[str, str]:
    """Return the columns that fix the target on every row, with the reason.

    `columns` are candidates for features, `target` the known outcomes of the same rows.
    """
    if len(target) < _MIN_ROWS or target.nunique() < 2:
        return {}
    if classification:
        return _fixing_columns(columns, target)
    return _exact_sums(columns, target)


def names_target(name: str, target: str) -> bool:
    """Say whether a name reads as a prediction or a transformation of the target.

    Lags and averages of the past (`cnt_lag_24`) are honest features and stay.
    """
    made = (
        r"pred|predicted|prediction|forecast|actual|true|log|log1p|sqrt|bin|binned|class|label|rank"
    )
    bare = re.escape(re.sub(r"\W+", "_", target.lower()))
    name = re.sub(r"\W+", "_", name.lower())
    return bool(re.fullmatch(rf"({made})_({bare})|({bare})_({made})", name))


def _fixing_columns(columns: pd.DataFrame, target: pd.Series) -> dict[str, str]:
    """Find columns each value of which goes with one class only, like an outcome in other words."""
    leaks = {}
    for name in columns:
        # A value seen a few times goes with one class by chance.
        if columns[name].nunique() <= min(_MAX_LEVELS, len(target) // 20) and (
            target.groupby(columns[name], dropna=False, sort=False).nunique().max() == 1
        ):
            leaks[str(name)] = "each of its values goes with one class only: it leaks the target"
    return leaks


def _exact_sums(columns: pd.DataFrame, target: pd.Series) -> dict[str, str]:
    """Find numbers whose weighted sum is the target to the last digit, like its parts."""
    numeric = columns.select_dtypes(include=["number", "bool"]).astype("float64")
    complete = numeric.notna().all(axis=1)
    # A column that is mostly empty would hide all others.
    numeric = numeric.loc[:, numeric.notna().mean() > 0.5]
    complete = numeric.notna().all(axis=1)
    rows = np.flatnonzero(complete)[:_MAX_FITTED_ROWS]
    if numeric.shape[1] == 0 or len(rows) < max(_MIN_ROWS, 10 * numeric.shape[1]):
        return {}
    x = numeric.to_numpy()[rows]
    y = target.to_numpy(dtype=float)[rows]
    scale = x.std(axis=0)
    varying = scale > 0
    x = (x[:, varying] - x[:, varying].mean(axis=0)) / scale[varying]
    y = (y - y.mean()) / (y.std() or 1.0)
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    if np.abs(x @ weights - y).max(initial=0.0) > 1e-6 or not y.any():
        return {}
    parts = [
        str(n) for n, w in zip(numeric.columns[varying], weights, strict=True) if abs(w) > 1e-4
    ]
    reason = f"{' and '.join(parts)} add up to the target exactly: they leak it"
    return dict.fromkeys(parts, reason)
