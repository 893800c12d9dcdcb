"""Which windows are due?"""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.windows import (
    Window,
    counted_windows,
    counting_from,
    due_windows,
    ends_by_count,
    event_id,
    plausible_span,
    until_silence,
    window_of,
)
from modelyard.errors import InvalidInputError

DAY = timedelta(days=1)


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2024, 3, day, hour, tzinfo=UTC)


def due(**changes):
    arguments = {"watermark": None, "as_of": at(5), "length": DAY, "first_event": at(2, 7)}
    return due_windows("bikes", **(arguments | changes))


def test_windows_lie_on_the_grid_and_come_oldest_first() -> None:
    assert [(w.start, w.end) for w in due()] == [
        (at(2), at(3)),
        (at(3), at(4)),
        (at(4), at(5)),
    ]


def test_weeks_start_on_monday() -> None:
    (week, *_) = due(length=7 * DAY, as_of=at(20))

    assert week.start.strftime("%A") == "Monday"


def test_a_window_waits_until_it_has_ended_and_late_rows_have_come() -> None:
    assert len(due(as_of=at(5) - timedelta(seconds=1))) == 2
    assert len(due(as_of=at(5), allowed_lateness=timedelta(hours=1))) == 2
    assert len(due(as_of=at(5, 1), allowed_lateness=timedelta(hours=1))) == 3


def test_windows_go_on_from_the_watermark() -> None:
    assert [w.start for w in due(watermark=at(4))] == [at(4)]
    assert due(watermark=at(5)) == ()


def test_an_earlier_row_moves_no_window() -> None:
    assert due()[0].id == due(first_event=at(2, 0))[0].id


def test_a_changed_length_neither_skips_nor_repeats_rows() -> None:
    windows = due(watermark=at(3), as_of=at(25), length=7 * DAY)

    assert windows[0].start == at(3)
    assert all(a.end == b.start for a, b in pairwise(windows))
    assert windows[1].end - windows[1].start == 7 * DAY


def test_catching_up_can_be_done_in_portions() -> None:
    first = due(limit=2)
    rest = due(watermark=first[-1].end)

    assert (*first, *rest) == due()


def test_ids_are_the_same_in_every_run_and_differ_by_model_and_span() -> None:
    assert due() == due()
    assert window_of("a", at(1), at(2)).id != window_of("b", at(1), at(2)).id
    assert window_of("a", at(1), at(2)).id != window_of("a", at(1), at(3)).id


def test_a_time_means_the_same_in_any_zone_and_naive_times_are_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert window_of("a", at(1).astimezone(zone), at(2)) == window_of("a", at(1), at(2))
    assert window_of("a", at(1).replace(tzinfo=None), at(2)) == window_of("a", at(1), at(2))


def test_event_ids_differ_by_event_only() -> None:
    window = window_of("a", at(1), at(2))

    assert event_id(window, "drift.detected") == event_id(window, "drift.detected")
    assert event_id(window, "drift.detected") != event_id(window, "recovered")


def test_nothing_is_due_before_the_first_row() -> None:
    assert due(first_event=None) == ()


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="positive length"):
        due(length=timedelta(0))


def test_one_row_of_another_age_makes_no_window_due() -> None:
    nonsense = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    first, last = plausible_span(*nonsense, started=at(2), now=at(5), reach=DAY)

    assert (first, last) == (at(1), at(6))
    assert plausible_span(at(3), at(4), at(2), at(5), DAY) == (at(3), at(4))


def test_silence_is_one_window_and_not_each_window_of_it() -> None:
    heard = until_silence(due(as_of=at(30)), last_event=at(3, 12))

    assert [window.start for window in heard] == [at(2), at(3), at(4)]


def seconds(*after: float) -> np.ndarray:
    """Return event times, in seconds after a midnight."""
    microseconds = [round(1e6 * second) for second in after]
    return np.datetime64("2024-03-01", "us") + np.array(microseconds, dtype="timedelta64[us]")


def counted(times: np.ndarray, rows: int, start: datetime | None = None) -> list[Window]:
    return list(counted_windows("bikes", start or at(1), [np.sort(times)], rows))


def test_a_counted_window_ends_right_after_its_last_row() -> None:
    first, second = counted(seconds(1, 2, 3.5, 7, 8, 9, 10), rows=3)

    instant = timedelta(microseconds=1)
    assert (first.start, first.end) == (at(1), at(1) + timedelta(seconds=3.5) + instant)
    assert (second.start, second.end) == (first.end, at(1) + timedelta(seconds=9) + instant)


def test_rows_of_the_same_time_are_in_the_same_window() -> None:
    first, second = counted(seconds(1, 2, 2, 2, 2, 3, 4, 5), rows=3)

    assert first.end == at(1) + timedelta(seconds=2, microseconds=1)
    assert second.end == at(1) + timedelta(seconds=5, microseconds=1)


def test_too_few_rows_end_no_window() -> None:
    assert counted(seconds(1, 2), rows=3) == []
    assert counted(seconds(), rows=1) == []


@given(
    st.lists(st.integers(0, 50), max_size=200),
    st.integers(1, 30),
    st.lists(st.integers(1, 40), max_size=20),
)
def test_counted_windows_do_not_depend_on_the_batches_they_are_read_in(
    after: list[int], rows: int, cuts: list[int]
) -> None:
    times = np.sort(seconds(*after))

    batches = np.split(times, np.minimum(np.cumsum(cuts), times.size))

    assert list(ends_by_count(batches, rows)) == list(ends_by_count([times], rows))


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), max_size=120),
    st.integers(1, 20),
    st.lists(st.integers(0, 400), max_size=15),
)
def test_counted_windows_are_the_same_whatever_the_order_of_rows_that_come_in_time(
    rows: list[tuple[int, int]], size: int, runs: list[int]
) -> None:
    """Rows are (event time, seconds until it comes); 60 is the lateness that is waited for."""
    found: list[Window] = []
    for now in [*sorted(runs), 1_000]:
        start = found[-1].end if found else at(1)
        settled = now - 60
        there = [time for time, late in rows if time + late <= now and time < settled]
        times = [t for t in there if at(1) + timedelta(seconds=t) >= start]
        found += counted(seconds(*times), size, start)

    assert found == counted(seconds(*(time for time, _ in rows)), size)
    assert all(a.end == b.start for a, b in pairwise(found))
    moments = [at(1) + timedelta(seconds=time) for time, _ in rows]
    for window in found:
        inside = sorted(m for m in moments if window.start <= m < window.end)
        assert len(inside) >= size
        assert sum(m < inside[-1] for m in inside) < size
    left = [m for m in moments if not found or m >= found[-1].end]
    assert len(left) < size


def test_rows_are_counted_from_the_watermark_or_from_the_first_midnight() -> None:
    assert counting_from(None, None) is None
    assert counting_from(None, at(3, 7)) == at(3)
    assert counting_from(at(4, 5), at(3, 7)) == at(4, 5)
    assert counting_from(at(4, 5), None) == at(4, 5)
