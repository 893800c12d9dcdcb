"""The commands that read the ledger: releases, changelog."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markdown import Markdown
from rich.table import Table

from modelyard.commands.delivery import AsJson, Model
from modelyard.commands.running import console
from modelyard.domain.gate import Gated
from modelyard.domain.releases import Registration, Release, ReleaseState
from modelyard.ledger import Ledger
from modelyard.project import Project


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("releases")(releases)
    app.command("changelog")(changelog)


def releases(
    model: Model,
    everything: Annotated[
        bool, typer.Option("--all", help="Deliveries that never got a version as well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List a model's releases, oldest first."""
    project = Project.find()
    metric = project.model(model).evaluation.primary_metric
    ledger = Ledger.open(project.ledger_url)
    shown = [r for r in ledger.releases(project.model(model).name) if r.version or everything]
    if as_json:
        console.print_json(json.dumps({"releases": [_row(r, metric) for r in shown]}))
        return
    table = Table("version", "state", "trained on", "rows", metric, "reason", "since (UTC)")
    for release in shown:
        row = _row(release, metric)
        table.add_row(
            row["version"] or "-",
            row["state"],
            f"{row['trained_from'] or ''} … {row['trained_to'] or ''}",
            f"{row['training_rows']:,}",
            row["metric_text"],
            row["reason"],
            f"{release.changed_at:%Y-%m-%d %H:%M}",
        )
    console.print(table)


def changelog(model: Model, as_json: AsJson = False) -> None:
    """Print a model's change log, newest release first."""
    project = Project.find()
    ledger = Ledger.open(project.ledger_url)
    entries = [
        Registration.model_validate(payload)
        for release in reversed(ledger.releases(project.model(model).name))
        if (payload := release.payload(ReleaseState.REGISTERED)) is not None
    ]
    if as_json:
        console.print_json(data=[entry.model_dump(mode="json") for entry in entries])
        return
    text = f"# Changelog of {model}\n\n" + "\n".join(entry.changelog for entry in entries)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text)


def _row(release: Release, metric: str) -> dict[str, Any]:
    span = release.delivery.training.span
    payload = release.payload(ReleaseState.GATED) or release.payload(ReleaseState.KEPT_CHAMPION)
    interval = Gated.model_validate(payload).metrics.get(metric) if payload else None
    return {
        "version": release.version,
        "state": release.state.value,
        "trained_from": span.start and f"{span.start:%Y-%m-%d}",
        "trained_to": span.end and f"{span.end:%Y-%m-%d}",
        "training_rows": release.delivery.training.rows,
        "metric": metric,
        "value": interval and interval.value,
        "metric_text": str(interval or ""),
        "reason": release.delivery.reason,
        "changed_at": release.changed_at.isoformat(),
    }
