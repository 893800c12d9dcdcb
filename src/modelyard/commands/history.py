"""The commands that read the ledger: releases, changelog, diff."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markdown import Markdown
from rich.table import Table

from modelyard.commands.options import AsJson, Model
from modelyard.commands.running import console
from modelyard.domain.changelog import HEAD, Changes, add_runtime, compare_releases, yank
from modelyard.domain.gate import Gated
from modelyard.domain.metrics import Interval
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.values import ServiceStatus
from modelyard.errors import EngineUnavailableError
from modelyard.ledger import Ledger
from modelyard.project import Project


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("releases")(releases)
    app.command("changelog")(changelog)
    app.command("diff")(diff)


def releases(
    model: Model,
    everything: Annotated[
        bool, typer.Option("--all", help="Deliveries that never got a version as well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List a model's releases, oldest first."""
    project = Project.find()
    config = project.model(model)
    ledger = Ledger.open(project.ledger_url)
    service = _service(project, config.name)
    rows = [
        _row(release, ledger, config.evaluation.primary_metric, service)
        for release in ledger.releases(config.name)
        if release.version or everything
    ]
    if as_json:
        console.print_json(json.dumps({"releases": rows}))
        return
    table = Table(caption=service and f"{config.name} serves at {service.url}")
    narrow = ("version", "state", "age", "trained on", "rows", config.evaluation.primary_metric)
    for name in narrow:
        table.add_column(name, no_wrap=True)
    table.add_column("reason")
    table.add_column("serves", no_wrap=True)
    reproduced = any(row["reproduced"] for row in rows)
    if reproduced:
        table.add_column("reproduced")
    for row in rows:
        table.add_row(
            row["version"] or "-",
            row["state"],
            row["age"],
            f"{row['trained_from']} … {row['trained_to']}" if row["trained_from"] else "-",
            f"{row['training_rows']:,}" + (" by reference" if row["by_reference"] else ""),
            row["metric_text"],
            row["reason"],
            f"{row['serves']['percent']} %" if row["serves"] else "",
            *([row["reproduced"] or ""] if reproduced else []),
        )
    console.print(table)


def changelog(model: Model, as_json: AsJson = False) -> None:
    """Print a model's change log, newest release first."""
    project = Project.find()
    ledger = Ledger.open(project.ledger_url)
    name = project.model(model).name
    numbered = [release for release in reversed(ledger.releases(name)) if release.version]
    if as_json:
        console.print_json(data=[r.registration.model_dump(mode="json") for r in numbered])
        return
    text = "\n".join([HEAD.format(model=name), *(_entry(release) for release in numbered)])
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text.rstrip())


def diff(
    model: Model,
    before: Annotated[str, typer.Argument(help="Version to compare with, like 1.0.0.")],
    after: Annotated[str, typer.Argument(help="Version to look at.")],
    as_json: AsJson = False,
) -> None:
    """Show what differs between two releases: contract, recipe, data, environment, metrics."""
    from modelyard.adapters.data.row_changes import compare_rows  # pandas, only where needed

    project = Project.find()
    ledger = Ledger.open(project.ledger_url)
    name = project.model(model).name
    old, new = ledger.release(name, before), ledger.release(name, after)
    rows = compare_rows(old.facts, new.facts, project)
    changes = compare_releases(old.facts, new.facts, rows)
    metrics = (_metrics(old), _metrics(new))
    if as_json:
        measured = [
            {metric: interval.model_dump() for metric, interval in found.items()}
            for found in metrics
        ]
        versions = {"before": old.version, "after": new.version}
        shown = {
            **versions,
            **changes.model_dump(),
            "metrics": dict(zip(versions, measured, strict=True)),
        }
        console.print_json(data=shown)
        return
    table = Table("", "what differs", title=f"{name} {before} → {after}")
    for subject, lines in _subjects(changes):
        table.add_row(subject, "\n".join(lines) or "[dim]the same[/]")
    console.print(table)
    console.print(_metric_table(old, new, *metrics))


def _subjects(changes: Changes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (
        ("contract, breaking", changes.broken),
        ("contract, added", changes.added),
        ("recipe", changes.recipe),
        ("data", changes.data),
        ("environment", changes.environment),
    )


def _metric_table(
    old: Release, new: Release, before: dict[str, Interval], after: dict[str, Interval]
) -> Table:
    holdouts = [
        " … ".join(f"{moment:%Y-%m-%d}" for moment in (span.start, span.end) if moment)
        for span in (old.delivery.holdout.span, new.delivery.holdout.span)
    ]
    same = old.delivery.holdout.fingerprint == new.delivery.holdout.fingerprint
    table = Table(
        "metric",
        f"{old.version}\n{holdouts[0]}",
        f"{new.version}\n{holdouts[1]}",
        caption=None if same else "Each on its own holdout: the figures cannot be subtracted.",
    )
    for metric in dict.fromkeys((*before, *after)):
        table.add_row(metric, str(before.get(metric, "")), str(after.get(metric, "")))
    return table


def _entry(release: Release) -> str:
    entry = release.registration.changelog
    if release.payload(ReleaseState.BUILT) is not None:
        entry = add_runtime(entry, release.build)
    if release.state in (ReleaseState.ROLLED_BACK, ReleaseState.ABORTED):
        return yank(entry, release.events[-1].why)
    return entry


def _metrics(release: Release) -> dict[str, Interval]:
    payload = release.payload(ReleaseState.GATED) or release.payload(ReleaseState.KEPT_CHAMPION)
    return Gated.model_validate(payload).metrics if payload else {}


def _service(project: Project, model: str) -> ServiceStatus | None:
    from modelyard.adapters.workspace import Workspace

    try:
        return Workspace(project).target(project.model(model).service.target).status(model)
    except EngineUnavailableError:  # nothing serves where no engine runs
        return None


def _row(
    release: Release, ledger: Ledger, metric: str, service: ServiceStatus | None
) -> dict[str, Any]:
    learnt = release.learnt
    built = release.payload(ReleaseState.BUILT)
    interval = _metrics(release).get(metric)
    reproductions = ledger.reproductions(release.id)
    share = service.weights.get(release.version or "") if service and service.replicas else None
    return {
        "version": release.version,
        "state": release.state.value,
        "trained_from": learnt.span.start and f"{learnt.span.start:%Y-%m-%d}",
        "trained_to": learnt.span.end and f"{learnt.span.end:%Y-%m-%d}",
        "training_rows": learnt.rows,
        "learnt_holdout": learnt.with_holdout,
        "by_reference": learnt.by_reference,
        "metric": metric,
        "value": interval and interval.value,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "metric_text": str(interval or ""),
        "runtime": release.build.runtime.value if built else None,
        "runtime_reason": release.build.runtime_reason if built else None,
        "reason": release.delivery.reason,
        "opened_at": release.opened_at.isoformat(),
        "changed_at": release.changed_at.isoformat(),
        "age": _age(datetime.now(UTC) - release.opened_at),
        "reproduced": reproductions[-1].verdict if reproductions else None,
        "serves": {"url": service.url, "percent": share} if service and share else None,
    }


def _age(age: timedelta) -> str:
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if (whole := int(age.total_seconds() // seconds)) > 0:
            return f"{whole} {unit}"
    return "now"
