"""Which rows does a request body hold?

MLflow's scoring protocol: `dataframe_split`, `dataframe_records`, `instances` and `inputs` as JSON,
or text/csv with a header line. Nothing is coerced here but CSV's numbers, which arrive as text.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd

from modelyard.domain.values import ColumnKind, Contract
from modelyard.errors import RequestError


def parse_json(body: bytes, contract: Contract) -> pd.DataFrame:
    """Return the rows of a JSON body, values as JSON gave them.

    Raises RequestError that names the part of the body that cannot be read.
    """
    try:
        # json.loads alone would let bytes through that are no text: raw surrogates
        text = body.decode(json.detect_encoding(body))
        payload = json.loads(text, parse_constant=_refuse_constant)
        if r"\ud" in text.lower():  # half a surrogate pair is legal JSON, but no text
            json.dumps(payload, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as err:
        raise RequestError(f"The body is not JSON: {err}.") from err
    forms = [name for name in _FORMS if isinstance(payload, dict) and name in payload]
    if len(forms) != 1:
        raise RequestError(
            f"The body must be a JSON object with exactly one of {', '.join(_FORMS)}; "
            f"found {', '.join(forms) or 'none'}."
        )
    if payload.get("params"):
        raise RequestError("This service takes no params: leave them out.", "params")
    return _FORMS[forms[0]](payload[forms[0]], forms[0], contract)


def parse_csv(body: bytes, contract: Contract) -> pd.DataFrame:
    """Return the rows of a CSV body with a header line; an empty cell is a missing value.

    Raises RequestError for what is not CSV in UTF-8 (or has a cell above the csv module's 128 KiB),
    a repeated column name, a row with more or fewer cells than names, and text in a numeric column.
    """
    try:
        # not pandas.read_csv: it renames repeated columns and fills up short rows without a word
        text = io.StringIO(body.decode("utf-8-sig"), newline="")
        lines = [cells for cells in csv.reader(text, strict=True) if cells]
    except (UnicodeDecodeError, csv.Error) as err:
        raise RequestError(f"The body is not CSV with a header line: {err}.") from err
    if not lines:
        raise RequestError("The body is not CSV with a header line: it is empty.")
    columns, *rows = lines
    if repeated := [name for name, count in Counter(columns).items() if count > 1]:
        raise RequestError(f"Column {repeated[0]!r} is there more than once.", repeated[0])
    for row, cells in enumerate(rows):
        if len(cells) != len(columns):
            raise RequestError(
                f"The CSV, row {row}: expected {len(columns)} cells ({', '.join(columns)}), "
                f"got {len(cells)}."
            )
    data = [[cell or None for cell in cells] for cells in rows]
    frame = pd.DataFrame(data, columns=pd.Index(columns), dtype=object)
    for name in contract.names(ColumnKind.NUMERIC):
        if name in frame.columns:
            frame[name] = _csv_numbers(pd.Series(frame[name]), name)
    return frame


def _csv_numbers(texts: pd.Series, name: str) -> pd.Series:
    numbers = pd.Series(pd.to_numeric(texts, errors="coerce"))
    unread = numbers.isna() & texts.notna()
    if unread.any():
        row = int(unread.to_numpy().argmax())
        raise RequestError(
            f"Column {name!r}, row {row}: expected a number or an empty cell, got "
            f"{texts.iloc[row]!r}.",
            name,
        )
    return numbers


def _split(value: Any, form: str, contract: Contract) -> pd.DataFrame:
    if not isinstance(value, dict) or not {"columns", "data"} <= value.keys():
        raise RequestError(f"{form} must be an object with columns and data.", form)
    columns = value["columns"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise RequestError(f"{form}.columns must be a list of names.", f"{form}.columns")
    return _from_lists(value["data"], columns, f"{form}.data")


def _records(value: Any, form: str, contract: Contract) -> pd.DataFrame:
    if not isinstance(value, list):
        raise RequestError(f"{form} must be a list of rows.", form)
    for row, record in enumerate(value):
        if not isinstance(record, dict):
            raise RequestError(
                f"{form}, row {row}: expected an object with column names.", f"{form}[{row}]"
            )
    names = dict.fromkeys(name for record in value for name in record)
    required = [c.name for c in contract.columns if c.required]
    for row, record in enumerate(value):
        # pandas would fill the gap with a missing value; a forgotten column is an error
        for name in required:
            if name not in record:
                raise RequestError(f"{form}, row {row}: missing column {name!r}.", name)
    data = {name: [record.get(name) for record in value] for name in names}
    return pd.DataFrame(data, index=range(len(value)), dtype=object)


def _rows(value: Any, form: str, contract: Contract) -> pd.DataFrame:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return _from_lists(value, list(contract.names()), form)
    return _records(value, form, contract)


def _inputs(value: Any, form: str, contract: Contract) -> pd.DataFrame:
    if not isinstance(value, dict):
        return _rows(value, form, contract)
    columns = {name: cells if isinstance(cells, list) else [cells] for name, cells in value.items()}
    sizes = {name: len(cells) for name, cells in columns.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise RequestError(f"The columns of {form} differ in length ({shown}).", form)
    return pd.DataFrame(columns, dtype=object)


def _from_lists(data: Any, columns: list[str], field: str) -> pd.DataFrame:
    if not isinstance(data, list):
        raise RequestError(f"{field} must be a list of rows.", field)
    for row, cells in enumerate(data):
        if not isinstance(cells, list) or len(cells) != len(columns):
            found = f"{len(cells)} values" if isinstance(cells, list) else "no list"
            raise RequestError(
                f"{field}, row {row}: expected a list of {len(columns)} values "
                f"({', '.join(columns)}), got {found}.",
                f"{field}[{row}]",
            )
    return pd.DataFrame(data, columns=pd.Index(columns), dtype=object)


def _refuse_constant(name: str) -> Any:
    raise RequestError(f"{name} is not JSON: send null for a missing value.")


_FORMS: dict[str, Callable[[Any, str, Contract], pd.DataFrame]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _rows,
    "inputs": _inputs,
}
