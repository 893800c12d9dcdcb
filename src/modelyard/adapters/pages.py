"""What does a person read in the Prefect UI? Markdown pages, with their pictures inside."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

from modelyard.domain.gate import Gated, GateVerdict
from modelyard.domain.incidents import FLOW_RUN, REPORT, lasted, recalled, what_to_do
from modelyard.domain.metrics import Interval
from modelyard.domain.mirror import Finding
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.releases import Build, Delivery, Registration, Release, Snapshot
from modelyard.domain.reproduction import Reproduction
from modelyard.domain.retraining import RetrainingDecision
from modelyard.domain.values import ServiceStatus
from modelyard.domain.windows import Window
from modelyard.ledger import Incident

_MAX_SLICES = 50
_MOST_INCIDENTS = 30
_MOST_REASONS = 5
_MARKS = {GateVerdict.PROMOTE: "✓", GateVerdict.INCONCLUSIVE: "?", GateVerdict.KEEP: "✗"}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; pipes in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def picture(png: bytes, title: str) -> str:
    """Return a Markdown image that carries its own bytes: no server has to be up."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"


def artifact_key(kind: str, model: str) -> str:
    """Return a Prefect artifact key: small letters, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{model}".lower()).strip("-")


def gate_page(
    delivery: Delivery, gated: Gated, pictures: Mapping[str, bytes], link: str | None
) -> str:
    """Return the page of one evaluation: verdict, rules, metrics and plots."""
    verdict = gated.decision.verdict
    parts = [
        f"# Gate: {delivery.model} → {verdict.upper()} {_MARKS[verdict]}",
        f"Trained on {_rows(delivery.training)}, judged on the newest {_rows(delivery.holdout)}, "
        "which no model was trained on.",
        "## Rules",
        table(
            ("", "rule", "value", "interval", "limit"),
            [
                (
                    _MARKS[rule.verdict],
                    rule.name,
                    number(rule.value),
                    f"{number(rule.low)} … {number(rule.high)}" if rule.low is not None else "",
                    rule.limit,
                )
                for rule in gated.decision.rules
            ],
        ),
        "\n".join(f"- {reason}" for reason in gated.decision.reasons),
        "## Metrics on the holdout",
        table(
            (
                *("metric", "challenger", "interval"),
                *(f"champion {gated.champion_version or '-'}", "gain", "interval"),
            ),
            [
                (
                    *(name, number(m.value), _range(m)),
                    *(number(gated.champion_metrics.get(name)), *_gain(gated.gains.get(name))),
                )
                for name, m in gated.metrics.items()
            ],
        ),
        *_slices(gated),
        *(picture(png, title) for title, png in pictures.items()),
    ]
    if link:
        parts.append(f"[The MLflow run with all plots]({link})")
    return "\n\n".join(parts)


def _rows(snapshot: Snapshot) -> str:
    return f"{snapshot.rows:,} rows" + (" (by reference, no copy)" if snapshot.reference else "")


def _slices(gated: Gated) -> list[str]:
    if not gated.slices:
        return []
    rows = [
        (
            *(s.name, f"{s.rows:,}", number(s.challenger), number(s.champion)),
            *_gain(s.gain),
        )
        for s in gated.slices[:_MAX_SLICES]
    ]
    head = ("slice", "rows", "challenger", "champion", "gain", "interval of all at once")
    more = len(gated.slices) - len(rows)
    return ["## Slices", table(head, rows), *([f"And {more:,} more."] if more > 0 else [])]


def _gain(gain: Interval | None) -> tuple[str, str]:
    return ("", "") if gain is None else (f"{gain.value:+,.4g}", _range(gain))


def release_page(
    registration: Registration,
    build: Build,
    service: ServiceStatus,
    example: Mapping[str, object],
    history: bytes,
) -> str:
    """Return the page of a release that took over: its change log, address and an example row."""
    return "\n\n".join(
        (
            f"# {service.model} {registration.version} serves at {service.url}",
            registration.changelog,
            picture(history, "metric history"),
            "### Service",
            _replicas(service),
            f"Bundle `{build.digest[:16]}`"
            + (f", image `{build.image.rpartition('@')[2][:19]}`" if build.image else "")
            + f", runtime {build.runtime}"
            + (f" ({build.runtime_reason})" if build.runtime_reason else ""),
            "```\n"
            f"curl -s {service.url}/invocations -H 'content-type: application/json' \\\n"
            f"  -d '{json.dumps({'dataframe_records': [example]})}'\n"
            "```",
        )
    )


def rollback_page(
    release: Release, replaced: Release | None, reason: str, service: ServiceStatus
) -> str:
    """Return the page of a release that was put back in traffic: why, for whom, its history."""
    instead = f" in place of {replaced.version}" if replaced else ""
    events = table(
        ("when (UTC)", "became", "by", "why"),
        [(f"{e.at:%Y-%m-%d %H:%M}", e.state, e.by, e.why) for e in release.events],
    )
    return "\n\n".join(
        (
            f"# {service.model} {release.version} serves again at {service.url}",
            f"Rolled back{instead}: {reason}.",
            "### Service",
            _replicas(service),
            f"### {release.version} before this",
            events,
        )
    )


def reconciliation_page(model: str, findings: Sequence[Finding]) -> str:
    """Return the page of what MLflow's registry said otherwise than the ledger."""
    return "\n\n".join(
        (
            f"# {model}: the registry differed from the ledger",
            table(
                ("", "found", ""),
                [("✓ mended" if f.mended else "✗", f.words, f.why_not) for f in findings],
            ),
        )
    )


