"""`modelyard backtest`: what would another policy have done, and what would it have cost?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from modelyard.errors import ConflictError, InvalidInputError
from modelyard.project import Project

if TYPE_CHECKING:
    from modelyard.adapters.backtest.policies import Policy
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
    end: Annotated[
        datetime | None, typer.Option("--to", formats=FORMATS, help="Default: the newest row.")
    ] = None,
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
    files = [path.resolve() for path in policies or ()]
    writer = PolicyWriter.of(project, name, files, every) if write else None
    flow = load_flow("flows.model_backtest", "backtest_model", model, verbose=verbose)
    with _progress():
        done: Backtest = flow(
            model,
            policies=[str(path) for path in files],
            start=as_utc(start) if start else None,
            end=as_utc(end) if end else None,
            every=every,
            processes=processes,
            dask=dask,
        )
    if as_json:
        console.print_json(done.model_dump_json())
    else:
        show_policies(done)
        console.print(f"Report: [bold]{project.folder('backtests', name) / 'report.html'}[/]")
    if writer is not None:
        writer.write(done.recommendation.policy)


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


def show_policies(done: Backtest) -> None:
    """Print policies side by side, and which is recommended."""
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
    for score in done.ranked:
        if score.aborted:
            count = (
                f"{len(score.aborted)} retraining{'s' * (len(score.aborted) > 1)} trained nothing"
            )
            console.print(f"[yellow]{escape(f'{score.policy}: {count}: {score.aborted[0]}')}[/]")
    console.print(f"Recommended: [bold green]{escape(done.recommendation.policy)}[/]")
    for reason in done.recommendation.reasons:
        console.print(f"- {reason}", markup=False)


@dataclass(frozen=True)
class PolicyWriter:
    """Puts one of the policies that were asked for into the config that they were made of."""

    path: Path
    text: str
    """What the config said when the backtest began."""
    policies: tuple[Policy, ...]

    @classmethod
    def of(cls, project: Project, model: str, files: list[Path], every: int) -> PolicyWriter:
        """Raises InvalidInputError for an example, before anything is computed."""
        from modelyard.adapters.backtest.policies import read_policies, standard_policies

        config = project.model(model)
        path = project.root / "configs" / "models" / f"{config.name}.yaml"
        if not path.exists():
            raise InvalidInputError(
                f"{model} is an example, which is not written to. Copy it to {path} first."
            )
        asked = (policy for file in files for policy in read_policies(file, config))
        return cls(path, path.read_text(), (*standard_policies(config, every), *asked))

    def write(self, name: str) -> None:
        """Raises ConflictError where the config was changed meanwhile."""
        from modelyard.config.rewriting import rewrite_model_file

        chosen = next(policy for policy in self.policies if policy.name == name)
        if chosen.every is not None and "retraining.schedule" not in chosen.changes:
            raise InvalidInputError(
                f"{name!r} was not written: no retraining.schedule counts windows of rows, as "
                f"monitoring.window does in {self.path}. Give it a span, or run with --policy."
            )
        if not chosen.changes:
            console.print("The config says so already; nothing was written.")
            return
        if self.path.read_text() != self.text:
            raise ConflictError(
                f"{self.path} was changed while the backtest ran, which tried what it said before. "
                "Nothing was written: run it again."
            )
        rewrite_model_file(self.path, chosen.changes)
        console.print(f"Written to [bold]{self.path}[/]: {escape(chosen.words)}")
        if chosen.every is not None:
            console.print(
                "It was tried without the cooldown, budget, min_new_labels and max_kept of the "
                "config, which stay there: make them fit."
            )
