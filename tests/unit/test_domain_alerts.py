"""Are people told enough, and not too much?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from modelyard.domain.alerts import (
    MOST_AT_ONCE,
    MOST_PER_HOUR,
    NoticeKind,
    WaitingNotice,
    plan_messages,
)

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def waiting(count: int) -> list[WaitingNotice]:
    return [
        WaitingNotice(
            id=str(n),
            kind=NoticeKind.RESOLVED if n % 2 else NoticeKind.OPENED,
            title=f"m: change {n}",
            body=f"body {n}",
            at=NOW + timedelta(minutes=n),
        )
        for n in range(count)
    ]


def test_a_few_notices_are_sent_one_by_one_oldest_first() -> None:
    messages = plan_messages("m", waiting(MOST_AT_ONCE), 0)
    assert [m.title for m in messages] == ["m: change 0", "m: change 1", "m: change 2"]
    assert [m.notices for m in messages] == [("0",), ("1",), ("2",)]


def test_a_burst_is_one_summary_of_everything() -> None:
    (message,) = plan_messages("m", waiting(100), 0)
    assert message.title == "m: 100 changes (50 opened, 50 resolved)"
    assert len(message.notices) == 100
    assert "and 80 before these" in message.body
    assert "m: change 99" in message.body
    assert "m: change 79" not in message.body
    assert "modelyard incidents m --all" in message.body


def test_what_is_more_than_an_hour_holds_waits_and_then_comes_as_a_summary() -> None:
    assert plan_messages("m", waiting(2), MOST_PER_HOUR) == ()
    (message,) = plan_messages("m", waiting(2), MOST_PER_HOUR - 1)
    assert message.notices == ("0", "1")
    (single,) = plan_messages("m", waiting(1), MOST_PER_HOUR - 1)
    assert single.title == "m: change 0"


def test_nothing_waiting_is_nothing_to_send() -> None:
    assert plan_messages("m", [], 0) == ()
