"""Which windows of event time are complete and not yet judged?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import numpy as np

from modelyard.domain.values import Value, as_utc
from modelyard.errors import InvalidInputError

ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)
"""A Monday at midnight: days start at midnight and weeks on Monday, in UTC."""

_INSTANT = np.timedelta64(1, "us")
"""Event times are kept in whole microseconds."""

_NAMESPACE = UUID("a4c3f0a2-5d0e-5a8b-9a55-2f6f0c1f7d61")


class Window(Value):
    """The rows whose event time is in [start, end)."""

    id: str
    """The same for the same model, start and end, in every run."""
    start: datetime
    end: datetime


def window_of(model: str, start: datetime, end: datetime) -> Window:
    """Return the window of one model between two times, with its id."""
    start, end = as_utc(start), as_utc(end)
    name = f"{model}|{start.isoformat()}|{end.isoformat()}"
    return Window(id=str(uuid5(_NAMESPACE, name)), start=start, end=end)


def event_id(window: Window, event: str) -> UUID:
    """Return the id of an event about a window, so that a rerun cannot emit it a second time."""
    return uuid5(UUID(window.id), event)


def due_windows(
    model: str,
    *,
    watermark: datetime | None,
    as_of: datetime,
    length: timedelta,
    first_event: datetime | None,
    allowed_lateness: timedelta = timedelta(0),
    limit: int | None = None,
) -> tuple[Window, ...]:
    """Return the tumbling windows after the watermark that ended in time, oldest first.

    Boundaries lie on a fixed grid and not where the first row happens to be, so a late row that
    turns out to be the earliest one moves no window. Where the watermark is off the grid (the
    length was changed), the first window is short: no row is skipped, none is counted twice.

    Args:
        watermark: end of the last window judged; None before the first.
        as_of: the time that counts as now.
        first_event: earliest event time there is, used without a watermark; None: nothing is due.
        allowed_lateness: how long after its end a window stays open for late rows.
        limit: at most this many windows, for catching up in portions.

    Naive times are taken as UTC. Raises InvalidInputError for a length that is not positive.
    """
    if length <= timedelta(0):
        raise InvalidInputError(
            f"A monitoring window cannot be {length} long. Give a positive length such as 1d."
        )
    begin = watermark if watermark is not None else first_event
    if begin is None:
        return ()
    start = as_utc(begin)
    if watermark is None:
        start = ORIGIN + length * ((start - ORIGIN) // length)
    latest_end = as_utc(as_of) - allowed_lateness
    windows: list[Window] = []
    while limit is None or len(windows) < limit:
        end = ORIGIN + length * ((start - ORIGIN) // length + 1)
        if end > latest_end:
            break
        windows.append(window_of(model, start, end))
        start = end
    return tuple(windows)


def counting_from(watermark: datetime | None, first_event: datetime | None) -> datetime | None:
    """Return from when on rows are counted into windows; None where there is none.

    Before the first window it is the midnight before the earliest row, so that one of the same day
    that comes late is not left out.
    """
    if watermark is not None or first_event is None:
        return watermark and as_utc(watermark)
    return ORIGIN + (as_utc(first_event) - ORIGIN) // timedelta(days=1) * timedelta(days=1)


def ends_by_count(batches: Iterable[np.ndarray], rows: int) -> Iterator[datetime]:
    """Yield the ends of windows of so many rows each, oldest first.

    A window ends right after its last row. Rows of the same time stay together, so that a window is
    a span of event time, to which a row belongs or not whatever the order they came in: it has more
    rows where several share the last one's time. What is left over fills no window and ends none.

    Args:
        batches: event times in ascending order, datetime64 in UTC of shape (rows,) each.
        rows: of a window, 1 or more.
    """
    closed, missing = None, rows
    for batch in batches:
        times = batch.astype("datetime64[us]")
        if closed is not None:
            times = times[np.searchsorted(times, closed, side="right") :]
        while times.size >= missing:
            closed = times[missing - 1]
            yield (closed + _INSTANT).item().replace(tzinfo=UTC)
            times = times[np.searchsorted(times, closed, side="right") :]
            missing = rows
        missing -= times.size


def counted_windows(
    model: str, start: datetime, batches: Iterable[np.ndarray], rows: int
) -> Iterator[Window]:
    """Yield the windows of so many rows each from a start on, one right after the other.

    Args:
        batches: event times from `start` on; see `ends_by_count`.
    """
    for end in ends_by_count(batches, rows):
        yield window_of(model, start, end)
        start = end


def plausible_span(
    first: datetime, last: datetime, started: datetime, now: datetime, reach: timedelta
) -> tuple[datetime, datetime]:
    """Return the span of event times that monitoring goes by, without what cannot be meant.

    One row with a time in year 1 would make hundreds of thousands of windows due. Nothing that was
    predicted happened much before the oldest rows that any release was trained on (`started`),
    and nothing after now; `reach` is how far beyond both is still believed.
    """
    return max(first, started - reach), min(last, now + reach)


def until_silence(windows: tuple[Window, ...], last_event: datetime) -> tuple[Window, ...]:
    """Return the windows up to the first one that begins after the last event.

    Silence is one finding: after months of it, one run need not measure each empty window. The
    watermark moves on by one, so that nothing is skipped when traffic comes back.
    """
    heard = sum(window.start <= last_event for window in windows)
    return windows[: heard + 1]
