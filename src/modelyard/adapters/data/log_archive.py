"""Where are the closed segments of an inference log, and which of them can hold a span of time?

A folder, or a URL that fsspec knows. A file's name says which segment it is and from when to when
its rows are, so that what cannot be wanted is not even opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from modelyard.adapters.data.log_segments import TIME

DAMAGED_SUFFIX = ".damaged"
_STAMP = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(
    r"(?P<stem>(?P<begun>\d{8}T\d{12}Z).*)\.from-(?P<first>\d{8}T\d{12}Z)-to-(?P<last>\d{8}T\d{12}Z)\.parquet"
)


@dataclass(frozen=True)
class ArchivedSegment:
    """One Parquet file."""

    path: str
    """As its storage names it, with the protocol."""
    stem: str
    """The segment's name without suffix."""
    begun: datetime
    """When the segment was opened; its requests are at most an hour younger."""
    first: datetime
    last: datetime
    """Event times of its first and last row."""
    size_bytes: int


class LogArchive:
    """The Parquet files of one model's inference log."""

    def __init__(self, url: str) -> None:
        self.storage, root = fsspec.url_to_fs(url)
        self._root = str(root).rstrip("/")
        self._local = isinstance(self.storage, LocalFileSystem)

    def segments(self) -> list[ArchivedSegment]:
        """Return all segments, in the order in which they were opened."""
        return self._segments("")

    def set_aside_segments(self) -> list[ArchivedSegment]:
        """Return likewise those that were set aside."""
        return self._segments(DAMAGED_SUFFIX)

    def _segments(self, suffix: str) -> list[ArchivedSegment]:
        self.storage.invalidate_cache()
        with suppress(FileNotFoundError):
            found = self.storage.ls(self._root, detail=True)
            return sorted(self._known(found, suffix), key=lambda segment: segment.stem)
        return []

    def put(self, stem: str, table: pa.Table, scratch: Path) -> str:
        """Store a segment's rows, at once or not at all, and return the file's name.

        `scratch` is a folder for the draft; on local storage it must be on the archive's disk.
        """
        bounds = pc.min_max(table[TIME]).as_py()  # pyright: ignore[reportAttributeAccessIssue]  # made at run time
        name = f"{stem}.from-{bounds['min']:{_STAMP}}-to-{bounds['max']:{_STAMP}}.parquet"
        draft = scratch / f".{name}.part"
        pq.write_table(table, draft, compression="zstd")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        if self._local:
            target = Path(self._root) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
            _sync_folder(target.parent)
        else:
            self.storage.put_file(str(draft), f"{self._root}/{name}")
            draft.unlink()
        return name

    def remove(self, segment: ArchivedSegment) -> None:
        """Remove a file; nothing is done for one that is gone."""
        with suppress(FileNotFoundError):
            self.storage.rm_file(self.storage._strip_protocol(segment.path))

    def set_aside(self, segment: ArchivedSegment) -> None:
        """Keep a file that cannot be read under another name; nothing is done for one that is gone.

        Nobody takes it for a segment any more, until its name is given back.
        """
        with suppress(FileNotFoundError):
            path = self.storage._strip_protocol(segment.path)
            self.storage.mv(path, f"{path}{DAMAGED_SUFFIX}")

    def damaged(self) -> list[str]:
        """Return the names of the files that were set aside, sorted."""
        self.storage.invalidate_cache()
        with suppress(FileNotFoundError):
            names = (path.rpartition("/")[2] for path in self.storage.ls(self._root, detail=False))
            return sorted(name for name in names if name.endswith(DAMAGED_SUFFIX))
        return []

    def open(self, segment: ArchivedSegment) -> pq.ParquetFile:
        return pq.ParquetFile(self.storage.open(segment.path, "rb"))

    def _known(self, found: list[dict], suffix: str) -> Iterator[ArchivedSegment]:
        for entry in found:
            name = entry["name"].rpartition("/")[2]
            named = _NAME.fullmatch(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if named is None or entry["type"] != "file":
                continue
            yield ArchivedSegment(
                path=entry["name"] if self._local else self.storage.unstrip_protocol(entry["name"]),
                stem=named["stem"],
                begun=_moment(named["begun"]),
                first=_moment(named["first"]),
                last=_moment(named["last"]),
                size_bytes=int(entry["size"] or 0),
            )


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _STAMP).replace(tzinfo=UTC)


def _sync_folder(folder: Path) -> None:
    """Let a crash of the machine not forget the name of a file that was just written."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