def _replicas(service: ServiceStatus) -> str:
    return table(
        ("replica", "release", "state", "restarts"),
        [(r.id, r.version, r.state, r.restarts) for r in service.replicas],
    )


def number(value: float | None) -> str:
    """Return a figure with four digits; nothing where there is none."""
    return "" if value is None else f"{value:,.4g}"


def _range(interval: Interval) -> str:
    return f"{interval.low:,.4g} … {interval.high:,.4g}"


def monitoring_page(
    model: str,
    metric: str,
    records: Sequence[WindowRecord],
    incidents: Sequence[Incident],
    pictures: Mapping[str, bytes],
    link: str | None,
) -> str:
    """Return the page of a model's windows, newest first, with its incidents and plots."""
    windows = table(
        (
            *("window (UTC)", "release", "rows", "labels", metric),
            *("promised", "performance", "drift", "data"),
        ),
        [
            (
                span(r.window),
                ", ".join(r.served) or "-",
                f"{r.rows:,}",
                f"{r.performance.coverage:.0%}",
                number(r.realized),
                number(r.performance.promised.value),
                _flag(r.performance.outcome, "degraded"),
                _flag(r.drift.outcome, "drifted"),
                _flag(r.quality.outcome, "broken"),
            )
            for r in reversed(records)
        ],
    )
    newest = records[-1]
    parts = [
        f"# Monitoring: {model}",
        *(picture(png, title) for title, png in pictures.items()),
        "## Incidents",
        *(_incidents(incidents) if incidents else ["None."]),
        "## Windows",
        windows,
        "## Newest window",
        *(f"- {reason}" for cause in IncidentCause for reason in newest.reasons(cause)),
    ]
    if link:
        parts.append(f"[Drift reports and plots in MLflow]({link})")
    return "\n\n".join(parts)


def _incidents(incidents: Sequence[Incident]) -> list[str]:
    """Return what the open incidents say, and all of them as a table, newest first.

    The cells of a table in Prefect's UI do not wrap, so that long words stand below it.
    """
    newest_first = sorted(incidents, key=lambda i: (i.resolved_at is None, i.opened_at))[::-1]
    shown = newest_first[:_MOST_INCIDENTS]
    head = ("cause", "opened (UTC)", "resolved (UTC)", "lasted", "windows", "links")
    left_out = len(incidents) - len(shown)
    return [
        *(_open_incident(incident) for incident in shown if incident.resolved_at is None),
        table(head, [_incident_row(incident) for incident in shown]),
        *([f"And {left_out:,} older."] if left_out else []),
        "\n".join(
            f"- {incident.cause}, {incident.opened_at:%Y-%m-%d %H:%M}, at its worst: "
            f"{details.worst.words}"
            for incident in shown
            if (details := recalled(incident.details)) is not None
        ),
    ]


