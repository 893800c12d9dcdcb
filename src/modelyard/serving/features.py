"""Which values do a request's cells stand for?

The features of n rows as two blocks of numpy, read from lists of plain values. This knows no
pandas: a compiled model is served without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.domain.values import ColumnKind, Contract
from modelyard.errors import RequestError
from modelyard.serving.rows import OneRow

_FLOATS = frozenset({float})
_PLAIN_NUMBERS = frozenset({float, int, bool, type(None)})
_PLAIN_TEXTS = frozenset({str, type(None)})


@dataclass(slots=True, eq=False)  # not frozen: that costs as much as all else of one row's
class Features:
    """The features of n rows, each block in the order of the contract's columns of that kind."""

    numeric: np.ndarray
    """float64, shape (n, numeric columns); NaN for a missing value."""
    categorical: np.ndarray
    """str objects, shape (n, categorical columns); None for a missing value."""

    def __len__(self) -> int:
        return len(self.numeric)

    def __getitem__(self, rows: slice) -> Features:
        return Features(self.numeric[rows], self.categorical[rows])

    def columns(self, contract: Contract) -> list[np.ndarray]:
        """Return one array a column, each of shape (n,), in the contract's order."""
        numeric, categorical = iter(self.numeric.T), iter(self.categorical.T)
        return [
            next(numeric if column.kind is ColumnKind.NUMERIC else categorical)
            for column in contract.columns
        ]


@dataclass(slots=True, eq=False)
class PlainRow:
    """The features of one row as plain values: arrays cost less for many rows than for one."""

    numeric: Sequence[float]
    """NaN for a missing value."""
    categorical: Sequence[str | None]

    def __len__(self) -> int:
        return 1


def join(parts: Sequence[Features | PlainRow]) -> Features:
    """Return the rows of all parts, in order."""
    rows = [part for part in parts if type(part) is PlainRow]
    if len(rows) == len(parts):
        return _as_blocks(rows)
    blocks = [_as_blocks([part]) if isinstance(part, PlainRow) else part for part in parts]
    if len(blocks) == 1:
        return blocks[0]
    return Features(
        np.concatenate([block.numeric for block in blocks]),
        np.concatenate([block.categorical for block in blocks]),
    )


def _as_blocks(rows: Sequence[PlainRow]) -> Features:
    return Features(
        np.array([row.numeric for row in rows], dtype=np.float64),
        np.array([row.categorical for row in rows], dtype=object),
    )


