"""`modelyard reproduce`: is a release what it would be if it were made again?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from modelyard.commands.options import AsJson, Model, Verbose
from modelyard.commands.running import console, load_flow, shown_steps
from modelyard.domain.reproduction import Reproduction, ReproductionVerdict


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reproduce")(reproduce)


def reproduce(
    model: Model,
    version: Annotated[
        str | None, typer.Argument(help="Release, like 1.0.0; else the champion.")
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option("--with", help="Take another version of a package: scikit-learn==1.8.0."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a release again in a fresh environment and compare; ends with 3 where it differs.

    Verdicts: bit-equal, prediction-equal, metric-equal, different.
    """
    flow = load_flow("flows.model_reproduction", "reproduce_release", model, verbose=verbose)
    with shown_steps():
        reproduction: Reproduction = flow(model, version=version, replace=replace)
    if as_json:
        console.print_json(reproduction.model_dump_json())
    else:
        _show(reproduction)
    if reproduction.verdict is ReproductionVerdict.DIFFERENT:
        raise typer.Exit(3)


def _show(reproduction: Reproduction) -> None:
    verdict = reproduction.verdict
    colour = "red" if verdict is ReproductionVerdict.DIFFERENT else "green"
    name = f"{reproduction.model} {reproduction.version}"
    console.print(f"{name}: [bold {colour}]{verdict.value}[/]")
    for reason in reproduction.reasons:
        console.print(f"- {reason}", markup=False)
    if reproduction.by_reference:
        console.print("- its rows were read from their source again: they are kept by reference")
    if reproduction.differences:
        table = Table("part", "what", "recorded", "now")
        for found in reproduction.differences:
            table.add_row(found.part, found.name, found.recorded, found.found)
        console.print(table)
    if reproduction.metrics:
        title = f"On {reproduction.measured_on}"
        table = Table("metric", "recorded", "reproduced", title=title)
        for metric, pair in reproduction.metrics.items():
            table.add_row(metric, str(pair.recorded), f"{pair.reproduced:.6g}")
        console.print(table)
