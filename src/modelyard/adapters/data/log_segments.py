"""What does a segment of the inference log say, as a table of one row a prediction?

A segment is JSON lines, the first of which tells what all of its requests share: columns with
their kinds, classes, release. A line that is no request (somebody edited the file, a disk failed)
is left out, and its number is told. A torn last line, which a crash can leave, was never answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from modelyard.domain.values import ColumnKind
from modelyard.serving.inference_log import HEADER_KEY, InferenceRecord

ID = "__id"
TIME = "__time"
AT = "__at"
RELEASE = "__release"
REQUEST_ID = "__request_id"
ROW = "__row"
PREDICTION = "__prediction"
PROBABILITY = "__probability"
"""Of the positive class; of the predicted class where there are more than two."""

INSTANT = pa.timestamp("us", tz="UTC")
FIXED = pa.schema(
    [
        (ID, pa.string()),
        (TIME, INSTANT),
        (AT, INSTANT),
        (RELEASE, pa.string()),
        (REQUEST_ID, pa.string()),
        (ROW, pa.int64()),
    ]
)
LAST = pa.schema([(PREDICTION, pa.null()), (PROBABILITY, pa.float64())])
"""Of an empty log; a prediction's type is the segment's."""

_TYPES = {ColumnKind.NUMERIC: pa.float64(), ColumnKind.CATEGORICAL: pa.string()}
_BATCH_ROWS = 20_000
"""Python objects of as many rows are held at a time."""

_Columns = dict[str, Sequence[Any]]
"""The n rows of a request, as n values of each column."""


@dataclass
class Segment:
    """The rows of a segment, and the numbers of its damaged lines."""

    table: pa.Table
    damaged: list[int] = field(default_factory=list)


def read_segment(
    lines: Iterable[bytes], may_count: Callable[[Mapping[str, Any]], bool] | None = None
) -> Segment:
    """Return what the lines of a segment say.

    `may_count` is asked of each request as it was logged: those that it has no use for are left
    out before they are looked at more closely, which takes most of the time.

    The types are those of the contract where the first line tells it: a column that no request
    gave a value for has the type of the others' too.
    """
    shared: dict[str, Any] = {}
    types: dict[str, pa.DataType] = {}
    tables: list[pa.Table] = []
    damaged: list[int] = []
    waiting: list[tuple[int, _Columns]] = []
    rows = 0

    def close() -> None:
        """Make a table of what waits; a request whose values are of other types is damaged."""
        try:
            tables.append(_to_table([columns for _, columns in waiting], types))
        except pa.ArrowException:
            for number, columns in waiting:
                try:
                    tables.append(_to_table([columns], types))
                except pa.ArrowException:
                    damaged.append(number)
        waiting.clear()

    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break
        try:
            said = json.loads(line)
            if number == 1 and HEADER_KEY in said:
                kinds = {name: ColumnKind(kind) for name, kind in said.pop(HEADER_KEY).items()}
                types = {name: _TYPES[kind] for name, kind in kinds.items()}
                types[PREDICTION] = pa.string() if said["classes"] else pa.float64()
                shared = {**said, "columns": list(kinds)}
                continue
            said = {**shared, **said}
            if may_count is not None and not may_count(said):
                continue
            columns = _columns(InferenceRecord.model_validate(said))
        except (ValueError, IndexError, TypeError, KeyError):  # no record, or lists that do not fit
            damaged.append(number)
            continue
        waiting.append((number, columns))
        rows += len(columns[ID])
        if rows >= _BATCH_ROWS:
            close()
            rows = 0
    close()
    tables.append(_to_table([], types))
    return Segment(pa.concat_tables(tables, promote_options="permissive"), sorted(damaged))


def _to_table(requests: list[_Columns], types: dict[str, pa.DataType]) -> pa.Table:
    """Return requests as one row a prediction; a type that is not known is the values' own."""
    features = dict.fromkeys(name for columns in requests for name in columns)
    names = dict.fromkeys((*FIXED.names, *types, *features, *LAST.names))
    ends = [name for name in names if name in LAST.names]
    merged: dict[str, list[Any]] = {name: [] for name in names if name not in LAST.names}
    merged |= {name: [] for name in ends}
    for columns in requests:
        absent = [None] * len(columns[ID])
        for name, values in merged.items():
            values.extend(columns.get(name, absent))
    known = {**types, PROBABILITY: pa.float64(), **{f.name: f.type for f in FIXED}}
    return pa.table({name: pa.array(values, known.get(name)) for name, values in merged.items()})


def _columns(record: InferenceRecord) -> _Columns:
    """Return a request of n rows as columns of n values each; ValueError where it is not one."""
    n = len(record.ids)
    columns: _Columns = {
        ID: record.ids,
        TIME: [datetime.fromisoformat(text) for text in record.times],
        AT: [record.at] * n,
        RELEASE: [record.release] * n,
        REQUEST_ID: [record.request_id] * n,
        ROW: range(n),
        PREDICTION: record.predictions,
        **dict(zip(record.columns, zip(*record.rows, strict=True), strict=True)),
        **_probabilities(record),
    }
    if any(len(values) != n for values in columns.values()):
        raise ValueError("the lists of a request differ in length")
    return columns


def _probabilities(record: InferenceRecord) -> dict[str, list[float]]:
    by_row = record.probabilities
    if by_row is None:
        return {}
    classes = record.classes
    if not _class_columns(record):
        about = classes.index(record.positive or classes[-1])
        return {PROBABILITY: [row[about] for row in by_row]}
    predicted = [classes.index(str(label)) for label in record.predictions]
    return {
        PROBABILITY: [row[index] for row, index in zip(by_row, predicted, strict=True)],
        **{
            name: [row[index] for row in by_row]
            for index, name in enumerate(_class_columns(record))
        },
    }


def _class_columns(record: InferenceRecord) -> list[str]:
    """Name the probability columns of a request with more than two classes."""
    if record.probabilities is None or len(record.classes) <= 2:
        return []
    return [f"{PROBABILITY}_{label}" for label in record.classes]
