"""What does a person read in the Prefect UI? Markdown pages, with their pictures inside."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence

from modelyard.domain.gate import Gated, GateVerdict
from modelyard.domain.metrics import Interval
from modelyard.domain.mirror import Finding
from modelyard.domain.releases import Build, Delivery, Registration, Release, Snapshot
from modelyard.domain.reproduction import Reproduction
from modelyard.domain.retraining import RetrainingDecision
from modelyard.domain.values import ServiceStatus

_MAX_SLICES = 50
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
                ("", "rule", "figure", "limit", "finding"),
                [
                    ("✓" if r.passed else "✗", r.rule, r.figure, r.limit, r.words)
                    for r in decision.reasons
                ],
            ),
            f"Wait until {decision.wait_until:%Y-%m-%d %H:%M} UTC." if decision.wait_until else "",
        )
    ).rstrip()
