"""Where does every prediction go, so that a kill -9 loses none that was answered?

One JSON line a request, written with a single `write` to a file opened for appending: what the
kernel took, the death of the process does not lose. The first line of a segment tells what all of
its requests share. A replica holds a lock on the segment that it writes, so that a reader of any
process or container knows which segments are closed.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from modelyard.domain.values import Contract, Value

SEGMENT_SUFFIX = ".jsonl"
DEFAULT_SEGMENT_BYTES = 32 * 2**20
DEFAULT_SEGMENT_AGE = timedelta(hours=1)
"""A segment that is older takes no more requests: what is closed can be rotated."""

WAITING_BYTES = 16 * 2**20
"""What of a log may wait in memory while its disk is full."""

HEADER_KEY = "kinds"
"""Only a segment's first line has it: the kind of each column by its name."""

_log = logging.getLogger(__name__)


class InferenceRecord(Value):
    """One request: n rows with what was said about them."""

    request_id: str
    at: datetime
    release: str
    replica: str
    columns: tuple[str, ...]
    """The features, in the order of each row."""
    ids: list[str]
    times: list[str]
    """Event times, ISO 8601 in UTC."""
    rows: list[list[float | str | None]]
    predictions: list[float | None] | list[str]
    probabilities: list[list[float]] | None
    classes: tuple[str, ...]
    positive: str | None


def utc_now() -> datetime:
    return datetime.now(UTC)


class InferenceLog:
    """Appends the requests of one replica to segments in a folder."""

    def __init__(
        self,
        folder: Path,
        release: str,
        *,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        segment_age: timedelta = DEFAULT_SEGMENT_AGE,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Open the first segment; raises OSError when the folder cannot be written to."""
        self._folder = folder
        self._release = release
        self._segment_bytes = segment_bytes
        self._segment_age = segment_age
        self._clock = clock
        self._header = b""
        self._fd: int | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._open()

    @property
    def segment(self) -> Path:
        """The file that is written to now."""
        return self._path

    def describe(self, contract: Contract, replica: str) -> None:
        """Let each segment begin with what all of its requests share; none has to repeat it."""
        shared = {
            HEADER_KEY: {column.name: column.kind for column in contract.columns},
            "classes": contract.classes,
            "positive": contract.positive,
            "release": self._release,
            "replica": replica,
        }
        self._header = orjson.dumps(shared) + b"\n"

    def append(self, record: InferenceRecord) -> None:
        """Write one request; returns once the kernel has it.

        Raises OSError when it cannot (a full disk); what was written of the line is then taken
        back, so that a torn line is always a segment's last. The request waits in memory, as far as
        `WAITING_BYTES` go, and is written after the next one that can be.
        """
        # model_construct'ed records hold plain values: no need of pydantic, which is slower
        self.append_lines([orjson.dumps(record.__dict__)])

    def append_lines(self, lines: Sequence[bytes]) -> None:
        """Write requests that are encoded already, all or none, as `append` does."""
        data = b"\n".join([*lines, b""])
        try:
            self._write(data)
        except OSError:
            if self._waiting_bytes + len(data) <= WAITING_BYTES:
                self._waiting.append(data)
                self._waiting_bytes += len(data)
            raise
        if self._waiting:
            self._write_waiting()

    def _write_waiting(self) -> None:
        """Write what had no room before, as far as there is room now."""
        while self._waiting:
            try:
                self._write(self._waiting[0])
            except OSError:
                return
            self._waiting_bytes -= len(self._waiting.popleft())

    def _write(self, data: bytes) -> None:
        if self._size and self._is_full(len(data)):
            self._close_segment()
        fd = self._open() if self._fd is None else self._fd
        if not self._size:
            data = self._header + data
        written = 0
        try:
            while written < len(data):
                written += os.write(fd, data[written:])
        except OSError:
            self._take_back(fd)
            raise
        self._size += written

    def _is_full(self, more_bytes: int) -> bool:
        too_large = self._size + more_bytes > self._segment_bytes
        return too_large or self._clock() - self._opened_at > self._segment_age

    def _take_back(self, fd: int) -> None:
        try:
            os.ftruncate(fd, self._size)
        except OSError:  # the torn line stays: let it be this segment's last
            self._close_segment()

    def close(self) -> None:
        """Write what still waits, and close the segment: anyone may compact it now.

        A later request opens the next one.
        """
        self._write_waiting()
        if self._waiting:
            _log.error("%d bytes of the inference log had no room to the end", self._waiting_bytes)
        self._close_segment()

    def _close_segment(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def _open(self) -> int:
        while True:
            start = self._clock().astimezone(UTC)
            name = f"{start:%Y%m%dT%H%M%S%fZ}-{self._release}-{os.getpid()}"
            path, fd = _create(self._folder, name)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                break
            os.close(fd)  # a compaction took the empty file away before it was locked
        self._path, self._fd, self._size, self._opened_at = path, fd, 0, start
        return fd


def _create(folder: Path, name: str) -> tuple[Path, int]:
    """Create a segment of that name; replicas in containers may share process id and second."""
    number = 0
    while True:
        path = folder / f"{name}{f'.{number}' if number else ''}{SEGMENT_SUFFIX}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            return path, os.open(path, flags, 0o644)
        except FileExistsError:
            number += 1
