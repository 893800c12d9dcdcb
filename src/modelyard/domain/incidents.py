"""What does an incident say, window by window, and when has it become worse?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from modelyard.domain.alerts import Notice, NoticeKind
from modelyard.domain.metrics import Interval
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.quality import QualityOutcome
from modelyard.domain.slices import SliceVerdict
from modelyard.domain.values import Value

REPORT = "Drift report"
FLOW_RUN = "Flow run"
"""Names of links."""
_SLICE = "slice"
_MOST_TOLD = 8
"""Suspects that a message names; the incident keeps all of them."""


class Suspect(Value):
    """What an incident may come from, the one to look at first in front."""

    name: str
    """A column, or what concerns all of them."""
    check: str
    """The test or check that told."""
    words: str


class Worst(Value):
    """The window of an incident that was farthest from right."""

    window_end: datetime
    severity: float
    """By cause: share of rows that moved; metric beyond its limit, over all rows or on the worst
    slice, as a share of what was promised; number of broken checks."""
    words: str


class WindowIncident(Value):
    """What the windows of an incident show: the details that the ledger keeps of it."""

    window_id: str
    """Of its newest window."""
    window_start: datetime
    window_end: datetime
    began: datetime
    """Start of its first window."""
    windows: int
    """How many windows it has lasted."""
    release: str
    rows: int
    reasons: tuple[str, ...]
    """Figures of the newest window."""
    suspects: tuple[Suspect, ...]
    """Of the newest window, ranked."""
    named: tuple[str, ...]
    """All that people were told to be wrong: who is new here makes it worse."""
    worst: Worst
    promised: Interval | None = None
    realized: Interval | None = None
    limit: float | None = None
    """Of performance: what the gate promised, what labels showed, and what is still as promised."""
    links: dict[str, str] = Field(default_factory=dict)


def seen_in(
    record: WindowRecord, cause: IncidentCause, links: Mapping[str, str] | None = None
) -> WindowIncident:
    """Return what one window that shows a cause says of it."""
    suspects = _suspects(record, cause)
    performance = record.performance if cause is IncidentCause.PERFORMANCE else None
    named = [f"{s.name}: {s.check}" for s in suspects]
    if performance is not None:  # what moved beside it changes nothing of what is wrong
        named = [record.release, *(f"{one.name}: {_SLICE}" for one in _bad_slices(record))]
    reasons = record.reasons(cause)
    window = record.window
    return WindowIncident(
        window_id=window.id,
        window_start=window.start,
        window_end=window.end,
        began=window.start,
        windows=1,
        release=record.release,
        rows=record.rows,
        reasons=reasons,
        suspects=suspects,
        named=tuple(sorted(set(named))),
        worst=Worst(
            window_end=window.end,
            severity=_severity(record, cause),
            words=reasons[0] if reasons else "",
        ),
        promised=performance and performance.promised,
        realized=performance and performance.realized,
        limit=performance and performance.limit,
        links=dict(links or {}),
    )


def recalled(details: Mapping[str, Any]) -> WindowIncident | None:
    """Return what the ledger keeps of an incident, if it is about windows and is told this way."""
    return WindowIncident.model_validate(details) if "worst" in details else None


def follow(former: WindowIncident | None, seen: WindowIncident) -> WindowIncident:
    """Return an incident with what a window that is as new as its newest, or newer, shows.

    The newest window may be measured again: it is counted once.
    """
    if former is None:
        return seen
    return seen.model_copy(
        update={
            "began": min(former.began, seen.began),
            "windows": former.windows + (seen.window_end > former.window_end),
            "named": tuple(sorted({*former.named, *seen.named})),
            "worst": max(former.worst, seen.worst, key=lambda worst: worst.severity),
            "links": {**former.links, **seen.links},
        }
    )


def raised_notice(
    model: str, cause: IncidentCause, former: WindowIncident | None, now: WindowIncident
) -> Notice | None:
    """Return what people are told when a window opens an incident or follows it: often nothing."""
    if former is None:
        title, kind, first = f"{model}: {cause}", NoticeKind.OPENED, ()
    else:
        new = [name for name in now.named if name not in former.named]
        if not new:
            return None
        title, kind = f"{model}: {cause} is worse", NoticeKind.WORSE
        first = (f"New in window {now.windows} of this incident: {_listed(new)}.",)
    reasons = (*now.reasons[:_MOST_TOLD], *_more(len(now.reasons) - _MOST_TOLD))
    lines = [_when(now), *first, *reasons, "", what_to_do(model, cause), *_linked(now.links)]
    return Notice(kind=kind, title=title, body="\n".join(lines))


def resolved_notice(
    model: str, cause: IncidentCause, was: WindowIncident | None, record: WindowRecord
) -> Notice:
    """Return what people are told when a window shows that a cause is over."""
    window = record.window
    lines = [
        f"Window {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC, release "
        f"{record.release}, {record.rows:,} rows."
    ]
    if was is not None:
        windows = f"{was.windows} window" + ("s" if was.windows != 1 else "")
        lines += [f"It lasted {windows}, from {was.began:%Y-%m-%d %H:%M} UTC on."]
        lines += [f"At its worst: {was.worst.words}"] if was.worst.words else []
        lines += _linked(was.links)
    title = f"{model}: {cause} is right again"
    return Notice(kind=NoticeKind.RESOLVED, title=title, body="\n".join(lines))


def lasted(began: datetime, ended: datetime) -> str:
    """Return a duration in its two largest units."""
    time = ended - began
    hours, minutes = time.seconds // 3600, time.seconds % 3600 // 60
    if time.days:
        return f"{time.days} d {hours} h" if hours else f"{time.days} d"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def damage_words(files: Sequence[str]) -> tuple[str, ...]:
    """Return what is true of each file of the inference log that was set aside."""
    return tuple(
        f"{file}: some lines are no logged requests; the others count"
        if ".jsonl" in file
        else f"{file}: cannot be read; its rows are in no window that is measured from now on"
        for file in files
    )


def damage_notice(model: str, files: Sequence[str], known: Sequence[str] | None) -> Notice | None:
    """Return what people are told of files that were set aside: of each one once.

    `known` are those that the open incident names already; None where this opens one.
    """
    new = [file for file in files if file not in (known or ())]
    if not new:
        return None
    kind = NoticeKind.OPENED if known is None else NoticeKind.WORSE
    told = damage_words(new)
    lines = [*told[:_MOST_TOLD], *_more(len(told) - _MOST_TOLD), ""]
    return Notice(
        kind=kind,
        title=f"{model}: {IncidentCause.LOG}" + (" is worse" if known is not None else ""),
        body="\n".join((*lines, what_to_do(model, IncidentCause.LOG))),
    )


def damage_over(model: str) -> Notice:
    """Return what people are told when no file is set aside any more."""
    return Notice(
        kind=NoticeKind.RESOLVED,
        title=f"{model}: {IncidentCause.LOG} is right again",
        body="No file of it is set aside any more.",
    )


def stopped_notice(model: str, kept: int) -> Notice:
    """Return what people are told when the controller stops retraining by itself."""
    body = f"{kept} retrainings in a row kept the champion."
    return Notice(
        kind=NoticeKind.OPENED,
        title=f"{model}: {IncidentCause.RETRAINING} has stopped",
        body=f"{body}\n\n{what_to_do(model, IncidentCause.RETRAINING)}",
    )


def going_on_notice(model: str) -> Notice:
    """Return what people are told when the controller retrains by itself again."""
    return Notice(
        kind=NoticeKind.RESOLVED,
        title=f"{model}: {IncidentCause.RETRAINING} goes on",
        body="The controller may retrain again.",
    )


def settled_notice(model: str, cause: str, by: str, why: str) -> Notice:
    """Return what people are told when a person resolves an incident."""
    return Notice(
        kind=NoticeKind.RESOLVED,
        title=f"{model}: {cause} was resolved by {by}",
        body=f"{why}\n\nWhat is still wrong is told anew.",
    )


def what_to_do(model: str, cause: IncidentCause) -> str:
    """Return what a person can do about an incident."""
    return {
        IncidentCause.DATA: "Look at the source of the columns named; nothing is retrained on it.",
        IncidentCause.PERFORMANCE: (
            f"`modelyard retrain {model}` asks the controller; "
            f"`modelyard rollback {model}` goes back to the former release."
        ),
        IncidentCause.DRIFT: "Look at the drift report; the labels will tell whether it matters.",
        IncidentCause.TRAINING_DATA: (
            "Nothing was trained; what served before still serves. Mend the rows, or say in "
            "data.checks what is meant, and deliver again."
        ),
        IncidentCause.ROLLOUT: f"`modelyard releases {model}` lists what was tried.",
        IncidentCause.LOG: (
            "Monitoring goes on without the rows of these files. Restore them from a backup under "
            "their names without `.damaged`, or move them away: either ends the incident."
        ),
        IncidentCause.RETRAINING: (
            f"Nothing is retrained by itself until then. Look at why the gate keeps the champion "
            f"(page gate-{model}). `modelyard retrain {model}` tries once more as you; `modelyard "
            f"incidents {model} --resolve retraining` lets the controller go on."
        ),
    }[cause]


def _suspects(record: WindowRecord, cause: IncidentCause) -> tuple[Suspect, ...]:
    if cause is IncidentCause.DATA:
        return tuple(
            Suspect(name=f.column or "all columns", check=f.check, words=f.words)
            for f in record.quality.findings
            if f.outcome is QualityOutcome.BROKEN
        )
    moved = (Suspect(name=f.column, check=f.test, words=f.words) for f in record.drift.suspects)
    if cause is not IncidentCause.PERFORMANCE:
        return tuple(moved)
    # Where the metric fell, and what moved meanwhile, is where to look first.
    metric = record.performance.metric
    slices = (
        Suspect(name=one.name, check=_SLICE, words=one.words(metric)) for one in _bad_slices(record)
    )
    return (*slices, *moved)


def _bad_slices(record: WindowRecord) -> tuple[SliceVerdict, ...]:
    """Return the slices that people are told of."""
    return record.performance.degraded_slices if record.performance.alarm else ()


def _severity(record: WindowRecord, cause: IncidentCause) -> float:
    if cause is IncidentCause.DATA:
        return float(len(_suspects(record, cause)))
    if cause is IncidentCause.DRIFT:
        return max((f.effect for f in record.drift.suspects), default=0.0)
    told = record.performance
    found = [
        abs(one.realized.value - one.limit) / (abs(one.promised.value) or 1.0)
        for one in _bad_slices(record)
    ]
    return max((*found, told.beyond))


def _when(seen: WindowIncident) -> str:
    return (
        f"Window {seen.window_start:%Y-%m-%d %H:%M} to {seen.window_end:%Y-%m-%d %H:%M} UTC, "
        f"release {seen.release}, {seen.rows:,} rows."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join((*names[:_MOST_TOLD], *_more(len(names) - _MOST_TOLD)))


def _more(left: int) -> tuple[str, ...]:
    return (f"and {left} more",) if left > 0 else ()


def _linked(links: Mapping[str, str]) -> list[str]:
    return ["", *(f"{name}: {url}" for name, url in links.items())] if links else []