def _incident_row(incident: Incident) -> tuple[object, ...]:
    details, resolved_at = recalled(incident.details), incident.resolved_at
    times = (incident.opened_at, resolved_at or incident.updated_at)
    links = details.links if details else {}
    return (
        incident.cause,
        f"{incident.opened_at:%Y-%m-%d %H:%M}",
        f"{resolved_at:%Y-%m-%d %H:%M}" if resolved_at else "**open**",
        lasted(details.began, details.window_end) if details else lasted(*times),
        details.windows if details else "",
        " · ".join(f"[{name}]({links[name]})" for name in (REPORT, FLOW_RUN) if name in links),
    )


def _open_incident(incident: Incident) -> str:
    reasons = incident.details.get("reasons", ())
    lines = [
        f"**{incident.cause}** is open.",
        *(f"- {reason}" for reason in reasons[:_MOST_REASONS]),
    ]
    if len(reasons) > _MOST_REASONS:
        lines.append(f"- and {len(reasons) - _MOST_REASONS} more")
    advice = what_to_do(incident.model, IncidentCause(incident.cause))
    return "\n".join((*lines, "", advice))


def reproduction_page(reproduction: Reproduction, pictures: Mapping[str, bytes]) -> str:
    """Return the page of a release that was made again: verdict, metrics, what differs."""
    differences = table(
        ("part", "what", "recorded", "now"),
        [(d.part, d.name, d.recorded, d.found) for d in reproduction.differences],
    )
    metrics = table(
        ("metric", "recorded", "interval", "reproduced"),
        [
            (name, f"{m.recorded.value:.6g}", _range(m.recorded), f"{m.reproduced:.6g}")
            for name, m in reproduction.metrics.items()
        ],
    )
    parts = [
        f"# {reproduction.model} {reproduction.version}: {reproduction.verdict.value}",
        "\n".join(f"- {reason}" for reason in reproduction.reasons),
        *(picture(png, title) for title, png in pictures.items()),
        "## Differences",
        differences if reproduction.differences else "Nothing differs from the record.",
        f"## Metrics on {reproduction.measured_on}",
        metrics if reproduction.metrics else "None: there was no refit to measure.",
    ]
    if reproduction.by_reference:
        parts.insert(2, "The rows were read from their source again: they are kept by reference.")
    return "\n\n".join(parts)


def decision_page(model: str, decision: RetrainingDecision) -> str:
    """Return the page of one decision of the retraining controller."""
    return "\n\n".join(
        (
            f"# Retraining of {model}: {decision.verdict.upper()}",
            table(
                ("", "rule", "finding"),
                [("✓" if r.passed else "✗", r.rule, r.words) for r in decision.reasons],
            ),
            f"Wait until {decision.wait_until:%Y-%m-%d %H:%M} UTC." if decision.wait_until else "",
        )
    ).rstrip()


def span(window: Window) -> str:
    """Return a window's times, as short as they are still clear."""
    same_day = window.end - window.start < timedelta(days=1)
    start, end = window.start, window.end
    if same_day:
        return f"{start:%Y-%m-%d %H:%M} … {end:%H:%M}"
    midnight = start.hour == start.minute == end.hour == end.minute == 0
    return (
        f"{start:%Y-%m-%d} … {end:%m-%d}"
        if midnight
        else f"{start:%m-%d %H:%M} … {end:%m-%d %H:%M}"
    )


def _flag(outcome: str, wrong: str) -> str:
    return f"**{outcome}**" if outcome == wrong else str(outcome)
