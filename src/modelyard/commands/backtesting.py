"""`modelyard backtest`: what would another policy have done, and what would it have cost?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from modelyard.commands.options import AsJson, Model, Verbose
from modelyard.commands.running import console, load_flow
from modelyard.commands.traffic import FORMATS
from modelyard.domain.values import as_utc
from modelyard.errors import InvalidInputError
from modelyard.project import Project

if TYPE_CHECKING:
    from modelyard.domain.backtest import Backtest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("backtest")(backtest)


def backtest(
    model: Model,
    policies: Annotated[
        list[Path] | None,
        typer.Option(
            "--policy", exists=True, dir_okay=False, help="YAML file of what a policy changes."
        ),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=FORMATS, help="Default: after a quarter of the rows."),
    ] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=FORMATS)] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Windows between retrainings of the schedule policy.")
    ] = 4,
    processes: Annotated[
        int | None, typer.Option(min=1, help="At the same time; default: one a core.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, like tcp://10.0.0.5:8786.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the recommended policy into the config.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Try policies of monitoring and retraining on history, before they are turned on.

    Beside the policies of files: never, the model's config, on performance alone, on drift alone,
    every few windows, and an oracle that learns anew before every window. Nothing is registered
    or rolled out.
    """
    project = Project.find()
    name = project.model(model).name
    flow = load_flow("flows.model_backtest", "backtest_model", model, verbose=verbose)
    with _progress():
        done: Backtest = flow(
            model,
            policies=[str(path.resolve()) for path in policies or ()],
            start=as_utc(start) if start else None,
            end=as_utc(end) if end else None,
            every=every,
            processes=processes,
            dask=dask,
        )
    if as_json:
        console.print_json(done.model_dump_json())
    else:
        _show(done)
        console.print(f"Report: [bold]{project.folder('backtests', name) / 'report.html'}[/]")
    if write:
        _write(project, model, done, [path.resolve() for path in policies or ()], every)


@contextmanager
def _progress() -> Iterator[None]:
    from modelyard.adapters.backtest.running import listeners

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("Reading history", total=None)

        def hear(done: int, total: int, what: str) -> None:
            progress.update(bar, completed=done, total=total, description=f"Policies ({what})")

        listeners.append(hear)
        try:
            yield
        finally:
            listeners.remove(hear)


def _show(done: Backtest) -> None:
    from modelyard.adapters.backtest.report import share_words

    table = Table(
        title=f"{done.windows} windows of {done.model}, {done.start:%Y-%m-%d} to "
        f"{done.end:%Y-%m-%d}",
    )
    for column in ("policy", f"mean {done.metric}", "lost", "recovered", "trainings"):
        table.add_column(column, no_wrap=column != "policy")
    for column in ("kept", "alarms (false)", "violations"):
        table.add_column(column, no_wrap=True)
    for score in done.ranked:
        chosen = score.policy == done.recommendation.policy
        table.add_row(
            f"{'● ' if score.best_for_its_price else ''}{escape(score.policy)}",
            f"{score.mean:.4g}",
            f"{score.lost:.3g}",
            share_words(score.recovered),
            str(score.trainings),
            str(score.kept),
            f"{score.alarms} ({score.false_alarms})",
            str(score.violations),
            style="bold green" if chosen else None,
        )
    console.print(table)
    console.print(f"Recommended: [bold green]{escape(done.recommendation.policy)}[/]")
    for reason in done.recommendation.reasons:
        console.print(f"- {reason}", markup=False)


def _write(project: Project, model: str, done: Backtest, files: list[Path], every: int) -> None:
    """Write the recommended policy into the model's config."""
    from modelyard.adapters.backtest.policies import read_policies, standard_policies
    from modelyard.config.rewriting import rewrite_model_file

    config = project.model(model)
    known = [
        *standard_policies(config, every),
        *(p for f in files for p in read_policies(f, config)),
    ]
    chosen = next(policy for policy in known if policy.name == done.recommendation.policy)
    path = project.root / "configs" / "models" / f"{config.name}.yaml"
    if not path.exists():
        raise InvalidInputError(
            f"{model} is an example, which is not written to. Copy it to {path} first."
        )
    if chosen.every is not None and "retraining.schedule" not in chosen.changes:
        raise InvalidInputError(
            f"{chosen.name!r} was not written: no retraining.schedule counts windows of rows, like "
            f"monitoring.window of {model}. Give monitoring.window a span, or run with --policy."
        )
    if not chosen.changes:
        console.print("The config says so already; nothing was written.")
        return
    rewrite_model_file(path, chosen.changes)
    console.print(f"Written to [bold]{path}[/]: {escape(chosen.words)}")
