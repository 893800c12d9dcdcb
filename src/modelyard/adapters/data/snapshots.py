"""Where are the rows that a release was trained and judged on, and are they still the same?"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.adapters.data.damage import read_stored
from modelyard.adapters.data.hashes import column_digests, fingerprint_rows
from modelyard.adapters.data.references import read_reference, refer_to_rows, reference_changes
from modelyard.adapters.data.selection import Part, Selection
from modelyard.config import ModelConfig
from modelyard.domain.releases import Change, Learnt, Snapshot
from modelyard.domain.values import Span
from modelyard.errors import DataError
from modelyard.project import Project

_ROWS_AT_ONCE = 100_000


class Found(NamedTuple):
    """The rows of a snapshot as they are now."""

    rows: pd.DataFrame | None
    """None where the file cannot be read at all."""
    changes: tuple[Change, ...]
    """What is not as it was recorded; empty where the rows are proven to be the same."""


def store_snapshot(
    project: Project,
    config: ModelConfig,
    selection: Selection,
    part: Part,
    as_of: datetime | None,
    since: datetime | None = None,
) -> Snapshot:
    """Store rows as Parquet under their fingerprint; the same rows are stored once.

    What would be larger than the platform's `snapshots.max_size` is recorded by reference.
    """
    rows = selection.part(part)
    fingerprint = fingerprint_rows(rows)
    path = project.snapshot_folder() / f"{fingerprint}.parquet"
    limit = project.platform.snapshots.max_size
    # What a disk or a person damaged is stored anew.
    copied = _holds(path, fingerprint) or _write(rows, path, limit)
    everything = span_of(selection.rows, config.data.time)
    return Snapshot(
        fingerprint=fingerprint,
        path=path.name if copied else None,
        rows=len(rows),
        span=span_of(rows, config.data.time),
        columns=column_digests(rows),
        reference=(
            None
            if copied
            else refer_to_rows(project, config, part, rows, as_of, everything.end, since)
        ),
    )


def load_snapshot(
    snapshot: Snapshot, project: Project, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the rows of a snapshot, or only these columns of them.

    Raises DataError where they are gone or were changed.
    """
    if columns is not None:
        rows = _read_columns(snapshot, project, columns)
        return load_snapshot(snapshot, project)[list(columns)] if rows is None else rows
    found = find_snapshot(snapshot, project)
    if found.rows is None:
        raise DataError(found.changes[0].found)
    if not found.changes:
        return found.rows
    what = "; ".join(f"{c.name}: {c.recorded}, now {c.found}" for c in found.changes)
    if snapshot.reference is not None:
        raise DataError(
            f"The rows {snapshot.fingerprint[:12]} were recorded by reference, and their source "
            f"was changed: {what}. Restore the source, or deliver again; to have rows copied, "
            "raise snapshots.max_size in configs/platform.yaml."
        )
    raise DataError(
        f"{project.snapshot_folder() / str(snapshot.path)} was changed: its rows no longer hash "
        f"to its name ({what}). Restore the file from a backup."
    )


def load_learnt(
    learnt: Learnt, project: Project, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the rows that a model was fitted on, in time order, or only these columns of them.

    Raises DataError likewise.
    """
    return join_rows([load_snapshot(snapshot, project, columns) for snapshot in learnt.snapshots])


def join_rows(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of one frame after those of another, as they were before they were split."""
    if len(parts) == 1:
        return parts[0]
    # Parquet types a column of objects by the values that it holds, so parts may differ in it.
    mixed = [name for name in parts[0] if len({part[name].dtype for part in parts}) > 1]
    alike = [part.astype(dict.fromkeys(mixed, object)) for part in parts]
    return pd.concat(alike, ignore_index=True)


def find_snapshot(snapshot: Snapshot, project: Project) -> Found:
    """Return a snapshot's rows as they are now, and what differs from the recorded ones.

    Raises DataError where they are gone, or their source cannot be read.
    """
    if snapshot.reference is not None:
        rows = read_reference(snapshot.reference, project)
    else:
        path = project.snapshot_folder() / str(snapshot.path)
        if not path.exists():
            raise DataError(
                f"The rows {snapshot.fingerprint[:12]} are missing: {path}. Restore the file from "
                "a backup, or deliver again from the data source."
            )
        try:
            rows = read_stored(path)
        except DataError as err:
            return Found(None, (Change(name="file", recorded="whole", found=str(err)),))
    if fingerprint_rows(rows) == snapshot.fingerprint:
        return Found(rows, ())
    changes = _changes(snapshot, rows)
    if snapshot.reference is not None:
        changes = (*reference_changes(snapshot.reference, project, rows), *changes)
    return Found(rows, changes)


def span_of(rows: pd.DataFrame, time: str | None) -> Span:
    """Return the first and last event time of rows."""
    if time is None or rows.empty:
        return Span()
    return Span(start=rows[time].min().to_pydatetime(), end=rows[time].max().to_pydatetime())


def _read_columns(
    snapshot: Snapshot, project: Project, columns: Sequence[str]
) -> pd.DataFrame | None:
    """Return columns of a copied snapshot, or None where it does not prove them to be the same."""
    path = project.snapshot_folder() / str(snapshot.path)
    if snapshot.path is None or not path.exists():
        return None
    try:
        rows = read_stored(path, columns)
    except DataError:
        return None
    digests = {name: snapshot.columns.get(name) for name in columns}
    return rows if len(rows) == snapshot.rows and column_digests(rows) == digests else None


def _holds(path: Path, fingerprint: str) -> bool:
    try:
        return path.exists() and fingerprint_rows(read_stored(path)) == fingerprint
    except DataError:
        return False


def _write(rows: pd.DataFrame, path: Path, limit: int) -> bool:
    """Write rows as Parquet unless the file becomes larger than `limit` bytes; say whether."""
    half = path.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
    table = pa.Table.from_pandas(rows, preserve_index=False)
    try:
        with pq.ParquetWriter(half, table.schema) as writer:
            for start in range(0, max(1, len(rows)), _ROWS_AT_ONCE):
                writer.write_table(table.slice(start, _ROWS_AT_ONCE))
                if half.stat().st_size > limit:
                    break
        if half.stat().st_size > limit:
            return False
        half.replace(path)
        return True
    finally:
        half.unlink(missing_ok=True)


def _changes(snapshot: Snapshot, rows: pd.DataFrame) -> tuple[Change, ...]:
    """Say what rows that are not the recorded ones differ in; at least one change."""
    changes = []
    if len(rows) != snapshot.rows:
        changes.append(Change(name="rows", recorded=f"{snapshot.rows:,}", found=f"{len(rows):,}"))
    found = column_digests(rows)
    names = [*snapshot.columns, *(name for name in found if name not in snapshot.columns)]
    changes += [
        Change(
            name=f"column {name}",
            recorded=snapshot.columns.get(name, "absent"),
            found=found.get(name, "absent"),
        )
        for name in names
        if snapshot.columns and snapshot.columns.get(name) != found.get(name)
    ]
    if not changes:
        fingerprint = fingerprint_rows(rows)
        changes.append(
            Change(name="rows", recorded=snapshot.fingerprint[:12], found=fingerprint[:12])
        )
    return tuple(changes)
