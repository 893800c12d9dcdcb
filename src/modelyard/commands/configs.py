"""`modelyard init`, `validate` and `models`: which configs are there, and are they right?"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modelyard.config import ModelConfig, PlatformConfig, load_model_config
from modelyard.config.file import shown
from modelyard.config.values import format_extent
from modelyard.domain.values import MLTask
from modelyard.errors import InvalidInputError, ModelYardError
from modelyard.project import PLATFORM_FILE, Project


class SchemaName(StrEnum):
    """A config that has a JSON schema."""

    MODEL = "model"
    PLATFORM = "platform"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the application."""
    app.command("init")(init)
    app.command("validate")(validate)
    app.command("models")(models)


def json_schema(name: SchemaName) -> str:
    """Return the JSON schema of a config, as docs/schema holds it."""
    schema = (ModelConfig if name is SchemaName.MODEL else PlatformConfig).model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def init(
    file: Annotated[str, typer.Argument(help="csv, csv.gz or parquet file, a glob or a URL.")],
    target: Annotated[str, typer.Option(help="Column to predict.")],
    time: Annotated[str | None, typer.Option(help="Column with the event time.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; else the file's.")] = None,
    task: Annotated[MLTask | None, typer.Option(help="Else inferred from the target.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column with a unique key.")] = None,
    time_format: Annotated[
        str | None, typer.Option(help="strptime format of the times, if not ISO 8601.")
    ] = None,
    label_time: Annotated[
        str | None, typer.Option(help="Column with the time at which the outcome became known.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over a config that is there.")] = False,
) -> None:
    """Write a commented config for a data file. Nothing is written when the rows are bad."""
    from modelyard.adapters.data.scaffold import draft_config

    project = Project.find()
    source = _source(file, project.root)
    name = _slug(name or _stem(file), given=name is not None)
    path = project.root / "configs" / "models" / f"{name}.yaml"
    if path.exists() and not force:
        raise InvalidInputError(
            f"{shown(path)} is there already; choose another --name, or write over it with --force."
        )
    draft = draft_config(
        source,
        root=project.root,
        name=name,
        target=target,
        task=task,
        time=time,
        id_column=id_column,
        time_format=time_format,
        label_time=label_time,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draft.text, encoding="utf-8")
    console = Console()
    table = Table(title=f"{shown(path)}, from {draft.rows:,} rows", title_justify="left")
    for heading in ("what", "inferred"):
        table.add_column(heading, overflow="fold")
    data, contract = draft.config.data, draft.contract
    classes = f": {', '.join(contract.classes)}" if contract.classes else ""
    table.add_row("task", f"{draft.config.task}{escape(classes)}")
    for role in ("target", "id", "time", "label_time"):
        table.add_row(role, escape(getattr(data, role) or "none"))
    if "missing_values" in data.model_fields_set:
        table.add_row("no value", escape(", ".join(map(repr, data.missing_values))))
    table.add_row("features", escape(", ".join(contract.names())))
    for column, reason in draft.left_out.items():
        if column not in (data.id, data.time, data.label_time):
            table.add_row(f"left out: {escape(column)}", escape(reason))
    console.print(table)
    for hint in draft.hints:
        console.print(f"- {escape(hint)}", soft_wrap=True)
    console.print(
        f"Next: modelyard validate {name} && modelyard deliver {name}", style="bold", soft_wrap=True
    )


def validate(
    names: Annotated[list[str] | None, typer.Argument(help="Models; all when left out.")] = None,
    data: Annotated[bool, typer.Option(help="Read and check the rows as well.")] = True,
    schema: Annotated[SchemaName | None, typer.Option(help="Print a JSON schema instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check configs and their data. Ends with 2 when one of them is wrong."""
    if schema is not None:
        typer.echo(json_schema(schema), nl=False)
        return
    project = Project.find()
    _ = project.platform
    folder = project.root / "configs" / "models"
    results = [_check(project, folder, name, data) for name in names or project.model_names()]
    problems = [problem for result in results for problem in result["problems"]]
    if as_json:
        typer.echo(json.dumps({"models": results}, indent=2))
        if problems:
            raise typer.Exit(InvalidInputError.exit_code)
        return
    console = Console()
    for result in results:
        if not result["problems"]:
            console.print(escape(_sentence(result)), soft_wrap=True)
    if problems:
        raise InvalidInputError("\n".join(problems))
    if not results:
        console.print(f"{PLATFORM_FILE} is right. There is no model yet: modelyard init FILE ...")


def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the models that configs/models describes."""
    project = Project.find()
    configs = [project.model(name) for name in project.model_names()]
    if as_json:
        shapes = [config.model_dump(mode="json") for config in configs]
        typer.echo(json.dumps({"models": shapes}, indent=2))
        return
    table = Table()
    for heading in ("model", "task", "source", "target", "service", "window", "schedule"):
        table.add_column(heading, overflow="fold")
    for config in configs:
        table.add_row(
            config.name,
            config.task,
            escape(config.data.source.written),
            escape(config.data.target),
            f"{config.service.target} x{config.service.replicas}",
            format_extent(config.monitoring.window),
            str(config.monitoring.schedule or "by hand"),
        )
    Console().print(table)


def _check(project: Project, folder: Path, name: str, with_data: bool) -> dict[str, Any]:
    """Return what is known of one model: its problems, and its rows and features without one."""
    result: dict[str, Any] = {"name": name, "problems": []}
    try:
        config = load_model_config(folder, name)
        if with_data:
            result |= _check_data(project, config)
    except ModelYardError as err:
        result["problems"] = str(err).splitlines()
    return result


def _check_data(project: Project, config: ModelConfig) -> dict[str, Any]:
    from modelyard.adapters.data.frames import as_features, infer_contract
    from modelyard.adapters.data.selection import check_evaluation_columns
    from modelyard.adapters.data.sources import read_rows
    from modelyard.adapters.learning.pipelines import build_pipeline
    from modelyard.adapters.learning.scorers import find_metrics

    rows = read_rows(config.data, root=project.root, task=config.task)
    contract, left_out = infer_contract(config, rows)
    as_features(rows, contract)
    check_evaluation_columns(config, rows)
    find_metrics(config.evaluation, config.task)
    build_pipeline(config.training, contract)
    span = (
        [rows[contract.time].iloc[place].isoformat() for place in (0, -1)] if contract.time else []
    )
    return {
        "rows": len(rows),
        "labelled": int(rows[contract.target].notna().sum()),
        "span": span,
        "contract": contract.model_dump(mode="json"),
        "left_out": left_out,
    }


def _sentence(result: dict[str, Any]) -> str:
    if "rows" not in result:
        return f"{result['name']}: the config is right; its rows were not read."
    span = f" from {result['span'][0]} to {result['span'][1]}" if result["span"] else ""
    return (
        f"{result['name']}: {result['rows']:,} rows{span}, {result['labelled']:,} with a label, "
        f"{len(result['contract']['columns'])} features."
    )


def _source(file: str, root: Path) -> str:
    """Return a file as the config names it: relative to the project where it is inside of it."""
    if "://" in file:
        return file
    path = Path(file).expanduser().resolve()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _stem(file: str) -> str:
    return re.sub(r"(\.csv|\.gz|\.parquet)+$", "", file.rstrip("/").rsplit("/", 1)[-1])


def _slug(name: str, *, given: bool) -> str:
    slug = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[:63]
    if not slug or (given and slug != name):
        raise InvalidInputError(
            f"{name!r} cannot name a model: use small letters, digits, - and _"
            f"{f', like --name {slug}' if slug else ''}."
        )
    return slug