class Reader:
    """Reads the features of one contract, and refuses what breaks it."""

    def __init__(
        self, contract: Contract, *, not_null: tuple[str, ...] = (), numeric_text: bool = False
    ) -> None:
        """`not_null` are columns that take no missing value.

        With `numeric_text`, text that is a decimal number counts as one: CSV knows no other, and
        MLflow's own server reads JSON so.
        """
        self._contract = contract
        self._not_null = not_null
        self._numeric_text = numeric_text
        self._numeric = contract.names(ColumnKind.NUMERIC)
        self._categorical = contract.names(ColumnKind.CATEGORICAL)
        self._required = tuple(c.name for c in contract.columns if c.required)

    def read(self, cells: Mapping[str, Sequence[Any]], rows: int) -> Features:
        """Return the features of `rows` rows, given as one sequence of cells a column.

        Numbers become float64 with NaN for a missing value; booleans count as 0 and 1. Categories
        become text; numbers among them are written without a needless fraction (5.0 is "5"), so
        that a column read as int, float or text agrees. Other columns are left out; an optional
        column that is absent is all missing. Text in a numeric column is refused, even when it
        looks like a number, unless `numeric_text` was said.

        Raises RequestError that names the column, the row (from 0) and what is expected.
        """
        if not rows:
            raise RequestError("There are no rows to predict: send at least one.")
        for name in self._required:
            if name not in cells:
                self._refuse_missing(cells)
        absent = (None,) * rows
        features = Features(
            self._numbers([cells.get(name, absent) for name in self._numeric], rows),
            self._texts([cells.get(name, absent) for name in self._categorical], rows),
        )
        if self._not_null:
            self._refuse_nulls(features)
        return features

    def read_plain(self, one: OneRow) -> PlainRow | None:
        """Return a row of nothing but plain values, as `read` would; None for any other."""
        if self._not_null:
            return None
        numbers, texts = one.layout.numbers(one.row), one.layout.texts(one.row)
        kinds = set(map(type, numbers))
        if not kinds <= _FLOATS:
            if not kinds <= _PLAIN_NUMBERS:
                return None
            try:
                numbers = [math.nan if value is None else float(value) for value in numbers]
            except OverflowError:
                return None
        if math.inf in numbers or -math.inf in numbers:
            return None
        if not _PLAIN_TEXTS.issuperset(map(type, texts)):
            return None
        return PlainRow(numbers, texts)

    def _refuse_nulls(self, features: Features) -> None:
        names = (*self._numeric, *self._categorical)
        empty = np.hstack([np.isnan(features.numeric), features.categorical == np.array(None)])
        for index, name in enumerate(names):
            if name in self._not_null and empty[:, index].any():
                kind = "a number" if index < len(self._numeric) else "text"
                row = int(empty[:, index].argmax())
                raise refusal(name, row, f"{kind}, since the model takes no missing one", None)

    def _refuse_missing(self, cells: Mapping[str, Sequence[Any]]) -> None:
        missing = [name for name in self._required if name not in cells]
        raise RequestError(
            f"Missing column {', '.join(map(repr, missing))}. Expected are: "
            f"{', '.join(self._contract.names())}.",
            missing[0],
        )

    def _numbers(self, columns: list[Sequence[Any]], rows: int) -> np.ndarray:
        if not columns:
            return np.empty((rows, 0))
        types = set()
        for column in columns:
            types.update(map(type, column))
        try:
            if not types <= _PLAIN_NUMBERS:
                raise OverflowError  # cell by cell, which finds the one that is wrong
            block = np.array(columns, dtype=np.float64).T
        except OverflowError:
            block = np.array(
                [
                    [
                        as_number(name, row, value, text=self._numeric_text)
                        for row, value in enumerate(column)
                    ]
                    for name, column in zip(self._numeric, columns, strict=True)
                ]
            ).T
        if np.isinf(block).any():
            row, index = np.argwhere(np.isinf(block))[0]
            raise refusal(
                self._numeric[index], int(row), "a finite number or null", block[row, index]
            )
        return np.ascontiguousarray(block)

    def _texts(self, columns: list[Sequence[Any]], rows: int) -> np.ndarray:
        block = np.empty((rows, len(columns)), dtype=object)
        for index, (name, column) in enumerate(zip(self._categorical, columns, strict=True)):
            if not _PLAIN_TEXTS.issuperset(map(type, column)):
                column = [as_category(name, row, value) for row, value in enumerate(column)]
            block[:, index] = column
        return block


def as_number(name: str, row: int, value: Any, *, text: bool = False) -> float:
    """Return a cell as a number, NaN for a missing one. Raises RequestError for anything else."""
    # Python alone would take 1_000, and digits of other scripts
    if text and isinstance(value, str) and value.isascii() and "_" not in value:
        try:
            number = float(value)
        except ValueError:
            raise refusal(name, row, "a number or null", value) from None
        if not math.isnan(number):
            return number
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        try:
            return float(value)
        except OverflowError:
            pass
    elif is_missing(value):
        return math.nan
    raise refusal(name, row, "a number or null", value)


def as_category(name: str, row: int, value: Any) -> str | None:
    """Return a cell as text, None for a missing one. Raises RequestError for anything else."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(value)
    if is_missing(value):
        return None
    if isinstance(value, (float, np.floating)) and math.isfinite(value):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    raise refusal(name, row, "text or null", value)


def is_missing(value: Any) -> bool:
    return value is None or value != value


def refusal(name: str, row: int, expected: str, value: Any) -> RequestError:
    """Return the error that says what a cell is, and what it should be."""
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return RequestError(f"Column {name!r}, row {row}: expected {expected}, got {shown}.", name)
