"""What happened, and what of it was known at a moment?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from modelyard.adapters.data.hashes import fingerprint_rows
from modelyard.adapters.data.selection import Selection, split_rows
from modelyard.adapters.data.sources import labelled, matured_by, read_rows, trainable
from modelyard.adapters.data.times import as_datetime64
from modelyard.config import ModelConfig
from modelyard.config.values import RowCount, format_extent
from modelyard.domain.values import as_utc
from modelyard.domain.windows import Window, counted_windows, due_windows
from modelyard.errors import DataError, InvalidInputError

_FIRST_SHARE = 0.25
"""Share of the rows that the first release is made from, where nobody says when to begin."""


@dataclass(frozen=True)
class History:
    """All rows of a source, and the windows of event time that are gone through again."""

    rows: pd.DataFrame
    """In the order of event time, numbered from 0."""
    known_at: pd.Series
    """When each row's label was known; NaT where it never was."""
    windows: tuple[Window, ...]
    """Oldest first, without gaps."""
    time: str

    @property
    def start(self) -> datetime:
        """When the first release is made: labels and rows until then are known to it."""
        return self.windows[0].start

    def without_first(self, number: int) -> History:
        """Return history that begins so many windows later."""
        return replace(self, windows=self.windows[number:])

    def of(self, window: Window) -> slice:
        """Return the places of a window's rows."""
        times = as_datetime64(self.rows[self.time])
        bounds = [np.datetime64(at.replace(tzinfo=None)) for at in (window.start, window.end)]
        first, last = np.searchsorted(times, bounds, side="left")
        return slice(int(first), int(last))

    def split(self, config: ModelConfig, now: datetime, since: datetime | None) -> Selection:
        """Split what could have been trained on at a moment, as a delivery does.

        Raises DataError where that is too little.
        """
        known = self.rows[trainable(self.rows, config.data, now)].reset_index(drop=True)
        return split_rows(config, known, since=since)

    def labelled_times(self, config: ModelConfig, now: datetime) -> pd.Series:
        """Return the event times of the rows whose label could be trained on at a moment."""
        known = self.rows[trainable(self.rows, config.data, now)]
        return labelled(known, config.data.target)[self.time]

    @property
    def fingerprint(self) -> str:
        """sha256 over the rows, and where their windows begin and end."""
        return f"{fingerprint_rows(self.rows)}-{self.start:%Y%m%d%H%M}-{len(self.windows)}"


def read_history(
    config: ModelConfig,
    root: Path,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> History:
    """Read a source, and cut the time from `start` to `end` into monitoring windows.

    Without `start`, the first quarter of the rows makes the first release. Windows that the rows do
    not reach the end of are left out. Raises InvalidInputError for a config without a time column,
    or rows that fill no window; DataError for a source that cannot be read.
    """
    time = config.data.time
    if time is None:
        raise InvalidInputError(
            f"{config.name} has no time column, so nothing tells what was known when. Name one in "
            "data.time."
        )
    rows = read_rows(config.data, root=root, task=config.task)
    times, extent = rows[time], config.monitoring.window
    if start and end and end <= start:
        raise InvalidInputError(
            f"History from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} holds no moment: --to "
            "must be later than --from."
        )
    begin = start or times.iloc[int(len(rows) * _FIRST_SHARE)].to_pydatetime()
    newest = times.iloc[-1].to_pydatetime() + timedelta(microseconds=1)
    until = min(end, newest) if end else newest
    if isinstance(extent, RowCount):
        later = as_datetime64(times[(times >= begin) & (times < until)])
        windows = tuple(counted_windows(config.name, as_utc(begin), [later], extent.rows))
    else:
        windows = due_windows(
            config.name, watermark=None, first_event=begin, as_of=until, length=extent
        )
    if start is None:  # windows lie on a grid: the first one may begin before a quarter is over
        windows = tuple(window for window in windows if window.start >= begin)
    if not windows:
        raise InvalidInputError(
            f"{config.data.source.written}: the {len(rows):,} rows from {times.iloc[0]:%Y-%m-%d} "
            f"to {times.iloc[-1]:%Y-%m-%d} fill no window of {format_extent(extent)} after "
            f"{begin:%Y-%m-%d %H:%M}. Make monitoring.window shorter, or begin earlier."
        )
    if not (times < windows[0].start).any():
        raise DataError(
            f"{config.data.source.written}: no row is older than {windows[0].start:%Y-%m-%d %H:%M},"
            " so there is nothing to make the first release from. Begin later."
        )
    return History(rows, matured_by(rows, config.data), windows, time)
