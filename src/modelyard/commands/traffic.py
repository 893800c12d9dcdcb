"""The commands that talk to a live service: predict, labels, replay."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from modelyard.commands.options import AsJson, Model, Verbose
from modelyard.commands.running import console, load_flow
from modelyard.domain.values import ServiceStatus, as_utc
from modelyard.errors import DataError, UnknownReleaseError
from modelyard.project import Project

if TYPE_CHECKING:
    from modelyard.adapters.workspace import Workspace
    from modelyard.config import Data, ModelConfig
    from modelyard.domain.releases import Release

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]
errors = Console(stderr=True)
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or Parquet file.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("predict")(predict)
    app.command("labels")(labels)
    app.command("replay")(replay)


def predict(
    model: Model,
    file: File,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV file to write; default: stdout.")
    ] = None,
) -> None:
    """Send a file's rows to the live service and write them back with its predictions."""
    from modelyard.adapters.client import ServiceClient
    from modelyard.adapters.data.files import read_files
    from modelyard.adapters.data.frames import as_features
    from modelyard.adapters.data.sources import read_columns

    workspace, champion, status = _live(model)
    contract = champion.delivery.contract
    config = workspace.project.model(model)
    typed = read_columns(_of_file(config, file), root=Path.cwd(), task=config.task)
    named = [name for name in (contract.id, contract.time) if name in typed.columns]
    rows = as_features(typed, contract).join(typed[named])
    answers: list[Any] = []
    with ServiceClient(status.url, contract) as client:
        for start in track(range(0, len(rows), 500), "Predicting", console=errors, transient=True):
            answers += client.predict(rows.iloc[start : start + 500]).predictions
    raw, _ = read_files(str(file), Path.cwd(), ())  # the user's own cells, untouched
    raw.assign(prediction=answers).to_csv(output or sys.stdout, index=False)
    if output:
        console.print(f"{len(rows):,} predictions by release {champion.version} in {output}")


def labels(
    model: Model,
    file: File,
    id_column: Annotated[str | None, typer.Option("--id", help="Default: data.id.")] = None,
    label_column: Annotated[
        str | None, typer.Option("--label", help="Default: data.target.")
    ] = None,
    time_column: Annotated[
        str | None, typer.Option("--time", help="When each label became known; default: now.")
    ] = None,
) -> None:
    """Load true outcomes of rows that were predicted; loading a file again changes nothing."""
    import pandas as pd

    from modelyard.adapters.data.labels import store_labels
    from modelyard.adapters.data.sources import read_columns
    from modelyard.adapters.data.times import parse_times
    from modelyard.adapters.learning.outcomes import class_name
    from modelyard.adapters.workspace import Workspace

    project = Project.find()
    config = project.model(model)
    rows = read_columns(_of_file(config, file), root=Path.cwd(), task=config.task)
    key, target = id_column or config.data.id, label_column or config.data.target
    if key is None:
        raise DataError(
            f"{model} has no data.id, so its predictions are logged under the ids of their "
            "requests. Name the column that holds those with --id, or set data.id and deliver."
        )
    if time_column is None and config.data.label_time in rows.columns:
        time_column = config.data.label_time
    for name in filter(None, (key, target, time_column)):
        if name not in rows.columns:
            raise DataError(f"{file} has no column {name!r}; it has {', '.join(rows.columns)}.")
    there = rows[rows[target].notna()]
    known = pd.Series(pd.Timestamp.now(tz="UTC").floor("s"), index=there.index)
    if time_column is not None:
        known = parse_times(there[time_column], config.data.time_format)
    outcomes = there[target]
    if not config.task.is_classification and not pd.api.types.is_numeric_dtype(outcomes):
        raise DataError(f"{file}: column {target!r} holds texts, and {model} predicts numbers.")
    count = store_labels(project.label_folder(config.name), there[key], outcomes, known)
    ids = there[key].map(class_name)
    matched = ids.isin(Workspace(project).prediction_log(config.name).known(ids)).sum()
    console.print(
        f"{count:,} labels of {model} loaded, {len(rows) - count:,} rows have none yet; "
        f"{matched:,} belong to predictions that were made."
    )
    if count and not matched:
        console.print(f"[yellow]None of the ids in {key!r} was ever sent with a prediction.[/]")


def replay(
    model: Model,
    file: Annotated[
        str | None, typer.Argument(help="File with the rows; default: the config's data source.")
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=FORMATS, help="Default: after the champion's rows."),
    ] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=FORMATS)] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Times faster than real; default: no pause.")
    ] = None,
    in_step: Annotated[
        bool,
        typer.Option("--in-step", help="Hold traffic while flows run: the same rows, each time."),
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Send rows in time order as live traffic, labels arriving when they really would.

    Each monitoring window is measured when it ends, and the retraining controller is asked: by
    the platform's own automation where `modelyard up` runs, otherwise here; and here whenever
    `retraining.schedule` falls into the window. Traffic goes on meanwhile.
    """
    from modelyard.commands.replaying import run_replay

    monitor = load_flow("flows.model_monitoring", "monitor_model", model, verbose=verbose)
    retrain = load_flow("flows.model_retraining", "retrain_model", model, verbose=verbose)
    workspace, champion, status = _live(model)
    run_replay(
        workspace,
        champion,
        status.url,
        monitor=monitor,
        retrain=retrain,
        source=file,
        start=as_utc(start) if start else None,
        end=as_utc(end) if end else None,
        speed=speed,
        as_json=as_json,
        in_step=in_step,
    )


def _live(model: str) -> tuple[Workspace, Release, ServiceStatus]:
    from modelyard.adapters.workspace import Workspace

    workspace = Workspace.find()
    config = workspace.project.model(model)
    champion = workspace.ledger.champion(config.name)
    status = workspace.target(config.service.target).status(config.name) if champion else None
    if champion is None or status is None:
        raise UnknownReleaseError(f"{model} has no service. `modelyard deliver {model}` makes one.")
    return workspace, champion, status


def _of_file(config: ModelConfig, file: Path) -> Data:
    """Return what a config says of columns and cells, about another file."""
    return config.data.model_copy(update={"source": str(file), "query": None})
