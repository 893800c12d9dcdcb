"""The commands about what is wrong: incidents, and whether alerts arrive."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from modelyard.commands.options import AsJson, Model
from modelyard.commands.running import console, use_platform
from modelyard.domain.incidents import WindowIncident, lasted, recalled, settled_notice, what_to_do
from modelyard.domain.monitoring import WINDOW_CAUSES, IncidentCause
from modelyard.errors import ConfigError, InvalidInputError
from modelyard.ledger import Incident, Ledger, acting_person
from modelyard.project import Project


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("incidents")(incidents)
    alerts = typer.Typer(help="Whether alerts reach the people they are for.", no_args_is_help=True)
    alerts.callback()(_alerts)
    alerts.command("test")(try_places)
    app.add_typer(alerts, name="alerts")


def incidents(
    model: Model,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that are resolved as well.")
    ] = False,
    resolve: Annotated[
        IncidentCause | None,
        typer.Option(help="Resolve the open incident of this cause: what is still wrong reopens."),
    ] = None,
    why: Annotated[str, typer.Option(help="Why it is resolved; goes into its history.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what is wrong with a model: since when, what is suspect, what to do.

    Resolving `retraining` lets the controller retrain again after its circuit breaker opened.
    """
    project = Project.find()
    name = project.model(model).name
    ledger = Ledger.open(project.ledger_url)
    if resolve is not None:
        _resolve(ledger, name, resolve, why)
    found = ledger.incidents(name, open_only=not everything)
    if as_json:
        shown = [incident.model_dump(mode="json") for incident in found]
        print(json.dumps({"incidents": shown}, indent=2))
        return
    if not found:
        console.print("No incident." if everything else "No incident is open.")
        return
    console.print(_table(found))
    for incident in found:
        if incident.resolved_at is None:
            console.print(_details(incident), soft_wrap=True)


def _resolve(ledger: Ledger, model: str, cause: IncidentCause, why: str) -> None:
    opened = [incident for incident in ledger.incidents(model) if incident.cause == cause]
    if not opened:
        known = ", ".join(incident.cause for incident in ledger.incidents(model)) or "none"
        raise InvalidInputError(f"{model} has no open incident {cause!s}. Open: {known}.")
    by, now = acting_person(), datetime.now(UTC)
    # Windows live in event time: one that ends later must be able to open it again.
    at = opened[0].updated_at if cause in WINDOW_CAUSES else now
    ledger.resolve_incident(
        model,
        cause,
        at,
        lambda _: settled_notice(model, cause, by, why or "No reason was given."),
        now=now,
        more={"resolved_by": by, "why": why},
    )


def _table(found: tuple[Incident, ...]) -> Table:
    table = Table("cause", "opened (UTC)", "lasted", "windows", "resolved (UTC)")
    for incident in found:
        details = recalled(incident.details)
        resolved_at = incident.resolved_at
        times = (incident.opened_at, resolved_at or incident.updated_at)
        table.add_row(
            incident.cause,
            f"{incident.opened_at:%Y-%m-%d %H:%M}",
            lasted(details.began, details.window_end) if details else lasted(*times),
            str(details.windows) if details else "-",
            f"{resolved_at:%Y-%m-%d %H:%M}" if resolved_at else "[bold red]open[/]",
        )
    return table


def _details(incident: Incident) -> Group:
    details = recalled(incident.details)
    lines = [f"[bold]{incident.cause}[/]"]
    lines += [f"  {escape(reason)}" for reason in incident.details.get("reasons", ())]
    if details is not None:
        lines += [f"  {line}" for line in _of_windows(details)]
    advice = what_to_do(incident.model, IncidentCause(incident.cause))
    return Group(*lines, f"  [green]→[/] {escape(advice)}")


def _of_windows(details: WindowIncident) -> list[str]:
    lines = []
    if details.worst.window_end != details.window_end:
        worst = escape(details.worst.words)
        lines.append(f"worst until {details.worst.window_end:%Y-%m-%d %H:%M}: {worst}")
    if details.promised is not None and details.suspects:
        names = ", ".join(dict.fromkeys(s.name for s in details.suspects))
        lines.append(f"moved meanwhile: {escape(names)}")
    return lines + [f"{name}: {url}" for name, url in details.links.items()]


def _alerts() -> None:
    """Keep `test` a word of its own: of a single command Typer would make the group."""


def try_places(
    model: Annotated[
        str | None, typer.Argument(help="Name of a model; left out: the places of all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a test message to every place that alerts go to; ends with 1 if one did not take it."""
    from modelyard.adapters.notifications import alert_places, send_alert

    project = Project.find()
    places = alert_places(project, project.model(model).name if model else None)
    if not places:
        where = f"configs/models/{model}.yaml" if model else "a model's config"
        raise ConfigError(
            f"No alerts are configured: write some into {where} or configs/platform.yaml, like "
            "alerts: [mailto://user:password@example.org]."
        )
    use_platform(project)
    about = model or "every model"
    body = (
        f"A person asked for this message with `modelyard alerts test`, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Alerts about {about} arrive here."
    )
    with console.status("Sending …"):
        sent = [send_alert(place, f"{about}: a test", body) for place in places]
    able = all(alert.delivered for alert in sent)
    if as_json:
        rows: list[dict[str, Any]] = [alert.model_dump() for alert in sent]
        print(json.dumps({"ok": able, "alerts": rows}, indent=2))
    else:
        table = Table("", "place", "")
        for alert in sent:
            mark = "[green]✓[/]" if alert.delivered else "[red]✗[/]"
            table.add_row(mark, escape(alert.place), escape(alert.problem or "delivered"))
        console.print(table)
    if not able:
        raise typer.Exit(1)
