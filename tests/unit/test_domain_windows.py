"""Which windows are due?"""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from modelyard.domain.windows import (
    due_windows,
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
