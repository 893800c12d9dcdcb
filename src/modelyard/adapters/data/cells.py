"""What does a cell mean: a number, a truth, a text, or that there is no value?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelyard.config import Data
from modelyard.domain.values import MLTask

INFINITE = "modelyard.infinite"
"""Attribute of read rows: how many infinite cells of each column count as missing."""


def as_text(values: pd.Series) -> pd.Series:
    """Return values as `str`, whole numbers without a decimal point, missing ones as None."""
    if pd.api.types.is_float_dtype(values):
        whole = values.dropna()
        if len(whole) and np.isfinite(whole).all() and (whole == np.floor(whole)).all():
            values = values.astype("Int64")
    return _or_none(values.astype(object).map(str, na_action="ignore"), values.notna())


def text_columns(config: Data, task: MLTask | None) -> set[str]:
    """Return the columns whose cells stay texts, whatever they look like."""
    names = {config.id, config.time, config.label_time, *(config.features.categorical or ())}
    if task is not None and task.is_classification:
        names.add(config.target)
    return {name for name in names if name is not None}


def typed(rows: pd.DataFrame, config: Data, keep: set[str]) -> pd.DataFrame:
    """Turn texts into missing values, numbers and booleans where all of a column's are.

    Infinite numbers become missing; how many is in the attribute `INFINITE` of the result.
    """
    infinite: dict[str, int] = {}
    numbers = pd.to_numeric(pd.Series(config.missing_values), errors="coerce").dropna().tolist()
    columns: dict[str, pd.Series] = {}
    for name in map(str, rows.columns):
        values = rows[name]
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            missing = values.isin(numbers) | _infinite(values, infinite)
            columns[name] = values.mask(missing) if missing.any() else _plain_numbers(values)
        elif pd.api.types.is_bool_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
            columns[name] = values
        else:
            texts = values.astype(object)
            there = values.notna() & ~texts.isin(config.missing_values)
            texts = _or_none(texts, there)
            columns[name] = texts if name in keep else _parsed(texts, numbers, infinite)
    frame = pd.DataFrame(columns)
    frame.attrs[INFINITE] = infinite
    return frame


def _infinite(numbers: pd.Series, found: dict[str, int]) -> np.ndarray:
    """Return which numbers are infinite, shape (rows,); their count, if any, goes into `found`."""
    infinite = np.isinf(numbers.to_numpy(float, na_value=np.nan))
    if infinite.any():
        found[str(numbers.name)] = int(infinite.sum())
    return infinite


def _or_none(values: pd.Series, there: pd.Series) -> pd.Series:
    """Return values as objects, None where one is not there."""
    objects = values.to_numpy(dtype=object, copy=True)
    objects[~there.to_numpy(dtype=bool)] = None
    return pd.Series(objects, index=values.index, name=values.name, dtype=object)


def _plain_numbers(values: pd.Series) -> pd.Series:
    # MLflow silently loses the signature of nullable integers that hold a missing value.
    if pd.api.types.is_extension_array_dtype(values) or values.dtype == object:
        return values.astype("float64" if values.isna().any() else values.dtype.type)
    return values


def _parsed(texts: pd.Series, missing_numbers: list[float], infinite: dict[str, int]) -> pd.Series:
    present = texts.dropna()
    if present.empty:
        return texts
    if present.astype(str).str.lower().isin(["true", "false"]).all():
        flags = texts.map(lambda v: str(v).lower() == "true", na_action="ignore")
        return flags.astype("float64" if texts.isna().any() else bool)
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers[present.index].isna().any():
        return texts
    missing = numbers.isin(missing_numbers) | _infinite(numbers, infinite)
    return numbers.mask(missing) if missing.any() else numbers
