"""What does a person read of a model's windows and incidents?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from modelyard.adapters.pages import number, picture, table
from modelyard.domain.drift import DriftOutcome
from modelyard.domain.estimation import track_record
from modelyard.domain.incidents import FLOW_RUN, REPORT, lasted, recalled, what_to_do
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.quality import QualityOutcome
from modelyard.domain.windows import Window
from modelyard.ledger import Incident

_MOST_INCIDENTS = 30
_MOST_REASONS = 5
_MOST_SLICES = 12


def monitoring_page(
    model: str,
    metric: str,
    records: Sequence[WindowRecord],
    incidents: Sequence[Incident],
    pictures: Mapping[str, bytes],
    link: str | None,
) -> str:
    """Return the page of a model's windows, newest first, with its incidents and plots."""
    newest = records[-1]
    parts = [
        f"# Monitoring: {model}",
        *(picture(png, title) for title, png in pictures.items()),
        "## Incidents",
        *(_incidents(incidents) if incidents else ["None."]),
        "## Windows",
        *_windows(metric, records),
        *_estimates(records),
        *_worst_slices(records),
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


def _windows(metric: str, records: Sequence[WindowRecord]) -> list[str]:
    """Return the windows, newest first, as a table that fits beside the menus of Prefect's UI.

    That leaves 700 pixels of a page of 1300, and cells do not wrap.
    """
    promises = {r.release: number(r.performance.promised.value) for r in records}
    promised = ", ".join(f"{value} by {release}" for release, value in promises.items())
    rows = [
        (_span(r.window), _release(r), _rows(r), _figure(r), _wrong(r)) for r in reversed(records)
    ]
    return [
        f"{metric} on the labels that count, or ~ estimated where none do; promised {promised}. In "
        "brackets: the share of the rows with a label that counts, + that of labels that came "
        "early. What is wrong is **bold**.",
        table(("window (UTC)", "release", "rows", "metric", "verdict"), rows),
    ]


def _release(record: WindowRecord) -> str:
    """Return the release that the window is judged by, and how many others answered rows of it."""
    others = len(record.served.keys() - {record.release})
    return f"{record.release} + {others}" if others else record.release


def _figure(record: WindowRecord) -> str:
    if record.realized is not None or record.likely is None:
        return number(record.realized)
    return f"~{number(record.likely.value)}"


def _rows(record: WindowRecord) -> str:
    """Return the rows, the share of them with a label that counts, and that of early ones."""
    told = record.performance
    early = f"+{told.early / told.rows:.0%}" if told.early and told.rows else "%"
    return f"{record.rows:,} ({100 * told.coverage:.0f}{early})"


def _wrong(record: WindowRecord) -> str:
    """Return what is wrong with a window, or worth a look."""
    found = [f"**{cause}**" for cause in record.causes]
    if IncidentCause.PERFORMANCE in record.causes and record.performance.alarm:
        found.append("slice")
    if record.quality.outcome is QualityOutcome.WARN:
        found.append("data")
    if record.drift.outcome is DriftOutcome.TOO_FEW_ROWS:
        found.append("few rows")
    return ", ".join(found) or "ok"


def _estimates(records: Sequence[WindowRecord]) -> list[str]:
    """Return how right the estimates were where labels have told."""
    record = track_record([r.estimate for r in records if r.estimate is not None])
    if record is None:
        return []
    return [
        "## Estimates",
        f"Labels have told of {record.windows} windows that were estimated. The estimate was off "
        f"by {number(record.median_error)} (median), and what labels told lay inside its interval "
        f"in {record.held} of them. An estimate takes for granted that the same rows have the same "
        "outcomes as on the holdout: where that changes, it says that all is well.",
    ]


def _worst_slices(records: Sequence[WindowRecord]) -> list[str]:
    """Return the slices of the newest window whose labels have told."""
    told = next((r for r in reversed(records) if r.performance.slices), None)
    if told is None:
        return []
    slices, metric = told.performance.slices, told.performance.metric
    rows = [
        (
            *(one.name, f"{one.labels:,}", str(one.realized), str(one.promised)),
            *(number(one.limit), "**degraded**" if one.degraded else "ok"),
        )
        for one in slices[:_MOST_SLICES]
    ]
    more = len(slices) - len(rows)
    return [
        f"## Slices, {_span(told.window)}",
        table(("slice", "labels", metric, "promised", "limit", ""), rows),
        *([f"And {more:,} more, none of them worse."] if more > 0 else []),
    ]


def _span(window: Window) -> str:
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
