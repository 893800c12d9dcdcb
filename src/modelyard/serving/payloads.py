"""Which rows does a request body hold?

MLflow's scoring protocol: `dataframe_split`, `dataframe_records`, `instances` and `inputs` as JSON,
or text/csv with a header line. Cells are left as they were sent.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from modelyard.domain.values import Contract
from modelyard.errors import RequestError
from modelyard.serving.rows import Layouts, OneRow, Rows

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TEXT = frozenset({str})

# A text is consumed to its end, or to the body's: what is never closed is looked at once only.
_TEXT_OR_NAN = re.compile(rb'"(?:[^"\\]+|\\.)*+"?|\bNaN\b', re.DOTALL)


def decode_json(body: bytes) -> Any:
    """Return what a JSON body says; NaN counts as null, since clients in Python write it so.

    Raises RequestError for one that is not JSON.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as err:
        if b"NaN" not in body:
            raise _not_json(err, body) from err
    # pandas' missing value in json.dumps: MLflow's own client sends it, and its server takes it
    body = _TEXT_OR_NAN.sub(lambda found: b"null" if found[0] == b"NaN" else found[0], body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise _not_json(err, body) from err


def _not_json(err: orjson.JSONDecodeError, body: bytes) -> RequestError:
    hint = " Infinity is not JSON: send a finite number, or null." if b"Infinity" in body else ""
    return RequestError(f"The body is not JSON: {err}.{hint}")


def parse_json(body: bytes, contract: Contract, layouts: Layouts) -> Rows | OneRow:
    """Return the rows of a JSON body, values as JSON gave them.

    Raises RequestError that names the part of the body that cannot be read.
    """
    payload = decode_json(body)
    forms = [name for name in payload if name in _FORMS] if isinstance(payload, dict) else []
    if len(forms) != 1:
        found = ", ".join(name for name in _FORMS if name in forms) or "none"
        raise RequestError(
            f"The body must be a JSON object with exactly one of {', '.join(_FORMS)}; "
            f"found {found}."
        )
    if payload.get("params") not in (None, {}):
        raise RequestError("This service takes no params: leave them out.", "params")
    (form,) = forms
    return _FORMS[form](payload[form], form, contract, layouts)


def parse_csv(body: bytes) -> Rows:
    """Return the rows of a CSV body with a header line; an empty cell is a missing value.

    Raises RequestError for what is not CSV in UTF-8 (or has a cell above the csv module's 128 KiB),
    a repeated column name, and a row with more or fewer cells than names.
    """
    try:
        text = io.StringIO(body.decode("utf-8-sig"), newline="")
        lines = [cells for cells in csv.reader(text, strict=True) if cells]
    except (UnicodeDecodeError, csv.Error) as err:
        raise RequestError(f"The body is not CSV with a header line: {err}.") from err
    if not lines:
        raise RequestError("The body is not CSV with a header line: it is empty.")
    columns, *rows = lines
    _refuse_repeated(columns)
    for row, cells in enumerate(rows):
        if len(cells) != len(columns):
            raise RequestError(
                f"The CSV, row {row}: expected {len(columns)} cells ({', '.join(columns)}), "
                f"got {len(cells)}."
            )
    found = {
        name: [cell or None for cell in cells]
        for name, cells in zip(columns, zip(*rows, strict=True), strict=False)
    }
    return Rows(found if rows else {}, len(rows))


def _split(value: Any, form: str, contract: Contract, layouts: Layouts) -> Rows | OneRow:
    if not isinstance(value, dict) or "columns" not in value or "data" not in value:
        raise RequestError(f"{form} must be an object with columns and data.", form)
    columns = value["columns"]
    if not isinstance(columns, list) or not _TEXT.issuperset(map(type, columns)):
        raise RequestError(f"{form}.columns must be a list of names.", f"{form}.columns")
    return _from_lists(value["data"], columns, f"{form}.data", layouts)


def _records(value: Any, form: str, contract: Contract, layouts: Layouts) -> Rows | OneRow:
    if not isinstance(value, list):
        raise RequestError(f"{form} must be a list of rows.", form)
    for row, record in enumerate(value):
        if not isinstance(record, dict):
            raise RequestError(
                f"{form}, row {row}: expected an object with column names.", f"{form}[{row}]"
            )
    if len(value) == 1 and (layout := layouts.of(tuple(value[0]))) is not None:
        return OneRow(layout, [*value[0].values()])
    found: dict[str, Sequence[Any]] = {}
    for column in contract.columns:
        name = column.name
        try:
            found[name] = [record[name] for record in value]
        except KeyError:
            if column.required:  # a forgotten column is an error, and not a missing value
                row = next(row for row, record in enumerate(value) if name not in record)
                raise RequestError(f"{form}, row {row}: missing column {name!r}.", name) from None
            found[name] = [record.get(name) for record in value]
    for extra in (contract.id, contract.time):
        if extra is not None:
            found[extra] = [record.get(extra) for record in value]
    return Rows(found, len(value))


def _rows(value: Any, form: str, contract: Contract, layouts: Layouts) -> Rows | OneRow:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return _from_lists(value, list(contract.names()), form, layouts)
    return _records(value, form, contract, layouts)


def _inputs(value: Any, form: str, contract: Contract, layouts: Layouts) -> Rows | OneRow:
    if not isinstance(value, dict):
        return _rows(value, form, contract, layouts)
    columns = {name: cells if isinstance(cells, list) else [cells] for name, cells in value.items()}
    sizes = {name: len(cells) for name, cells in columns.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise RequestError(f"The columns of {form} differ in length ({shown[:200]}).", form)
    return Rows(columns, next(iter(sizes.values()), 0))


def _from_lists(data: Any, columns: list[str], field: str, layouts: Layouts) -> Rows | OneRow:
    if not isinstance(data, list):
        raise RequestError(f"{field} must be a list of rows.", field)
    width = len(columns)
    for row, cells in enumerate(data):
        if not isinstance(cells, list) or len(cells) != width:
            found = f"{len(cells)} values" if isinstance(cells, list) else "no list"
            raise RequestError(
                f"{field}, row {row}: expected a list of {width} values "
                f"({', '.join(columns)}), got {found}.",
                f"{field}[{row}]",
            )
    if len(data) == 1 and (layout := layouts.of(tuple(columns))) is not None:
        return OneRow(layout, data[0])
    _refuse_repeated(columns)
    return Rows(dict(zip(columns, zip(*data, strict=True), strict=False)), len(data))


def _refuse_repeated(columns: list[str]) -> None:
    if len(set(columns)) != len(columns):
        name = next(name for name, count in Counter(columns).items() if count > 1)
        raise RequestError(f"Column {name!r} is there more than once.", name)


_FORMS: dict[str, Callable[[Any, str, Contract, Layouts], Rows | OneRow]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _rows,
    "inputs": _inputs,
}
