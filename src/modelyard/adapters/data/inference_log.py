"""Which predictions were made, with their features, ids, times and releases?

Replicas append JSON lines to segments (see `serving/inference_log.py`); `compact` turns closed
segments into Parquet, one file each. Where both exist for a segment, the Parquet file counts.
A line that is no request (somebody edited the file, a disk failed) is left out, and its segment is
set aside as it is, with `.damaged` at the end of its name.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelyard.adapters.data.damage import damage_told
from modelyard.domain.values import as_utc
from modelyard.serving.inference_log import SEGMENT_SUFFIX, InferenceRecord

ID = "__id"
TIME = "__time"
AT = "__at"
RELEASE = "__release"
REQUEST_ID = "__request_id"
ROW = "__row"
PREDICTION = "__prediction"
PROBABILITY = "__probability"
"""Of the positive class; of the predicted class where there are more than two."""

_Columns = dict[str, Sequence[Any]]
"""The n rows of a request, as n values of each column."""

_MEND = "Restore it from a backup, or move it away: monitoring then goes on without its rows."

_log = logging.getLogger(__name__)

_INSTANT = pa.timestamp("us", tz="UTC")
_FIXED = pa.schema(
    [
        (ID, pa.string()),
        (TIME, _INSTANT),
        (AT, _INSTANT),
        (RELEASE, pa.string()),
        (REQUEST_ID, pa.string()),
        (ROW, pa.int64()),
    ]
)
_LAST = (PREDICTION, PROBABILITY)


def read_predictions(folder: Path, start: datetime, end: datetime) -> pd.DataFrame:
    """Return the logged rows with event time in [start, end), in the order of event time.

    One row a prediction: `__id`, `__time`, `__at` (when it was made), `__release`,
    `__request_id`, `__row` (its number in the request), the features, `__prediction` (a number,
    or a class label), `__probability`, and for more than two classes `__probability_<class>`.
    Times are in UTC; a naive bound is taken as UTC. A request that was retried, and so logged by
    two replicas, counts once. A torn last line, which a crash can leave, was never answered and is
    left out.
    """
    bounds = as_utc(start), as_utc(end)
    stems = sorted({path.stem for path in folder.glob("*") if _is_segment(path)})
    tables = [_between(_read_segment(folder, stem), *bounds) for stem in stems]
    rows = _concatenate([table for table in tables if table.num_rows]).to_pandas()
    rows = rows.sort_values([AT, REQUEST_ID, ROW], kind="stable")
    rows = rows.drop_duplicates([REQUEST_ID, ROW, ID])
    rows = rows.sort_values(TIME, kind="stable", ignore_index=True)
    middle = [name for name in rows.columns if name not in {*_FIXED.names, *_LAST}]
    return rows[[*_FIXED.names, *middle, *_LAST]]


def event_span(folder: Path) -> tuple[datetime, datetime] | None:
    """Return the earliest and latest event time in the log, UTC; None where it is empty."""
    stems = sorted({path.stem for path in folder.glob("*") if _is_segment(path)})
    times = [_read_segment(folder, stem, [TIME])[TIME] for stem in stems]
    bounds = [pc.min_max(column).as_py() for column in times if len(column)]  # pyright: ignore[reportAttributeAccessIssue]
    if not bounds:
        return None
    return min(b["min"] for b in bounds), max(b["max"] for b in bounds)


def logged_ids(folder: Path) -> set[str]:
    """Return the id of every row that was ever predicted."""
    stems = {path.stem for path in folder.glob("*") if _is_segment(path)}
    return {i for stem in stems for i in _read_segment(folder, stem, [ID])[ID].to_pylist()}


def compact(folder: Path) -> list[Path]:
    """Turn the segments that no live replica writes into Parquet and return the new files.

    Safe at any time and from several processes: a segment is locked by who writes or compacts it,
    the Parquet file appears whole, and until the segment is removed readers prefer the former.
    """
    made = []
    for segment in sorted(folder.glob(f"*{SEGMENT_SUFFIX}")):
        target = segment.with_suffix(".parquet")
        try:
            with segment.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not segment.exists():
                    continue  # another compaction was first
                requests, damaged = _read_requests(file)
                if not target.exists() and requests:
                    with damage_told(segment, _MEND):
                        _write_parquet(_to_table(requests), target)
                    made.append(target)
                if damaged:
                    _set_aside(segment, damaged)
                else:
                    segment.unlink()
        except (FileNotFoundError, BlockingIOError):
            continue
    return made


def _set_aside(segment: Path, damaged: list[int]) -> None:
    aside = segment.with_name(f"{segment.name}.damaged")
    segment.rename(aside)
    _log.warning(
        "%s: %d lines are no logged requests and were left out, first line %d.",
        *(aside, len(damaged), damaged[0]),
    )


def _read_segment(folder: Path, stem: str, columns: list[str] | None = None) -> pa.Table:
    """Return a segment's rows, also when it is compacted just now; all columns, or these."""
    parquet, segment = folder / f"{stem}.parquet", folder / f"{stem}{SEGMENT_SUFFIX}"
    try:
        if not parquet.exists():
            with segment.open("rb") as file, damage_told(segment, _MEND):
                table = _to_table(_read_requests(file)[0])
                return table.select(columns) if columns else table
    except FileNotFoundError:
        if not parquet.exists():
            return _FIXED.empty_table()  # it was empty, and is gone
    with damage_told(parquet, _MEND):
        return pq.ParquetFile(parquet).read(columns=columns)


