"""What do the files of a data source hold, as they were written?

Text stays text here: what a cell means is decided by whoever knows the column. Paths, globs and
URLs go through fsspec; .csv, .csv.gz and .parquet are read with Arrow.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from modelyard.config.file import closest
from modelyard.domain.records import mask_secrets
from modelyard.domain.releases import SourceFile
from modelyard.errors import DataError

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_DELIMITERS = ",;\t|"
_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_SUFFIXES = (".csv", ".csv.gz", ".parquet")


def is_file_source(source: str) -> bool:
    """Say whether a source is a path, glob or URL, and not `module:function`."""
    return _FUNCTION.fullmatch(source) is None


def read_files(
    source: str, root: Path, missing_values: Sequence[str]
) -> tuple[pd.DataFrame, tuple[tuple[str, int], ...]]:
    """Read every file that a path, glob or URL names, in the order of their names.

    Returns the rows one after another, and each file's name with its number of rows. Cells of text
    files are `str`, or None where they are one of `missing_values`. Raises DataError.
    """
    frames: list[pd.DataFrame] = []
    places: list[tuple[str, int]] = []
    for name in _names(source, root):
        frame = _read_file(name, missing_values)
        if frames and list(frame.columns) != list(frames[0].columns):
            other = sorted(set(frame.columns) ^ set(frames[0].columns)) or "their order"
            raise DataError(
                f"{name}: its columns differ from {places[0][0]}: {other}. Files of one source "
                "must have the same columns."
            )
        frames.append(frame)
        places.append((name, len(frame)))
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0], tuple(places)


def describe_files(source: str, root: Path) -> tuple[SourceFile, ...]:
    """Return size and etag of every file that a source names, without reading one.

    Raises DataError where there is none.
    """
    return tuple(_describe(name) for name in _names(source, root))


def line_of_record(name: str, record: int) -> int | None:
    """Return the line, from 1, on which data record `record`, from 0, of a text file starts.

    None where the file is no text file here. Reads the file again: only errors need it, and only
    reading it tells which lines are empty and which line breaks are inside of quotes.
    """
    if name.endswith(".parquet") or not Path(name).is_file():
        return None
    opened = gzip.open if name.endswith(".gz") else open
    with opened(name, "rt", encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=_delimiter(first))
        before, seen = 0, -1
        for cells in reader:
            if cells:
                if seen == record:
                    return before + 1
                seen += 1
            before = reader.line_num
    return None


def _names(source: str, root: Path) -> list[str]:
    remote = "://" in source
    where = source if remote else str(root / source)
    if remote and not source.endswith(_SUFFIXES):
        raise DataError(f"{source}: is neither {', '.join(_SUFFIXES)} nor a URL with data.query.")
    try:
        if any(sign in where for sign in "*?["):
            system, path = fsspec.core.url_to_fs(where)
            names = sorted(map(str, system.glob(path)))
            names = [system.unstrip_protocol(n) if remote else n for n in names]
        else:
            names = [where]
    except (ImportError, ValueError, OSError) as err:
        raise DataError(f"{source}: cannot be reached: {err}.") from err
    if not names:
        raise DataError(f"{source}: no file matches, in {root}.")
    for name in names:
        if not remote and not Path(name).is_file():
            raise DataError(_absent(source, Path(name)))
        if not name.endswith(_SUFFIXES):
            raise DataError(f"{name}: is none of {', '.join(_SUFFIXES)}; convert it to one.")
    return names


def _describe(name: str) -> SourceFile:
    shown = mask_secrets(name)
    try:
        system, path = fsspec.core.url_to_fs(name)
        info = system.info(path)
    except (ImportError, ValueError, OSError) as err:
        raise DataError(f"{shown}: cannot be reached: {err}.") from err
    # Each storage calls it otherwise: S3, HTTP, Google, Azure, a disk.
    known = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime")
    etag = next((f"{key} {info[key]}" for key in known if info.get(key) is not None), None)
    return SourceFile(name=shown, size_bytes=info.get("size"), etag=etag)


def _absent(source: str, path: Path) -> str:
    if path.is_dir():
        return f"{source}: is a folder; name its files, like {source.rstrip('/')}/*.csv."
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = closest(path.name, beside).partition(" Known:")[0]
    return f"{source}: there is no file {path}.{near}"


def _read_file(name: str, missing_values: Sequence[str]) -> pd.DataFrame:
    is_table = name.endswith(".parquet")
    try:
        opened: Any = fsspec.open(name, "rb", compression=None if is_table else "infer")
        with opened as file:
            if is_table:
                table = pq.read_table(file)
                _check_plain(name, table.schema)
                return _to_pandas(table)
            return _read_csv(name, file.read(), missing_values)
    except pa.ArrowInvalid as err:
        raise DataError(f"{name}: cannot be read: {_first_line(err)}") from err
    except ImportError as err:
        raise DataError(f"{name}: needs a package that is not installed: {err}.") from err
    except (OSError, EOFError) as err:
        raise DataError(f"{name}: cannot be read: {_first_line(err)}") from err


def _read_csv(name: str, content: bytes, missing_values: Sequence[str]) -> pd.DataFrame:
    header = content.split(b"\n", 1)[0]
    if not content.strip():
        raise DataError(f"{name}: is empty.")
    if b"\0" in header:
        raise DataError(f"{name}: is not CSV text: its first line holds binary zeros.")
    try:
        first = header.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{name}:1: is not CSV in UTF-8; convert it to UTF-8.") from None
    delimiter = _delimiter(first)
    cells = next(csv.reader([first], delimiter=delimiter), [])
    # A nameless first column is the index that pandas writes unless it is told not to.
    columns = [cell.strip() or f"unnamed_{place}" for place, cell in enumerate(cells)]
    _check_header(name, columns)
    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "skip"

    table = pa_csv.read_csv(
        pa.BufferReader(content),
        # One thread, since only then Arrow knows the number of a ragged row.
        read_options=pa_csv.ReadOptions(use_threads=False, column_names=columns, skip_rows=1),
        parse_options=pa_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types={column: pa.string() for column in columns},
            null_values=list(missing_values),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    if ragged:
        row = ragged[0]
        raise DataError(
            f"{name}: {len(ragged)} rows do not have the header's {row.expected_columns} cells, "
            f"first line {row.number} with {row.actual_columns}: {row.text[:80]!r}. Quote cells "
            f"that hold {delimiter!r}."
        )
    return _to_pandas(table)


def _check_header(name: str, columns: list[str]) -> None:
    if len(columns) < 2:
        raise DataError(
            f"{name}:1: has one column only, {columns[:1]}; a target and a feature are needed, "
            "separated by comma, semicolon, tab or |."
        )
    twice = [c for i, c in enumerate(columns) if c in columns[:i]]
    if twice:
        raise DataError(f"{name}:1: column {twice[0]!r} stands twice; rename one of both.")


def _check_plain(name: str, schema: pa.Schema) -> None:
    """Refuse columns whose cells are neither one number, one text, one time nor one truth."""
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_nested(kind) or any(is_bytes(kind) for is_bytes in _BYTES):
            raise DataError(
                f"{name}: column {field.name!r} holds {field.type} in each cell, neither a number, "
                "a text nor a time. Drop it from the file, or turn it into plain columns."
            )


def _delimiter(header: str) -> str:
    """Return the one that splits the header into most cells; a comma where none does."""
    return max(_DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas()
    # Arrow gives None in text columns and NaN in numeric ones, as the rest of the project expects.
    return frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()


def _first_line(err: BaseException) -> str:
    text = str(err).splitlines()
    return f"{text[0] if text else type(err).__name__}. Is it what its name says?"
