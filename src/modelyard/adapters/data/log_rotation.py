"""How do a replica's closed segments become Parquet, and how much of them is kept?"""

from __future__ import annotations

import fcntl
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from modelyard.adapters.data.damage import damage_told
from modelyard.adapters.data.log_archive import DAMAGED_SUFFIX, LogArchive
from modelyard.adapters.data.log_segments import read_segment
from modelyard.serving.inference_log import SEGMENT_SUFFIX

MEND = "Restore it from a backup, or move it away: monitoring then goes on without its rows."
"""What to do about a file of the log that cannot be read."""

_log = logging.getLogger(__name__)


def rotate(
    folder: Path,
    archive: LogArchive,
    *,
    now: datetime,
    keep: timedelta | None = None,
    max_bytes: int | None = None,
) -> list[str]:
    """Turn a folder's segments that no live replica writes into Parquet; bound what is kept.

    Segments opened longer ago than `keep` are removed, and the oldest of the rest where they
    take more than `max_bytes`. Returns the names of the new files. Safe at any time and from
    several processes: a segment is locked by who writes or rotates it, the Parquet file appears
    whole, and until the segment is removed readers prefer the former.
    """
    there = {segment.stem for segment in archive.segments()}
    made: list[str] = []
    for segment in sorted(folder.glob(f"*{SEGMENT_SUFFIX}")):
        try:
            with segment.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if segment.exists():  # else another rotation was first
                    made += _archive_segment(segment, file, archive, segment.stem in there)
        except (FileNotFoundError, BlockingIOError):
            continue
    _prune(archive, now, keep, max_bytes)
    return made


def _archive_segment(
    segment: Path, lines: IO[bytes], archive: LogArchive, known: bool
) -> list[str]:
    """Archive a segment whose lock is held, unless it is `known` there."""
    folder = segment.parent
    for draft in folder.glob(f".{segment.stem}.from-*.part"):
        draft.unlink(missing_ok=True)  # of a rotation that was killed
    read = read_segment(lines)
    made = []
    if not known and read.table.num_rows:
        with damage_told(segment, MEND):
            made = [archive.put(segment.stem, read.table, folder)]
    if read.damaged:
        aside = segment.with_name(f"{segment.name}{DAMAGED_SUFFIX}")
        segment.rename(aside)
        _log.warning(
            "%s: %d lines are no logged requests and were left out, first line %d.",
            *(aside, len(read.damaged), read.damaged[0]),
        )
    else:
        segment.unlink()
    return made


def _prune(
    archive: LogArchive, now: datetime, keep: timedelta | None, max_bytes: int | None
) -> None:
    segments = archive.segments()
    size = sum(segment.size_bytes for segment in segments)
    for segment in sorted(segments, key=lambda s: s.begun):
        old = keep is not None and segment.begun < now - keep
        if not old and (max_bytes is None or size <= max_bytes):
            break
        archive.remove(segment)
        size -= segment.size_bytes
        _log.info("%s: removed, it is %s", segment.path, "too old" if old else "over the size")
