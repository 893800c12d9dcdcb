"""How are more rows profiled than memory has room for?

A source is given as parts that are read one batch after another: the row groups of Parquet files,
the answer of a database, chunks of a text file. Each part is counted by a builder of its own, and
these are merged in their order, so that two runs give the same profile to the bit, whatever the
number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.adapters.data.damage import damage_told
from modelyard.domain.profiles import Columns, Levels, Profile, ProfileBuilder, ReferenceSample
from modelyard.domain.values import ColumnKind, Contract
from modelyard.serving.features import as_category, as_number

if TYPE_CHECKING:  # as long to import as all else that profiling needs
    import pandas as pd

BATCH_ROWS = 65_536
_READ_BYTES = 2**20
_SAMPLED_PARTS = 16
"""Parts that a reference's bins are laid by, evenly spaced."""


def _scalar(kind: pa.DataType, value: np.generic) -> pa.Scalar:
    """Return a number as Arrow's, not by `pa.scalar` and likewise never by `to_numpy`: these import
    pandas, which takes longer than to profile a small window."""
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(value.tobytes())])[0]


_NAN = _scalar(pa.float64(), np.float64(np.nan))
_LAST = _scalar(pa.int64(), np.int64(-1))


Part = Callable[[], Iterator[Columns]]
"""Opens a part of a source, from its start each time: batches as a builder takes them."""


@dataclass(frozen=True)
class Layout:
    """Which columns of a source are profiled, and how each is read."""

    kinds: Mapping[str, ColumnKind]
    """By the name in the profile."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The source's name of a column, where it is another one."""

    def names(self) -> list[str]:
        """Return the source's names of all that is read."""
        return [self.columns.get(name, name) for name in self.kinds]


class ArrowReader:
    """Reads Arrow batches of one layout as a service reads its requests' cells.

    What a category is called is found out once a dictionary, not once a row. Raises RequestError
    for a text where a number is meant.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[str, tuple[pa.Array, np.ndarray, list[str]]] = {}

    def read(self, batch: pa.RecordBatch) -> Columns:
        """Return the layout's columns; one that the batch lacks is left out."""
        there = set(batch.schema.names)
        columns: dict[str, np.ndarray | Levels] = {}
        for name, kind in self._layout.kinds.items():
            source = self._layout.columns.get(name, name)
            if source in there:
                cells = batch.column(source)
                is_number = kind is ColumnKind.NUMERIC
                columns[name] = _numbers(name, cells) if is_number else self._levels(name, cells)
        return columns

    def _levels(self, name: str, cells: pa.Array) -> Levels:
        encoded: Any = cells if pa.types.is_dictionary(cells.type) else cells.dictionary_encode()
        known = self._known.get(name)
        if known is None or not known[0].equals(encoded.dictionary):
            texts = [
                as_category(name, row, v) for row, v in enumerate(encoded.dictionary.to_pylist())
            ]
            codes = np.array([*(-1 if t is None else i for i, t in enumerate(texts)), -1])
            known = encoded.dictionary, codes, [t or "" for t in texts]
            self._known[name] = known
        return Levels(known[1][_places(encoded)], known[2])


def _numbers(name: str, cells: pa.Array) -> np.ndarray:
    """Return cells as float64 with NaN for a missing one."""
    kind = cells.type
    if pa.types.is_boolean(kind):
        cells = cells.cast(pa.uint8())
    elif not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        encoded: Any = cells if pa.types.is_dictionary(kind) else cells.dictionary_encode()
        values = [as_number(name, row, v) for row, v in enumerate(encoded.dictionary.to_pylist())]
        return np.array([*values, np.nan])[_places(encoded)]
    return _as_numpy(cells.cast(pa.float64()), _NAN)


def _places(encoded: Any) -> np.ndarray:
    """Return each row's place in its dictionary; the last one for a missing cell."""
    return _as_numpy(encoded.indices.cast(pa.int64()), _LAST)


