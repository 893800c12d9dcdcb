"""Which rows does a data source hold, in time order, and are they what the config says?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.data.cells import as_text, text_columns, typed
from modelyard.adapters.data.files import is_file_source, line_of_record, read_files
from modelyard.adapters.data.times import as_datetime64, parse_times
from modelyard.config import Data
from modelyard.config.file import closest
from modelyard.domain.learning_rows import due_rows
from modelyard.domain.values import MLTask, as_utc
from modelyard.errors import DataError

EARLY = "modelyard.early"
"""Attribute of read rows: how many others wait because their labels came before they were due."""

_FEW_CELLS = 0.05
"""Share of a column's cells up to which texts among numbers are taken for mistakes."""


class Origin(NamedTuple):
    """Where loaded rows come from, so that an error can name the place."""

    name: str
    """The source as a person may see it: no password."""
    places: tuple[tuple[str, int], ...] = ()
    """File and number of rows, in order, where the rows come from files."""

    def place(self, row: int) -> str:
        """Say where row `row`, counted from 0, is: a line of a text file, or a row."""
        for name, count in self.places:
            if row < count:
                line = line_of_record(name, row)
                return f"row {row + 1} of {name}" if line is None else f"{name}:{line}"
            row -= count
        return f"row {row + 1}"


def read_rows(
    config: Data, *, root: Path, until: datetime | None = None, task: MLTask | None = None
) -> pd.DataFrame:
    """Read and check all rows of a source, sorted by event time.

    Args:
        config: What the columns mean.
        root: Folder of the project; relative paths start there.
        until: Only rows that could have been trained on at this moment: their event time is
            before it, and their label was known by then. Without it, all rows.
        task: Checks the target's values as well.

    Returns:
        One row an example, numbered from 0. Numbers are int64, float64 or bool, texts are `str`
        or None, the time columns are UTC, ids are `str`. Rows of equal time keep their order.

    Raises:
        DataError: The source cannot be read, or rows break what the config promises; it names
            the source, the column, the first place and its value.
    """
    rows, origin = _load(config, root)
    if rows.empty:
        raise DataError(f"{origin.name}: holds no row; at least a header and one row are needed.")
    _check_columns(rows, config, origin)
    rows = rows.reset_index(drop=True)
    for column in (config.target, config.id):
        # A key or a class is a name, not an amount: 007 stays 007, and yes stays yes.
        if column is not None and (column == config.id or (task and task.is_classification)):
            rows[column] = as_text(rows[column])
    _check_finite(rows, config, origin, task)
    rows = typed(rows, config, keep=text_columns(config, task))
    _check_ids(rows, config, origin)
    _check_declared_numbers(rows, config, origin)
    _check_target(rows, config, origin, task)
    if config.time is None:
        return rows
    rows = _with_times(rows, config, origin)
    rows = rows.sort_values(config.time, kind="stable", ignore_index=True)
    return rows if until is None else _matured(rows, config, origin, until)


def read_columns(config: Data, *, root: Path, task: MLTask | None = None) -> pd.DataFrame:
    """Read a source's columns as `read_rows` does, in the source's order, and require none of them.

    For rows that are to be predicted, or labels of such rows: what a cell means is the same as in
    training. Raises DataError for what cannot be read, and for times that are none.
    """
    rows, origin = _load(config, root)
    rows = rows.reset_index(drop=True)
    _check_finite(rows, config, origin, task)
    rows = typed(rows, config, keep=text_columns(config, task))
    for name in {config.time, config.label_time} & set(rows.columns):
        rows[name] = _times(rows[name], config, origin)
    return rows


def find_odd_cells(config: Data, *, root: Path) -> dict[str, str]:
    """Return the columns that hold numbers but for a few cells, with those cells and their places.

    Such a column counts as texts, which is rarely what was meant. Raises DataError for a source
    that cannot be read.
    """
    rows, origin = _load(config, root)
    rows = typed(rows.reset_index(drop=True), config, keep=text_columns(config, None))
    found: dict[str, str] = {}
    for name in map(str, rows.columns):
        present = rows[name].notna()
        if pd.api.types.is_datetime64_any_dtype(rows[name]):
            continue
        texts = present & pd.to_numeric(rows[name], errors="coerce").isna()
        if 0 < texts.sum() <= _FEW_CELLS * present.sum():
            found[name] = (
                f"{texts.sum():,} of {len(rows):,}: {_examples(rows[name], texts, origin)}"
            )
    return found


