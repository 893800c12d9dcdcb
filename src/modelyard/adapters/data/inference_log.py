"""Which predictions were made, with their features, ids, times, releases and labels?

Replicas append lines to segments in a folder (see `serving/inference_log.py`). `rotate` turns the
closed ones into Parquet in an archive, a file each, and bounds what is kept. Where both exist for
a segment, the Parquet file counts. DuckDB reads them: only the files, columns and row groups that
are asked for, with a bound on memory.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.adapters.data.damage import damage_told, read_stored
from modelyard.adapters.data.log_archive import DAMAGED_SUFFIX, ArchivedSegment, LogArchive
from modelyard.adapters.data.log_query import (
    LABEL_TIME,
    Labels,
    LogSpan,
    late_query,
    log_query,
    log_span,
    quoted,
    repeats_query,
)
from modelyard.adapters.data.log_rotation import MEND, rotate
from modelyard.adapters.data.log_segments import (
    AT,
    FIXED,
    ID,
    INSTANT,
    LAST,
    PREDICTION,
    PROBABILITY,
    RELEASE,
    REQUEST_ID,
    ROW,
    TIME,
    read_segment,
)
from modelyard.domain.values import as_utc
from modelyard.errors import DataError
from modelyard.serving.inference_log import SEGMENT_SUFFIX

__all__ = [
    "AT",
    "ID",
    "LABEL_TIME",
    "PREDICTION",
    "PROBABILITY",
    "RELEASE",
    "REQUEST_ID",
    "ROW",
    "TIME",
    "Labels",
    "PredictionLog",
]

T = TypeVar("T")

MEMORY = "512MB"
"""What reading may take; what does not fit is put aside on disk."""

_BATCH_ROWS = 50_000
_TRIES = 3
_log = logging.getLogger(__name__)


class _GoneError(DataError):
    """A file was removed, as too old or damaged, between it was found and it was read."""


@dataclass
class _Sources:
    """What the log consists of at one moment."""

    archived: list[ArchivedSegment]
    open: list[pa.Table]


class PredictionLog:
    """The inference log of one model: open segments in a folder, closed ones in an archive."""

    def __init__(self, folder: Path, archive: str | None = None, *, memory: str = MEMORY) -> None:
        """Name the folder that replicas append to, and a folder or URL; None is the same folder."""
        self._folder = folder
        self._archive = LogArchive(archive or str(folder))
        self._memory = memory

    def read(
        self,
        start: datetime,
        end: datetime,
        *,
        columns: Sequence[str] | None = None,
        labels: Labels | None = None,
    ) -> pd.DataFrame:
        """Return the logged rows with event time in [start, end), in the order of event time.

        One row a prediction: `__id`, `__time`, `__at` (when it was made), `__release`,
        `__request_id`, `__row` (its number in the request), the features, `__prediction` (a number,
        or a class label), `__probability`, and for more than two classes `__probability_<class>`;
        or `columns` of these alone. With `labels` also `label` and `label_time`, missing where none
        is known: the one of the row's id that became known last. Times are in UTC; a naive bound is
        taken as UTC. A request that was retried, and so logged by two replicas, counts once.

        A file of the archive that cannot be read is set aside, and read on without: `damaged` names
        it. Raises DataError naming a file of labels that is damaged.
        """
        return self.fold(start, end, _as_frame, columns=columns, labels=labels)

    def fold(
        self,
        start: datetime,
        end: datetime,
        make: Callable[[pa.RecordBatchReader], T],
        *,
        columns: Sequence[str] | None = None,
        labels: Labels | None = None,
    ) -> T:
        """Return what is made of the rows of `read`, for more rows than memory has room for.

        `make` takes them as Arrow batches. It is called again, from the first row, where a file
        was removed as too old while it was read.
        """
        for _ in range(_TRIES):
            with (
                suppress(_GoneError),
                self._reading(log_span(start, end), columns, labels) as reader,
            ):
                return make(reader)
        raise self._unreadable()

    def served(self, start: datetime, end: datetime) -> dict[str, int]:
        """Return how many of the rows of `read` each release answered, the busiest first."""
        return self.fold(start, end, _releases, columns=[RELEASE])

    def repeated_ids(self, start: datetime, end: datetime) -> int:
        """Return how many of the rows of `read` have the id of another one."""
        span = log_span(start, end)
        for _ in range(_TRIES):
            with suppress(_GoneError), self._connected(self._sources(span)) as connection:
                found = connection.execute(repeats_query(span), [span.start, span.end]).fetchone()
                return int(found[0]) if found else 0
        raise self._unreadable()

    def answered(
        self,
        release: str,
        start: datetime,
        end: datetime,
        *,
        most: int,
        labels: Labels | None = None,
        mirrored: bool = False,
    ) -> pd.DataFrame:
        """Return likewise the rows that a release answered in [start, end), whatever their time.

        Of more than `most`, as many are drawn, in no order; the same ones each time. With
        `mirrored` those are returned that it answered in the shadow, and which no other method
        returns. Damaged files are set aside as by `read`.
        """
        span = replace(
            log_span(start, end), column=AT, release=release, most=most, mirrored=mirrored
        )
        for _ in range(_TRIES):
            with suppress(_GoneError), self._reading(span, None, labels) as reader:
                return _as_frame(reader)
        raise self._unreadable()

    def batches(
        self,
        start: datetime,
        end: datetime,
        *,
        columns: Sequence[str] | None = None,
        labels: Labels | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `read` as Arrow batches, for more rows than memory has room for."""
        with self._reading(log_span(start, end), columns, labels) as reader:
            yield from reader

    def span(self) -> tuple[datetime, datetime] | None:
        """Return the earliest and latest event time, UTC; None where the log is empty.

        Those of files that were set aside count: windows that lack their rows are windows.
        """
        sources = self._sources()
        archived = (*sources.archived, *self._archive.set_aside_segments())
        times = [moment for s in archived for moment in (s.first, s.last)]
        for table in sources.open:
            bounds = pc.min_max(table[TIME]).as_py()  # pyright: ignore[reportAttributeAccessIssue]
            times += [bounds["min"], bounds["max"]]
        return (min(times), max(times)) if times else None

    def late(self, windows: Sequence[tuple[datetime, datetime, datetime]]) -> list[bool]:
        """Return for each window, of start, end and when it was read, whether it got rows since.

        Copies that a release in the shadow answered are no rows. Damaged files are set aside as by
        `read`.
        """
        if not windows:
            return []
        starts, ends, read = zip(*windows, strict=True)
        asked = pa.table(
            {
                "number": range(len(windows)),
                **{
                    name: pa.array(map(as_utc, times), INSTANT)
                    for name, times in (("first", starts), ("beyond", ends), ("read_at", read))
                },
            }
        )
        span = replace(log_span(min(starts), max(ends)), since=as_utc(min(read)))
        for _ in range(_TRIES):
            with suppress(_GoneError), self._connected(self._sources(span)) as connection:
                connection.register("asked", asked)
                found = connection.sql(late_query()).to_arrow_table()["number"].to_pylist()
                return [number in found for number in range(len(windows))]
        raise self._unreadable()

    def known(self, ids: Iterable[str]) -> set[str]:
        """Return those of some row ids that a prediction was ever made for."""
        asked = pa.table({ID: pa.array(list(dict.fromkeys(ids)), pa.string())})
        with self._connected(self._sources()) as connection:
            connection.register("asked", asked)
            found = connection.sql(f"SELECT {ID} FROM asked SEMI JOIN logged USING ({ID})")
            return set(found.to_arrow_table()[ID].to_pylist())

    def damaged(self) -> tuple[str, ...]:
        """Return the names of the files that were set aside, sorted, as long as they are there.

        Of a `.jsonl.damaged` some lines are no logged requests, and the others count; of a
        `.parquet.damaged` no row does.
        """
        open_ones = {path.name for path in self._folder.glob(f"*{DAMAGED_SUFFIX}")}
        return tuple(sorted(open_ones.union(self._archive.damaged())))

    def rotate(
        self, *, now: datetime, keep: timedelta | None = None, max_bytes: int | None = None
    ) -> list[str]:
        """Archive closed segments within bounds: `log_rotation.rotate` of this log."""
        return rotate(self._folder, self._archive, now=now, keep=keep, max_bytes=max_bytes)

    @contextmanager
    def _reading(
        self, span: LogSpan, columns: Sequence[str] | None, labels: Labels | None
    ) -> Iterator[pa.RecordBatchReader]:
        with self._connected(self._sources(span)) as connection, _damaged_labels_told(labels):
            query = log_query(connection.view("logged").columns, span, columns, labels)
            given = [span.start, span.end]
            if labels and labels.files():
                given.append(as_utc(labels.known_by))
            yield _in_utc(connection.sql(query, params=given).to_arrow_reader(_BATCH_ROWS))

    @contextmanager
    def _damage_told(self, sources: _Sources) -> Iterator[None]:
        """Set aside the files that the database could not read: who tries again reads without."""
        try:
            yield
        except duckdb.Error as err:
            gone = [segment.path for segment in sources.archived if not self._is_whole(segment)]
            if gone:
                raise _GoneError(
                    f"{', '.join(gone)}: removed or set aside while it was read. Try again."
                ) from err
            raise

    def _is_whole(self, segment: ArchivedSegment) -> bool:
        """Return whether a file is there and can be read; one that cannot is set aside."""
        try:
            with damage_told(Path(segment.path), MEND):
                self._archive.open(segment).read()
        except FileNotFoundError:
            return False
        except DataError as damage:
            self._archive.set_aside(segment)
            _log.warning("%s It was set aside as %s.", damage, f"*{DAMAGED_SUFFIX}")
            return False
        return True

    def _unreadable(self) -> DataError:
        return DataError(
            f"The inference log {self._folder} loses files faster than it can be read."
        )

    def _sources(self, span: LogSpan | None = None) -> _Sources:
        """Return the archived segments that can hold a span of time, and the rows of the others.

        The open ones are looked up first: what is archived in between is then found twice, and
        the Parquet file counts; the other way round it would not be found at all.
        """
        with ExitStack() as opened:
            lines: dict[str, tuple[Path, IO[bytes]]] = {}
            for path in sorted(self._folder.glob(f"*{SEGMENT_SUFFIX}")):
                try:
                    lines[path.stem] = path, opened.enter_context(path.open("rb"))
                except FileNotFoundError:
                    continue
            archived = self._archive.segments()
            for segment in archived:
                lines.pop(segment.stem, None)
            tables = []
            for path, file in lines.values():
                with damage_told(path, MEND):
                    tables.append(read_segment(file, span and span.may_count).table)
        return _Sources(
            [segment for segment in archived if span is None or span.may_be_in(segment)],
            [table for table in tables if table.num_rows],
        )

    @contextmanager
    def _connected(self, sources: _Sources) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a database with a view `logged` of all these rows."""
        with (
            self._damage_told(sources),
            tempfile.TemporaryDirectory() as scratch,
            duckdb.connect(
                config={
                    "memory_limit": self._memory,
                    "temp_directory": scratch,
                    "autoinstall_known_extensions": False,
                    "preserve_insertion_order": False,
                }
            ) as connection,
        ):
            connection.register_filesystem(self._archive.storage)
            connection.register("nothing", pa.schema([*FIXED, *LAST]).empty_table())
            parts = ["SELECT * FROM nothing"]
            for number, table in enumerate(sources.open):
                connection.register(f"open_{number}", table)
                parts.append(f"SELECT * FROM open_{number}")
            if sources.archived:
                files = ", ".join(quoted(segment.path) for segment in sources.archived)
                parts.append(f"SELECT * FROM read_parquet([{files}], union_by_name=true)")
            connection.execute(f"CREATE VIEW logged AS {' UNION ALL BY NAME '.join(parts)}")
            yield connection


def _as_frame(reader: pa.RecordBatchReader) -> pd.DataFrame:
    return reader.read_all().to_pandas()


def _releases(batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for batch in batches:
        for release in batch.column(RELEASE).value_counts().to_pylist():
            counted[release["values"]] += release["counts"]
    return dict(counted.most_common())


@contextmanager
def _damaged_labels_told(labels: Labels | None) -> Iterator[None]:
    try:
        yield
    except duckdb.Error:
        for file in labels.files() if labels else ():
            read_stored(Path(file))
        raise


def _in_utc(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Tell the same instants in UTC: the database tells them in the zone of this machine."""
    schema = pa.schema(
        [f.with_type(INSTANT) if pa.types.is_timestamp(f.type) else f for f in reader.schema]
    )
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in reader))
