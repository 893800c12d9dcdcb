"""The commands that run a flow once, here: deliver, monitor, retrain, rollback, reconcile."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from modelyard.commands.options import AsJson, Model, Verbose
from modelyard.commands.rollouts import show_rollout
from modelyard.commands.running import console, load_flow, shown_steps
from modelyard.domain.data_checks import Checked, Level
from modelyard.domain.deliveries import DeliveryOutcome

AsOf = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"],
        help="Use only what was known by this moment (UTC).",
    ),
]

_MOST_LINES = 30


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("deliver")(deliver)
    app.command("monitor")(monitor)
    app.command("retrain")(retrain)
    app.command("rollback")(roll_back)
    app.command("reconcile")(reconcile)


def deliver(
    model: Model,
    reason: Annotated[str, typer.Option(help="Why; goes into the change log.")] = "manual",
    as_of: AsOf = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train and measure, show the gate, release nothing.")
    ] = False,
    bump: Annotated[
        Literal["major", "minor", "patch"] | None,
        typer.Option(help="Raise the version by at least this much; the facts may raise it more."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Check the rows, train, evaluate, register, build and roll out.

    It ends with 3 where the rows may not be trained on, or the gate keeps the champion.
    A delivery that was interrupted goes on where it was; one that is under way is waited for.
    """
    flow = load_flow("flows.model_delivery", "deliver_model", model, verbose=verbose)
    asked = bump and bump.upper()
    outcome = _run(flow, model, reason=reason, as_of=as_of, dry_run=dry_run, bump=asked)
    if as_json:
        console.print_json(outcome.model_dump_json())
    else:
        show_delivery(model, outcome)
    if outcome.gated is None or not outcome.gated.promotes:
        raise typer.Exit(3)


def monitor(
    model: Model,
    as_of: AsOf = None,
    report: Annotated[
        bool, typer.Option("--report", help="Draw the drift report of every window.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure the windows that have ended, and raise alarms."""
    flow = load_flow("flows.model_monitoring", "monitor_model", model, verbose=verbose)
    records = _run(flow, model, as_of=as_of, always_report=report)
    if as_json:
        console.print_json(data=[record.model_dump(mode="json") for record in records])
        return
    if not records:
        console.print(f"No window of {model} has ended since the last time.")
        return
    table = Table("window", "release", "rows", "labels", "realized", "estimated")
    for verdict in ("performance", "drift", "data"):
        table.add_column(verdict)
    for record in records:
        table.add_row(
            f"{record.window.start:%Y-%m-%d %H:%M} … {record.window.end:%Y-%m-%d %H:%M}",
            record.release,
            f"{record.rows:,}",
            f"{record.performance.coverage:.0%}",
            "" if record.realized is None else f"{record.realized:.4g}",
            "" if record.likely is None else f"{record.likely.value:.4g}",
            record.performance.outcome,
            record.drift.outcome,
            record.quality.outcome,
        )
    console.print(table)


def retrain(
    model: Model,
    cause: Annotated[
        Literal["person", "schedule"], typer.Option(help="Who asks; alarms ask by themselves.")
    ] = "person",
    as_of: AsOf = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Ask the controller whether to retrain, and deliver if it says so.

    It ends with 3 where the controller does not agree, the rows may not be trained on, or the gate
    keeps the champion.
    """
    flow = load_flow("flows.model_retraining", "retrain_model", model, verbose=verbose)
    retraining = _run(flow, model, cause=cause, as_of=as_of)
    decision, delivery = retraining.decision, retraining.delivery
    if as_json:
        shown = decision.model_dump(mode="json") | {
            "outcome": retraining.words,
            "delivery": delivery and delivery.model_dump(mode="json"),
        }
        console.print_json(data=shown)
    else:
        title = f"Retraining of {model}: {decision.verdict}"
        table = Table("", "rule", "figure", "limit", "finding", title=title)
        for reason in decision.reasons:
            mark = "✓" if reason.passed else "✗"
            table.add_row(mark, reason.rule, reason.figure, reason.limit, escape(reason.words))
        console.print(table)
        if delivery is not None:
            show_delivery(model, delivery)
        console.print(f"{model}: {retraining.words}.")
    if delivery is None or delivery.gated is None or not delivery.gated.promotes:
        raise typer.Exit(3)


def roll_back(
    model: Model,
    to: Annotated[str | None, typer.Option(help="Version; without it the one before.")] = None,
    reason: Annotated[str, typer.Option(help="Why; goes into the history.")] = "manual",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Put a former release back in traffic, from its stored files, without a rebuild."""
    flow = load_flow("flows.model_rollback", "roll_back_model", model, verbose=verbose)
    status = _run(flow, model, to=to, reason=reason)
    if as_json:
        console.print_json(status.model_dump_json())
        return
    (version,) = status.weights
    console.print(f"[green]{model} {version} serves at[/] [bold]{status.url}[/]")


def reconcile(model: Model, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Do what a crash, a lost event or a hand left undone; 3 where something is left to you."""
    flow = load_flow("flows.model_reconciliation", "reconcile_model", model, verbose=verbose)
    findings = _run(flow, model)
    if as_json:
        console.print_json(data={"findings": [f.model_dump(mode="json") for f in findings]})
    elif not findings:
        console.print(f"Nothing is left to do for {model}: all is as the ledger says.")
    for finding in () if as_json else findings:
        mark = "[green]mended[/]" if finding.mended else f"[red]{finding.why_not}[/]"
        console.print(f"{finding.words}: {mark}")
    if not all(finding.mended for finding in findings):
        raise typer.Exit(3)


def show_delivery(model: str, outcome: DeliveryOutcome) -> None:
    """Print what the rows and the gate said, and what serves now."""
    if outcome.checked is not None:
        show_checks(outcome.checked)
    if outcome.gated is not None:
        show_gate(outcome.gated)
    if outcome.rollout is not None and not outcome.rollout.ended:
        show_rollout(outcome.rollout)
    elif outcome.version:
        console.print(
            f"[green]{model} {outcome.version} serves at[/] [bold]{outcome.url}[/]  "
            f"([dim]curl {outcome.url}/version[/])"
        )


def show_checks(checked: Checked) -> None:
    """Print what data checks found, where that is more than nothing."""
    if checked.level is Level.OK:
        return
    table = Table("", "check", "finding", "what to do", title=f"Data checks: {checked.level}")
    for finding in checked.findings[:_MOST_LINES]:
        mark = {Level.BLOCK: "[red]✗[/]", Level.WARN: "[yellow]![/]"}.get(finding.level, "✓")
        table.add_row(mark, finding.check, escape(finding.reason), escape(finding.mend))
    console.print(table)
    left_out = len(checked.findings) - _MOST_LINES + checked.further
    if left_out > 0:
        console.print(f"and {left_out:,} more")
    if checked.blocks:
        console.print("[red]Nothing was trained on these rows.[/]")


def show_gate(gated: Any) -> None:
    """Print the gate's rules and verdict."""
    verdict = gated.decision.verdict
    table = Table("", "rule", "finding", title=f"Gate: {verdict}")
    for rule in gated.decision.rules:
        mark = {"promote": "[green]✓[/]", "inconclusive": "[yellow]?[/]"}.get(
            rule.verdict, "[red]✗[/]"
        )
        table.add_row(mark, rule.name, rule.reason)
    console.print(table)


def _run(flow: Any, model: str, **parameters: Any) -> Any:
    with shown_steps():
        return flow(model, **parameters)
