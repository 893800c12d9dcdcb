"""Which rows of a source teach a model, and which judge it?"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.data.hashes import content_hashes
from modelyard.adapters.data.sources import labelled, read_rows
from modelyard.adapters.data.times import as_datetime64
from modelyard.config import Data, ModelConfig
from modelyard.config.file import closest
from modelyard.domain.holdout import split_by_hash, split_newest
from modelyard.errors import DataError

Part = Literal["training", "holdout"]


class Selection(NamedTuple):
    """The labelled rows of a source in time order, and what each is for."""

    rows: pd.DataFrame
    training: np.ndarray
    holdout: np.ndarray

    def part(self, name: Part) -> pd.DataFrame:
        """Return the training or the holdout rows."""
        return self.rows[self.training if name == "training" else self.holdout]


def select_rows(
    config: ModelConfig,
    root: Path,
    as_of: datetime | None,
    *,
    newest: datetime | None = None,
    since: datetime | None = None,
) -> Selection:
    """Read a source and split its rows by the config's holdout and training window: by time, or,
    where the rows have none, by a hash of what each is known by.

    Only rows that could have been trained on at the moment `as_of` are taken, and none with an
    event time after `newest` or before `since`: a share is held out of what is left. Raises
    DataError, also where no row is left to train on.
    """
    rows = read_rows(config.data, root=root, until=as_of, task=config.task)
    return split_rows(config, rows, newest=newest, since=since)


def split_rows(
    config: ModelConfig,
    rows: pd.DataFrame,
    *,
    newest: datetime | None = None,
    since: datetime | None = None,
) -> Selection:
    """Split the rows of a source that could have been trained on, as `select_rows` says."""
    check_evaluation_columns(config, rows)
    rows = labelled(rows, config.data.target)
    if newest is not None and config.data.time is not None:
        rows = rows[rows[config.data.time] <= pd.Timestamp(newest)].reset_index(drop=True)
    if since is not None and config.data.time is not None:
        rows = rows[rows[config.data.time] >= pd.Timestamp(since)].reset_index(drop=True)
    policy = config.evaluation.holdout
    if len(rows) < 2:
        raise DataError(
            f"{config.data.source.written}: {len(rows)} row has a known outcome, which cannot be "
            "both trained on and held out. Take more rows."
        )
    if config.data.time is None:
        keys = row_keys(rows, config.data, config.evaluation.group)
        training, holdout = split_by_hash(keys, policy.share or 0.0)
    else:
        times = as_datetime64(rows[config.data.time])
        window = None if isinstance(config.training.window, str) else config.training.window
        training, holdout = split_newest(times, share=policy.share, span=policy.span, window=window)
    if not training.any():
        raise DataError(
            f"{config.data.source.written}: the holdout `{policy}` takes all {len(rows):,} rows "
            f"and leaves none to train on. {_why_all(config, rows)}"
        )
    if not holdout.any():
        raise DataError(
            f"{config.data.source.written}: the holdout `{policy}` takes no row of {len(rows):,}. "
            "Make it larger; or is evaluation.group the same nearly everywhere?"
        )
    return Selection(rows, training, holdout)


def check_evaluation_columns(config: ModelConfig, rows: pd.DataFrame) -> None:
    """Raise DataError where rows lack a column by which they are to be grouped or sliced."""
    group = config.evaluation.group
    named = [("group", group)] if group is not None else []
    for key, column in (*named, *(("slices", name) for name in config.evaluation.slices)):
        if column not in rows.columns:
            raise DataError(
                f"{config.data.source.written}: there is no column {column!r} (evaluation.{key})."
                f"{closest(column, rows.columns)}"
            )


def _why_all(config: ModelConfig, rows: pd.DataFrame) -> str:
    time = config.data.time
    if time is not None and rows[time].nunique() == 1:
        return f"All have the same {time}: name a column that tells old from new, or leave it out."
    return "Make evaluation.holdout smaller, or training.window longer."


def row_keys(rows: pd.DataFrame, data: Data, group: str | None = None) -> np.ndarray:
    """Return a 64-bit hash of what each row is known by, shape (rows,)."""
    return content_hashes(rows[key_columns(rows.columns, data, group)])


def key_columns(columns: Iterable[str], data: Data, group: str | None = None) -> list[str]:
    """Return the columns that rows are known by: their group, their id, or all that they hold.

    The last is also taken where there is no such column, as in the rows of an older release.
    """
    known_by = group or data.id
    held = list(columns)
    return [known_by] if known_by in held else held