def _as_numpy(cells: pa.Array, missing: pa.Scalar) -> np.ndarray:
    """Return numbers as they lie in memory, with another number for a missing one."""
    return np.from_dlpack(cells.fill_null(missing) if cells.null_count else cells)


def profile_rows(parts: Sequence[Part], reference: Profile, *, threads: int = 1) -> Profile:
    """Profile the rows of all parts on the bins and levels of a reference.

    More threads take less time on idle cores, and hold a batch more each.
    """
    return _counted(ProfileBuilder(reference), parts, threads)


def profile_reference_rows(
    parts: Sequence[Part], kinds: Mapping[str, ColumnKind], *, threads: int = 1
) -> Profile:
    """Profile the rows of all parts as a reference.

    They are read twice: some of them for the bins, all for the counts. Raises InvalidInputError
    for no rows or a missing column.
    """
    sample = ReferenceSample(kinds)
    for part in parts[:: -(-len(parts) // _SAMPLED_PARTS) or 1]:
        for rows in part():
            sample.add(rows)
    return _counted(ProfileBuilder(sample.bins(), learns_levels=True), parts, threads)


def parquet_parts(files: Iterable[str | Path], layout: Layout) -> list[Part]:
    """Return the row groups of Parquet files. Raises DataError naming a file that is damaged."""
    parts: list[Part] = []
    for file in map(Path, files):
        with damage_told(file, _MEND), pq.ParquetFile(file) as opened:
            known = opened.metadata
        parts += [_row_group(file, known, group, layout) for group in range(known.num_row_groups)]
    return parts


def batch_part(open_batches: Callable[[], Iterable[pa.RecordBatch]], layout: Layout) -> Part:
    """Return all that an Arrow reader gives, as one part."""

    def read() -> Iterator[Columns]:
        reader = ArrowReader(layout)
        return (reader.read(batch) for batch in open_batches())

    return read


def frame_part(open_frames: Callable[[], Iterable[pd.DataFrame]], contract: Contract) -> Part:
    """Return chunks of pandas, as `pd.read_csv` and `pd.read_sql` give them, as one part.

    A chunk's cells are read as `prepare_features` says; predictions are not.
    """

    from modelyard.serving.frames import prepare_features

    def read() -> Iterator[Columns]:
        for frame in open_frames():
            if len(frame):
                features = prepare_features(frame, contract)
                yield {name: features[name].to_numpy() for name in contract.names()}

    return read


def _row_group(file: Path, known: pq.FileMetaData, group: int, layout: Layout) -> Part:
    there = set(known.schema.to_arrow_schema().names)
    names = [name for name in layout.names() if name in there]
    texts = [n for n, kind in layout.kinds.items() if kind is ColumnKind.CATEGORICAL]
    encoded = there.intersection(layout.columns.get(name, name) for name in texts)

    def read() -> Iterator[Columns]:
        reader = ArrowReader(layout)
        with (
            damage_told(file, _MEND),
            # Without buffering ahead, and by pieces of the file, what is held is a batch and not
            # the row group's columns.
            pq.ParquetFile(
                file,
                metadata=known,
                read_dictionary=list(encoded),
                pre_buffer=False,
                buffer_size=_READ_BYTES,
            ) as opened,
        ):
            for batch in opened.iter_batches(
                BATCH_ROWS, row_groups=[group], columns=names, use_threads=False
            ):
                yield reader.read(batch)

    return read


def _counted(builder: ProfileBuilder, parts: Sequence[Part], threads: int) -> Profile:
    def count(part: Part) -> ProfileBuilder:
        own = builder.fresh()
        for rows in part():
            own.add(rows)
        return own

    with ThreadPoolExecutor(threads) as pool:
        for counted in pool.map(count, parts):
            builder.merge(counted)
    return builder.profile()


_MEND = "Restore it from a backup, or leave it out."