def _is_segment(path: Path) -> bool:
    return path.suffix in (SEGMENT_SUFFIX, ".parquet") and not path.name.startswith(".")


def _read_requests(lines: Iterable[bytes]) -> tuple[list[_Columns], list[int]]:
    """Return a segment's requests up to a torn last line, and the numbers of damaged lines."""
    requests: list[_Columns] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break
        try:
            requests.append(_columns(InferenceRecord.model_validate_json(line)))
        except (ValueError, IndexError):  # it is no record, or its lists do not fit together
            damaged.append(number)
    return requests, damaged


def _to_table(requests: list[_Columns]) -> pa.Table:
    """Return requests as one row a prediction."""
    names = dict.fromkeys(
        (*_FIXED.names, *_LAST, *(name for columns in requests for name in columns))
    )
    merged: dict[str, list[Any]] = {name: [] for name in names}
    for columns in requests:
        absent = [None] * len(columns[ID])
        for name, values in merged.items():
            values.extend(columns.get(name, absent))
    return pa.table(
        {
            name: pa.array(values, _FIXED.field(name).type if name in _FIXED.names else None)
            for name, values in merged.items()
        }
    )


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


def _between(table: pa.Table, start: datetime, end: datetime) -> pa.Table:
    times = table[TIME]
    return table.filter(
        pc.and_(  # pyright: ignore[reportAttributeAccessIssue]  # pyarrow makes it at run time
            pc.greater_equal(times, pa.scalar(start, _INSTANT)),  # pyright: ignore[reportAttributeAccessIssue]
            pc.less(times, pa.scalar(end, _INSTANT)),  # pyright: ignore[reportAttributeAccessIssue]
        )
    )


def _concatenate(tables: list[pa.Table]) -> pa.Table:
    """Return all rows; a column that releases typed differently becomes text."""
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for column in table.schema:
            if column.type != pa.null():
                kinds.setdefault(column.name, set()).add(column.type)
    for name in (name for name, types in kinds.items() if len(types) > 1):
        tables = [
            t.set_column(t.schema.get_field_index(name), name, t[name].cast(pa.string()))
            if name in t.column_names
            else t
            for t in tables
        ]
    empty = pa.schema([*_FIXED, (PREDICTION, pa.null()), (PROBABILITY, pa.float64())]).empty_table()
    return pa.concat_tables([empty, *tables], promote_options="default")


def _write_parquet(table: pa.Table, target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    pq.write_table(table, draft, compression="zstd")
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)
