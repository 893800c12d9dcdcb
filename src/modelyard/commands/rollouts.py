"""The commands about a release that is being rolled out: promote, abort."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from modelyard.commands.options import AsJson, Model, Verbose
from modelyard.commands.running import console, load_flow, shown_steps
from modelyard.domain.rollout import Answer, Look, RolloutReport, Verdict

_MARKS = {Verdict.SUCCESSFUL: "[green]✓[/]", Verdict.FAILED: "[red]✗[/]"}
Reason = Annotated[str, typer.Option(help="Why; goes into the history.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("promote")(promote)
    app.command("abort")(abort)


def promote(
    model: Model,
    full: Annotated[
        bool, typer.Option("--full", help="Give it all of the traffic now, whatever is left.")
    ] = False,
    reason: Reason = "manual",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Approve the release that waits for a person; with --full make it champion at once."""
    answer = Answer.PROMOTE if full else Answer.APPROVE
    _tell(model, answer, reason, as_json=as_json, verbose=verbose)


def abort(
    model: Model, reason: Reason = "manual", as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Give the champion all of the traffic back, and end the rollout of the other release."""
    _tell(model, Answer.ABORT, reason, as_json=as_json, verbose=verbose)


def look_table(title: str, look: Look | None) -> Table:
    """Return what each measurement of a look showed; nothing yet where there was none."""
    table = Table("", "measured", "finding", title=title)
    for measured in look.measurements if look else ():
        mark = _MARKS.get(measured.verdict, "[yellow]?[/]")
        table.add_row(mark, measured.name, escape(measured.reason))
    return table


def show_rollout(report: RolloutReport) -> None:
    """Print where a rollout is, and what the newest look showed."""
    looks = report.state.looks
    newest = looks[-1] if looks else None
    console.print(look_table(f"Rollout of {report.model} {report.words}", newest))
    if not report.ended:
        console.print(f"{report.decision.why}. `modelyard status --watch` shows how it goes on.")


def _tell(model: str, answer: Answer, reason: str, *, as_json: bool, verbose: bool) -> None:
    """Record what a person says, and carry it out here, unless a flow run is about to."""
    from modelyard.adapters.rollouts.conducting import Conductor, rolling_out
    from modelyard.adapters.workspace import Workspace
    from modelyard.errors import ConflictError, RolloutError

    flow = load_flow("flows.model_rollout", "roll_out_model", model, verbose=verbose)
    workspace = Workspace.find()
    release = rolling_out(workspace, model)
    Conductor(workspace, release).tell(answer, reason)
    try:
        with workspace.ledger.lock(model):
            pass
    except ConflictError:
        console.print("Recorded; the flow run that watches this rollout carries it out.")
        return
    with shown_steps():
        report = flow(model) or Conductor(workspace, release).advance()
    if as_json:
        console.print_json(report.model_dump_json())
    else:
        show_rollout(report)
    if report.ended and report.promoted is (answer is Answer.ABORT):
        raise RolloutError(f"{model} {report.version}: {report.state.why}")
