"""What does a person read of a rollout? One page, which is written anew at every look."""

from __future__ import annotations

from datetime import datetime

from modelyard.adapters.pages import picture, table
from modelyard.domain.rollout import (
    EventKind,
    Look,
    Phase,
    RolloutEvent,
    RolloutReport,
    Verdict,
)

_MARKS = {
    Verdict.SUCCESSFUL: "✓",
    Verdict.INCONCLUSIVE: "…",
    Verdict.ERROR: "!",
    Verdict.FAILED: "✗",
}
_MOST_EVENTS = 40


def rollout_page(report: RolloutReport, png: bytes) -> str:
    """Return the page of a rollout: phase, weights, what the newest look shows, and a timeline."""
    state = report.state
    newest = state.looks[-1] if state.looks else None
    parts = [
        f"# Rollout: {report.model} {report.version} → {_head(report)}",
        f"{state.plan.strategy.replace('_', '-')}, started {_time(state.started_at)}. {state.why}",
        picture(png, "Share of the traffic"),
        table(("release", "weight", "replicas"), _weights(report)),
        "" if report.ended else f"Next: {report.decision.why}. {_asked(report)}",
        *(_look(newest) if newest is not None else ()),
        "## Steps",
        table(
            ("", "share", "bakes"),
            [
                (_step_mark(report, place), f"{step.weight} %", str(step.bake))
                for place, step in enumerate(state.plan.steps)
            ],
        ),
        "## Timeline",
        table(
            ("time (UTC)", "what", "why", "by"),
            [
                (_time(event.at), _what(event), event.why, event.by)
                for event in _shown(report.events)
            ],
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(report: RolloutReport) -> str:
    if report.ended:
        return "CHAMPION ✓" if report.promoted else "ABORTED ✗"
    return report.state.phase.upper()


def _weights(report: RolloutReport) -> list[tuple[object, ...]]:
    if report.service is None:
        return []
    return [
        (
            version,
            f"{weight} %",
            sum(replica.version == version for replica in report.service.replicas),
        )
        for version, weight in report.service.weights.items()
    ]


def _asked(report: RolloutReport) -> str:
    if report.state.phase is not Phase.PAUSED:
        return ""
    name = report.model
    return f"`modelyard promote {name}` approves, `modelyard abort {name}` rejects."


def _look(look: Look) -> tuple[str, ...]:
    rows = [
        (
            _MARKS[m.verdict],
            f"{m.name}{' (dry run)' if m.dry_run else ''}",
            "" if m.value is None else f"{m.value:.4g}",
            m.limit,
            m.reason,
        )
        for m in look.measurements
    ]
    head = f"## What the look of {_time(look.at)} shows: {look.verdict}"
    return head, table(("", "measured", "value", "limit", "finding"), rows)


def _step_mark(report: RolloutReport, place: int) -> str:
    state = report.state
    if place < state.step or report.promoted:
        return "✓"
    return "▶" if place == state.step and not report.ended else ""


def _shown(events: tuple[RolloutEvent, ...]) -> list[RolloutEvent]:
    """Return what is news, the newest first: of looks alike only the last one."""
    news: list[RolloutEvent] = []
    for event in events:
        looks = event.kind is EventKind.LOOKED
        if news and looks and news[-1].kind is EventKind.LOOKED and news[-1].why == event.why:
            news.pop()
        news.append(event)
    return news[::-1][:_MOST_EVENTS]


def _what(event: RolloutEvent) -> str:
    if event.kind is EventKind.ENTERED:
        return f"entered step {int(event.payload['step']) + 1}"
    return event.kind.value


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
