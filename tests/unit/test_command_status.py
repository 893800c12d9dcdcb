"""What does `status` say of flow runs that are due?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from modelyard.commands.platform import next_run_words

DUE = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def test_a_run_that_has_not_begun_is_shown_with_the_time_since_which_it_is_due() -> None:
    words = {
        seconds: next_run_words(DUE.isoformat(), DUE + timedelta(seconds=seconds))
        for seconds in (-3600, 30, 90)
    }
    assert words == {
        -3600: "2026-03-01 12:30",
        30: "2026-03-01 12:30",
        90: "[yellow]due since 2026-03-01 12:30[/]",
    }
    assert next_run_words(None, DUE) == "-"
