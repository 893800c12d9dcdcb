"""Where are the rows that a release was trained and judged on?"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import numpy as np
import pandas as pd

from modelyard.adapters.data.damage import damage_told
from modelyard.adapters.learning.outcomes import as_labels
from modelyard.domain.changelog import RowChange
from modelyard.domain.releases import Delivery, Snapshot
from modelyard.domain.values import Contract, MLTask, Span
from modelyard.errors import DataError


def store_snapshot(rows: pd.DataFrame, folder: Path, time: str | None) -> Snapshot:
    """Store rows as Parquet under their fingerprint; the same rows are stored once."""
    fingerprint = fingerprint_rows(rows)
    path = folder / f"{fingerprint}.parquet"
    if not _holds(path, fingerprint):  # what a disk or a person damaged is stored anew
        half = path.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
        rows.to_parquet(half, index=False)
        half.replace(path)
    return Snapshot(
        fingerprint=fingerprint,
        path=path.name,
        rows=len(rows),
        span=span_of(rows, time),
        columns=column_digests(rows),
    )


def _holds(path: Path, fingerprint: str) -> bool:
    try:
        return path.exists() and fingerprint_rows(read_stored(path)) == fingerprint
    except DataError:
        return False


def load_snapshot(snapshot: Snapshot, folder: Path) -> pd.DataFrame:
    """Return the rows of a snapshot. Raises DataError where they are gone or were changed."""
    path = folder / snapshot.path
    if not path.exists():
        raise DataError(
            f"The rows {snapshot.fingerprint[:12]} are missing: {path}. Restore the file from a "
            "backup, or deliver again from the data source."
        )
    rows = read_stored(path)
    if fingerprint_rows(rows) != snapshot.fingerprint:
        raise DataError(f"{path} was changed: its rows no longer hash to its name. Restore it.")
    return rows


def read_stored(path: Path) -> pd.DataFrame:
    """Return the rows of a Parquet file. Raises DataError for a damaged one."""
    with damage_told(path):
        return pd.read_parquet(path)


def compare_snapshots(before: Delivery, after: Delivery, folder: Path) -> RowChange | None:
    """Count the training rows that two deliveries share, by the columns that both have.

    None where the rows of one of them are no longer stored as they were.
    """
    try:
        old, new = load_snapshot(before.training, folder), load_snapshot(after.training, folder)
    except DataError:
        return None
    both = [name for name in new.columns if name in old.columns]
    # Rows may repeat: each is counted as often as it is there.
    counts = [pd.Series(row_hashes(rows[both])).value_counts() for rows in (old, new)]
    shared = int(pd.concat(counts, axis=1, keys=("old", "new")).dropna().min(axis=1).sum())
    return RowChange(
        shared=shared,
        added=len(new) - shared,
        removed=len(old) - shared,
        target=_target_means(before.contract, old, after.contract, new),
    )


def _target_means(
    before: Contract, old: pd.DataFrame, after: Contract, new: pd.DataFrame
) -> tuple[float, float] | None:
    same = (before.task, before.target, before.positive) == (
        after.task,
        after.target,
        after.positive,
    )
    if not same or after.task is MLTask.MULTICLASS:
        return None
    if after.positive is None:
        return float(old[after.target].mean()), float(new[after.target].mean())
    shares = [
        (as_labels(rows[after.target], after) == after.positive).mean() for rows in (old, new)
    ]
    return float(shares[0]), float(shares[1])


def fingerprint_rows(rows: pd.DataFrame) -> str:
    """Return sha256 over column names, types and the hash of each row, in order (hex)."""
    digest = hashlib.sha256()
    digest.update(repr([(str(name), str(kind)) for name, kind in rows.dtypes.items()]).encode())
    digest.update(row_hashes(rows).tobytes())
    return digest.hexdigest()


def column_digests(rows: pd.DataFrame) -> dict[str, str]:
    """Return 16 hex digits over each column's type and values in order, by name."""
    return {
        str(name): hashlib.sha256(
            str(values.dtype).encode()
            + pd.util.hash_pandas_object(values, index=False).to_numpy().tobytes()
        ).hexdigest()[:16]
        for name, values in rows.items()
    }


def row_hashes(rows: pd.DataFrame) -> np.ndarray:
    """Return a 64-bit hash of each row's values, shape (rows,)."""
    return pd.util.hash_pandas_object(rows, index=False).to_numpy()


def span_of(rows: pd.DataFrame, time: str | None) -> Span:
    """Return the first and last event time of rows."""
    if time is None or rows.empty:
        return Span()
    return Span(start=rows[time].min().to_pydatetime(), end=rows[time].max().to_pydatetime())
