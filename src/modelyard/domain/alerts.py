"""Which messages are people sent, and when is one summary better than many?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from modelyard.domain.values import Value

MOST_AT_ONCE = 3
"""Notices that are sent one by one; of more, as after an outage, there is one summary."""
MOST_PER_HOUR = 10
"""Messages about one model that one place gets within an hour; what is more waits."""
KEPT = timedelta(days=7)
"""How long a notice is tried to be delivered: what is older nobody can act on any more."""
_MOST_LISTED = 20


class NoticeKind(StrEnum):
    """What people are told of an incident, each once."""

    OPENED = "opened"
    WORSE = "worse"
    """Something else is wrong as well: another column, another check, another release."""
    RESOLVED = "resolved"


class Notice(Value):
    """One thing that people are to be told."""

    kind: NoticeKind
    title: str
    body: str


class WaitingNotice(Notice):
    """A notice that not every place has."""

    id: str
    at: datetime
    """When it was written down."""


class Message(Value):
    """What is sent to one place at once."""

    notices: tuple[str, ...]
    """Ids of what it tells."""
    title: str
    body: str


def plan_messages(
    model: str, waiting: Sequence[WaitingNotice], sent_lately: int
) -> tuple[Message, ...]:
    """Return what one place is sent now, oldest first; nothing where it had enough this hour.

    Args:
        waiting: what this place was not told yet, oldest first.
        sent_lately: how many messages about the model it got within the last hour.
    """
    room = MOST_PER_HOUR - sent_lately
    if not waiting or room <= 0:
        return ()
    if len(waiting) <= min(MOST_AT_ONCE, room):
        return tuple(Message(notices=(n.id,), title=n.title, body=n.body) for n in waiting)
    return (_summary(model, waiting),)


def _summary(model: str, waiting: Sequence[WaitingNotice]) -> Message:
    counts = [
        f"{count} {kind}" for kind in NoticeKind if (count := sum(n.kind is kind for n in waiting))
    ]
    # The newest are what is true now; what came before them is history.
    lines = [f"- {n.at:%Y-%m-%d %H:%M} UTC, {n.title}" for n in waiting[-_MOST_LISTED:]]
    left_out = len(waiting) - len(lines)
    if left_out:
        lines.insert(0, f"- and {left_out} before these")
    return Message(
        notices=tuple(n.id for n in waiting),
        title=f"{model}: {len(waiting)} changes ({', '.join(counts)})",
        body="\n".join((*lines, "", f"`modelyard incidents {model} --all` tells of each.")),
    )
