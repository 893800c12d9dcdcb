"""Which columns are features, and how does a frame become what a model was trained on?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.data.cells import as_text
from modelyard.adapters.data.leaks import find_leaks, names_target
from modelyard.adapters.data.sources import check_classes
from modelyard.adapters.data.times import guess_time_formats, parse_times
from modelyard.config import Data, ModelConfig
from modelyard.config.file import closest
from modelyard.domain.values import Column, ColumnKind, Contract
from modelyard.errors import DataError
from modelyard.serving.frames import prepare_features

MAX_CATEGORIES = 250
"""A text column with more values is an identifier or free text; trees keep 255 bins at most."""


class Inferred(NamedTuple):
    """A contract, and why columns of the rows are not in it."""

    contract: Contract
    left_out: dict[str, str]


def infer_contract(config: ModelConfig, rows: pd.DataFrame) -> Inferred:
    """Return the contract that a config and its rows, as `read_rows` gives them, make.

    Declared columns are taken as they are. A list that the config leaves out is inferred from the
    columns which are declared nowhere: numbers and booleans are numeric, texts with few values
    categorical. Raises DataError when no feature remains, or the target's classes do not suit.
    """
    data = config.data
    declared = {
        **dict.fromkeys(data.features.numeric or (), ColumnKind.NUMERIC),
        **dict.fromkeys(data.features.categorical or (), ColumnKind.CATEGORICAL),
    }
    asked = {
        ColumnKind.NUMERIC: data.features.numeric is None,
        ColumnKind.CATEGORICAL: data.features.categorical is None,
    }
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    for name in map(str, rows.columns):
        if name == data.target:
            continue
        kind = declared.get(name)
        if kind is None:
            reason = _role(data, name) or _unfit(rows[name], data)
            kind = _kind(rows[name])
            if reason is None and not asked[kind]:
                reason = f"not in data.features.{kind}"
            if reason is not None:
                left_out[name] = reason
                continue
        columns.append(Column(name=name, kind=kind))
    known = rows[rows[data.target].notna()]
    undeclared = [column.name for column in columns if column.name not in declared]
    leaks = find_leaks(
        known[undeclared], known[data.target], classification=config.task.is_classification
    )
    left_out |= leaks
    columns = [column for column in columns if column.name not in leaks]
    if not columns:
        raise DataError(
            f"{config.name}: no column is left as a feature: "
            + "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            + ". Name features in data.features."
        )
    classes = _classes(config, rows[data.target]) if config.task.is_classification else ()
    contract = Contract(
        task=config.task,
        columns=tuple(columns),
        target=data.target,
        classes=classes,
        positive=(data.positive or classes[-1]) if len(classes) == 2 else None,
        id=data.id,
        time=data.time,
    )
    return Inferred(contract, left_out)


def as_features(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return a source's rows as models and services see them: `prepare_features` of them.

    Raises DataError for a column that is missing, with the nearest name, and for one of numbers
    that holds texts, with the first: the column came as texts then, and its other cells may be
    numbers. RequestError for what else `prepare_features` refuses.
    """
    absent = [c.name for c in contract.columns if c.required and c.name not in rows.columns]
    if absent:
        lines = [f"there is no column {name!r}.{closest(name, rows.columns)}" for name in absent]
        raise DataError("\n".join(lines))
    for name in contract.names(ColumnKind.NUMERIC):
        if name in rows.columns:
            _check_numbers(rows[name])
    return prepare_features(rows, contract)


def _check_numbers(values: pd.Series) -> None:
    wrong = pd.to_numeric(values, errors="coerce").isna() & values.notna()
    if wrong.any():
        raise DataError(
            f"column {values.name!r} holds {wrong.sum()} values that are no numbers, first "
            f"{values[wrong].iloc[0]!r}."
        )


def _classes(config: ModelConfig, target: pd.Series) -> tuple[str, ...]:
    where = f"{config.name}: column {config.data.target!r}"
    check_classes(target, config.task, config.data.positive, where)
    return tuple(sorted(as_text(target).dropna().unique()))


def _role(data: Data, name: str) -> str | None:
    """Say what else a column is by the config, or by a name that gives the target away."""
    for role, words in (("id", "id"), ("time", "event time"), ("label_time", "label time")):
        if getattr(data, role) == name:
            return words
    if name in data.features.drop:
        return "dropped by the config"
    if names_target(name, data.target):
        return f"its name says that it is made from the target {data.target!r}"
    return None


def _kind(values: pd.Series) -> ColumnKind:
    numeric = pd.api.types.is_numeric_dtype(values)
    return ColumnKind.NUMERIC if numeric else ColumnKind.CATEGORICAL


def _unfit(values: pd.Series, data: Data) -> str | None:
    """Say why a column that nobody declared cannot be a feature; None when it can."""
    present = values.dropna()
    if present.empty:
        return "empty in every row"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "a date; add columns made from it, like hour or weekday"
    distinct = present.nunique()
    if pd.api.types.is_numeric_dtype(values):
        return "a row counter" if _is_counter(present) else None
    if data.time_format and parse_times(present, data.time_format).notna().all():
        return "a date; add columns made from it, like hour or weekday"
    if guess_time_formats(present):
        return "a date; add columns made from it, like hour or weekday"
    if distinct == len(values):
        return "different in every row: an identifier"
    if distinct > MAX_CATEGORIES:
        return f"{distinct} different texts: an identifier or free text"
    return None


def _is_counter(numbers: pd.Series) -> bool:
    """Say whether numbers count the rows: whole, never equal, and most often one more."""
    if len(numbers) < 3 or pd.api.types.is_bool_dtype(numbers) or not numbers.is_unique:
        return False
    values = numbers.to_numpy(dtype=float)
    return bool((values == np.floor(values)).all() and np.median(np.diff(values)) == 1)