def labelled(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Return the rows whose outcome is known, numbered anew from 0."""
    return rows[rows[target].notna()].reset_index(drop=True)


def matured_by(rows: pd.DataFrame, config: Data) -> pd.Series:
    """Return when each row's outcome is known, UTC; NaT where it never is.

    Without a label time or a delay it is the event time. `config.time` must be set.
    """
    if config.label_time is not None:
        known = rows[config.label_time]
    else:
        known = rows[config.time] + config.label_delay
    return known.where(rows[config.target].notna())


def trainable(rows: pd.DataFrame, config: Data, moment: datetime) -> np.ndarray:
    """Return which rows could have been trained on at a moment, shape (rows,): their event time is
    before it, and their outcome was known by then, and due. `config.time` must be set.
    """
    moment, times, known = as_utc(moment), rows[config.time], matured_by(rows, config)
    taken = ((times < moment) & (known <= moment)).to_numpy()
    if config.label_time is not None and config.early_labels == "leave out":
        now = np.datetime64(moment.replace(tzinfo=None))
        taken &= due_rows(as_datetime64(times), as_datetime64(known), now)
    return taken


def _load(config: Data, root: Path) -> tuple[pd.DataFrame, Origin]:
    source = str(config.source)
    if config.query is not None:
        return _load_query(config, root)
    if source.startswith("sim://"):
        from modelyard.simulations import load_simulation

        return load_simulation(source.removeprefix("sim://")), Origin(source)
    if not is_file_source(source):
        return _load_function(source, root), Origin(source)
    frame, places = read_files(source, root, config.missing_values)
    return frame, Origin(source, places)


def _load_query(config: Data, root: Path) -> tuple[pd.DataFrame, Origin]:
    import sqlalchemy as sa
    import sqlalchemy.exc as sa_exc

    try:
        url = sa.make_url(str(config.source))
    except sa_exc.ArgumentError:
        raise DataError(
            "data.source: is no SQLAlchemy URL, like postgresql+psycopg://..."
        ) from None
    name = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        path = root / str(url.database)
        if not path.is_file():
            raise DataError(f"{name}: there is no file {path}.")
        url = url.set(database=str(path))
    try:
        engine = sa.create_engine(url)
        try:
            with engine.connect() as connection:
                return pd.read_sql_query(sa.text(str(config.query)), connection), Origin(name)
        finally:
            engine.dispose()
    except (sa_exc.SQLAlchemyError, ImportError) as err:
        reason = str(getattr(err, "orig", None) or err).splitlines()[0]
        raise DataError(
            f"{name}: cannot be queried: {reason}. Check data.source and data.query."
        ) from err


def _load_function(source: str, root: Path) -> pd.DataFrame:
    import importlib
    import sys

    module, _, function = source.partition(":")
    sys.path.insert(0, str(root))
    try:
        load = getattr(importlib.import_module(module), function)
    except ImportError as err:
        raise DataError(f"{source}: cannot be imported from {root}: {err}.") from err
    except AttributeError:
        raise DataError(f"{source}: module {module} has no {function}.") from None
    finally:
        sys.path.remove(str(root))
    rows = load()
    if not isinstance(rows, pd.DataFrame):
        raise DataError(f"{source}: returned {type(rows).__name__}, not a pandas DataFrame.")
    return rows.copy()


def _check_columns(rows: pd.DataFrame, config: Data, origin: Origin) -> None:
    names = [str(name) for name in rows.columns]
    rows.columns = names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{origin.name}: column {twice[0]!r} stands twice; rename one of both.")
    missing = [
        f"{origin.name}: there is no column {column!r} ({key}).{closest(column, names)}"
        for key, column in _named_columns(config)
        if column not in names
    ]
    if missing:
        raise DataError("\n".join(missing))


def _named_columns(config: Data) -> Iterator[tuple[str, str]]:
    for role in ("target", "id", "time", "label_time"):
        if (column := getattr(config, role)) is not None:
            yield f"data.{role}", column
    for kind in ("numeric", "categorical", "drop"):
        for column in getattr(config.features, kind) or ():
            yield f"data.features.{kind}", column


def _check_ids(rows: pd.DataFrame, config: Data, origin: Origin) -> None:
    if config.id is None:
        return
    ids = rows[config.id]
    if ids.isna().any():
        first = int(ids.isna().to_numpy().argmax())
        raise DataError(
            f"{origin.name}: id column {config.id!r} is empty in {ids.isna().sum()} rows, first at "
            f"{origin.place(first)}. An id must be there; name another column, or remove data.id."
        )
    again = ids.duplicated()
    if again.any():
        first = int(again.to_numpy().argmax())
        raise DataError(
            f"{origin.name}: id column {config.id!r} repeats a value in {again.sum()} rows, first "
            f"{ids[first]!r} at {origin.place(first)}. Ids join labels to predictions and must be "
            "unique; name another column, or leave out data.id."
        )


def _check_declared_numbers(rows: pd.DataFrame, config: Data, origin: Origin) -> None:
    for column in config.features.numeric or ():
        _check_numbers(
            rows[column],
            origin,
            f"numeric feature {column!r}",
            "Move it to data.features.categorical, or add the text to data.missing_values.",
        )


def _check_numbers(values: pd.Series, origin: Origin, what: str, mend: str) -> None:
    if pd.api.types.is_numeric_dtype(values):
        return
    if pd.api.types.is_datetime64_any_dtype(values):
        raise DataError(f"{origin.name}: {what} holds dates, not numbers. {mend}")
    texts = pd.to_numeric(values, errors="coerce").isna() & values.notna()
    if not texts.any():
        return
    raise DataError(
        f"{origin.name}: {what} holds {texts.sum()} values that are no numbers: "
        f"{_examples(values, texts, origin)}. {mend}"
    )


def _examples(values: pd.Series, chosen: pd.Series, origin: Origin) -> str:
    return "; ".join(
        f"{values.iloc[row]!r} at {origin.place(int(row))}" for row in np.flatnonzero(chosen)[:3]
    )


def _check_finite(rows: pd.DataFrame, config: Data, origin: Origin, task: MLTask | None) -> None:
    """Refuse infinite outcomes: as features they count as missing, but no label would be a lie."""
    if task is not MLTask.REGRESSION or config.target not in rows.columns:
        return
    target = rows[config.target]
    if pd.api.types.is_datetime64_any_dtype(target):
        return
    infinite = pd.to_numeric(target, errors="coerce").isin([np.inf, -np.inf])
    if infinite.any():
        raise DataError(
            f"{origin.name}: target column {config.target!r} is infinite in {infinite.sum()} rows: "
            f"{_examples(target, infinite, origin)}. Mend the rows, or add the text to "
            "data.missing_values if it means that there is no outcome."
        )


def _check_target(rows: pd.DataFrame, config: Data, origin: Origin, task: MLTask | None) -> None:
    target = rows[config.target]
    if target.isna().all():
        raise DataError(f"{origin.name}: target column {config.target!r} is empty in every row.")
    if task is MLTask.REGRESSION:
        mend = "Add the text to data.missing_values, or set task to a classification."
        _check_numbers(target, origin, f"target column {config.target!r}", mend)
    elif task is not None:
        check_classes(target, task, config.positive, f"{origin.name}: column {config.target!r}")


def check_classes(target: pd.Series, task: MLTask, positive: str | None, where: str) -> None:
    """Raise DataError unless a classification target has the classes that its task needs."""
    classes = sorted(as_text(target).dropna().unique())
    shown = ", ".join(map(repr, classes[:6])) + (", ..." if len(classes) > 6 else "")
    if task is MLTask.BINARY and len(classes) != 2:
        raise DataError(
            f"{where} has {len(classes)} classes ({shown}), and a binary_classification needs 2. "
            "Set task to multiclass_classification or regression, or add what means `no value` "
            "to data.missing_values."
        )
    if task is MLTask.MULTICLASS and not 3 <= len(classes) <= 100:
        raise DataError(
            f"{where} has {len(classes)} classes ({shown}), and a multiclass_classification needs "
            f"3 to 100. Set task to {MLTask.BINARY if len(classes) == 2 else MLTask.REGRESSION}."
        )
    if positive is not None and positive not in classes:
        raise DataError(f"{where} has no class {positive!r} (data.positive). Classes: {shown}.")


def _with_times(rows: pd.DataFrame, config: Data, origin: Origin) -> pd.DataFrame:
    assert config.time is not None
    times = {config.time: _times(rows[config.time], config, origin)}
    if times[config.time].isna().any():
        first = int(times[config.time].isna().to_numpy().argmax())
        raise DataError(
            f"{origin.name}: time column {config.time!r} is empty in "
            f"{times[config.time].isna().sum()} rows, first at {origin.place(first)}."
        )
    if config.label_time is not None:
        known = times[config.label_time] = _times(rows[config.label_time], config, origin)
        early = known < times[config.time]
        if early.any():
            first = int(early.to_numpy().argmax())
            raise DataError(
                f"{origin.name}: label time {config.label_time!r} is before {config.time!r} in "
                f"{early.sum()} rows, first {rows[config.label_time][first]} before "
                f"{rows[config.time][first]} at {origin.place(first)}. An outcome cannot be known "
                "before its event; mend the rows, or use data.label_delay."
            )
    return rows.assign(**times)


def _times(values: pd.Series, config: Data, origin: Origin) -> pd.Series:
    times = parse_times(values, config.time_format)
    bad = times.isna() & values.notna()
    if bad.any():
        first = int(bad.to_numpy().argmax())
        expected = f"as {config.time_format}" if config.time_format else "as ISO 8601"
        raise DataError(
            f"{origin.name}: column {values.name!r} cannot be read {expected} in {bad.sum()} rows, "
            f"first {values[first]!r} at {origin.place(first)}. Write data.time_format, like "
            "%d/%m/%Y %H:%M, or mend the rows."
        )
    return times


def _matured(rows: pd.DataFrame, config: Data, origin: Origin, until: datetime) -> pd.DataFrame:
    assert config.time is not None
    moment, times = as_utc(until), rows[config.time]
    kept = rows[trainable(rows, config, moment)]
    if kept.empty:
        delay = (
            f" and {config.label_delay} of label delay" if config.label_delay > timedelta(0) else ""
        )
        raise DataError(
            f"{origin.name}: no row before {moment:%Y-%m-%d %H:%M} UTC has a known outcome{delay}. "
            f"Its rows are from {times.iloc[0]:%Y-%m-%d %H:%M} to {times.iloc[-1]:%Y-%m-%d %H:%M} "
            "UTC; choose a later moment."
        )
    known = ((times < moment) & (matured_by(rows, config) <= moment)).sum()
    kept = kept.reset_index(drop=True)
    kept.attrs[EARLY] = int(known) - len(kept)
    return kept
