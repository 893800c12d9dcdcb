"""The commands about the platform: up, down, status, apply, doctor."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from modelyard.adapters.platform import parts as local_platform
from modelyard.adapters.platform.deployments import Change, apply_deployments
from modelyard.adapters.platform.part import Part
from modelyard.commands.changes import show_changes
from modelyard.commands.options import AsJson
from modelyard.commands.rollouts import look_table
from modelyard.commands.running import console
from modelyard.config.platform import METRICS_PORT
from modelyard.domain.rollout import Look
from modelyard.domain.values import ReplicaState
from modelyard.ledger import Ledger
from modelyard.project import Project

_WATCH_SECONDS = 2.0
_LATE = timedelta(minutes=1)


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("apply")(apply)
    app.command("metrics")(metrics)
    app.command("doctor")(doctor)


def up(as_json: AsJson = False) -> None:
    """Start Prefect, MLflow and a worker on this machine, and apply the deployments.

    What runs already is left as it is. Services that `modelyard down` stopped come back.
    """
    from modelyard.adapters.platform.services import resume_services

    project = Project.find()
    with _Progress(hidden=as_json) as progress:
        parts, changes = local_platform.start_platform(project, progress.hear)
        resumed = resume_services(project)
    if as_json:
        _print_json({"platform": _parts(parts.values()), "changes": _rows(changes)})
        return
    table = Table("", "address", "log")
    titles = {"prefect": "Prefect", "mlflow": "MLflow", "metrics": "Metrics", "worker": "Worker"}
    for part in parts.values():
        table.add_row(titles[part.name], _page(part) or "-", part.log or "external")
    console.print(table)
    for status in resumed:
        ready = sum(replica.state is ReplicaState.READY for replica in status.replicas)
        back = f"{ready} of {len(status.replicas)} replicas ready"
        console.print(f"Service of {status.model}: {back}, {status.url}")
    console.print("`modelyard status` shows the models, `modelyard down` stops everything.")


def down() -> None:
    """Stop the worker, the servers and every service; leave no process behind."""
    from modelyard.adapters.platform.services import stop_services

    project = Project.find()
    with _Progress() as progress:
        # the worker first: a flow run could put a service back
        count = local_platform.stop_worker(project, progress.hear)
        progress.hear("services", "stopping", None)
        services = stop_services(project)
        progress.hear("services", "stopped" if services else "none", None)
        count += local_platform.stop_platform(project, progress.hear)
    if not count and not services:
        console.print("Nothing ran here.")
        return
    console.print(
        f"Stopped {count} process{'' if count == 1 else 'es'} of the platform"
        + (f" and the services of {', '.join(services)}." if services else ".")
    )


def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make Prefect's deployments, schedules and automations what configs/ say."""
    from modelyard.errors import ServiceUnavailableError

    project = Project.find()
    if "prefect" not in local_platform.read_platform(project):
        raise ServiceUnavailableError(
            "No Prefect server runs, so there is nothing to apply to. Start one with `modelyard "
            "up`, or name one as orchestration.api_url in configs/platform.yaml."
        )
    environment = local_platform.child_environment(project)
    changes = apply_deployments(project, environment, dry_run=dry_run)
    if as_json:
        _print_json({"dry_run": dry_run, "changes": _rows(changes)})
        return
    show_changes(changes, dry_run=dry_run)


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what runs, and of each model: champion, service, rollout, last window, incidents."""
    from modelyard.adapters.platform.overview import overview

    project = Project.find()
    if as_json:
        _print_json(overview(project))
        return
    if not watch:
        console.print(_status(overview(project)))
        return
    with Live(console=console, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while True:
            live.update(_status(overview(project)), refresh=True)
            time.sleep(_WATCH_SECONDS)


def _status(found: dict[str, Any]) -> Group:
    rollouts = [_rollout_table(row) for row in found["models"] if row["rollout"]]
    return Group(_platform_lines(found["platform"]), _model_table(found["models"]), *rollouts)


def _rollout_table(row: dict[str, Any]) -> Table:
    rollout = row["rollout"]
    look = Look.model_validate(rollout["look"]) if rollout["look"] else None
    table = look_table(
        f"{row['name']} {rollout['version']}: {rollout['phase']}, {rollout['weight']} % "
        f"(step {rollout['step']} of {rollout['steps']})",
        look,
    )
    table.caption = escape(rollout["why"]) or None
    return table


def _model_table(models: list[dict[str, Any]]) -> Table:
    table = Table("model", "champion", "address", "replicas", "last window", "incidents", "next")
    for row in models:
        window = row["last_window"]
        table.add_row(
            row["name"],
            row["champion"] or "-",
            row["url"] or "-",
            f"{row['replicas']['ready']} of {row['replicas']['total']} ({row['target']})"
            if row["replicas"]
            else "-",
            f"{window['start'][:16]} … {window['end'][:16]}" if window else "-",
            ", ".join(i["cause"] for i in row["incidents"]) or "none",
            next_run_words(row["next_run"], datetime.now(UTC)),
        )
        for problem in row["problems"]:
            table.add_row("", f"[yellow]{escape(problem)}[/]")
    return table


def next_run_words(due: str | None, now: datetime) -> str:
    """Say when a flow run is due, or since when: it waits for a worker, or for a run before it."""
    if due is None:
        return "-"
    words = due[:16].replace("T", " ")
    return f"[yellow]due since {words}[/]" if datetime.fromisoformat(due) < now - _LATE else words


def metrics(
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port on 127.0.0.1.")] = (
        METRICS_PORT
    ),
) -> None:
    """Serve what monitoring found last as Prometheus metrics, until Ctrl-C.

    `ports.metrics` in configs/platform.yaml makes it a part of `modelyard up`.
    """
    from modelyard.adapters.exporter import serve_metrics

    project = Project.find()
    serve_metrics(project, Ledger.open(project.ledger_url), port)


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine has and lacks for ModelYard; ends with 1 if the loop cannot run."""
    from modelyard.adapters.platform.doctor import examine

    checks = examine(Project.find())
    able = all(check.ok for check in checks if check.required)
    if as_json:
        _print_json({"ok": able, "checks": [check.model_dump() for check in checks]})
    else:
        table = Table("", "what", "found", "mend", box=None, pad_edge=False)
        for check in checks:
            mark = "[green]✓[/]" if check.ok else "[red]✗[/]" if check.required else "[yellow]![/]"
            table.add_row(mark, check.name, escape(check.found), escape(check.mend or ""))
        console.print(table)
        console.print("The local loop can run here." if able else "The loop cannot run here yet.")
    if not able:
        raise typer.Exit(1)


class _Progress:
    """A live line for each part: what is true of it, and the seconds that it took.

    Where nobody watches a terminal, a plain line once something is done.
    """

    def __init__(self, *, hidden: bool = False) -> None:
        self._lines: dict[str, tuple[str, float | None]] = {}
        self._hidden = hidden
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> _Progress:
        if self._live and not self._hidden:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def hear(self, part: str, state: str, seconds: float | None) -> None:
        """Take what is true of a part now; see `modelyard.adapters.platform.parts.Report`."""
        self._lines[part] = (state, seconds)
        if self._live:
            self._live.update(Group(*(self._line(name) for name in self._lines)))
        elif not self._hidden and not _is_under_way(state):
            console.print(self._line(part))

    def _line(self, name: str) -> Any:
        state, seconds = self._lines[name]
        text = f"{name:<12}{state}" + ("" if seconds is None else f"  [dim]{seconds:.1f} s[/]")
        return Spinner("dots", text=text) if _is_under_way(state) else f"[green]✓[/] {text}"


def _is_under_way(state: str) -> bool:
    return state in ("starting", "waiting", "applying", "stopping")


def _platform_lines(parts: list[dict[str, Any]]) -> Group:
    if not parts:
        return Group("The platform is not running; `modelyard up` starts it.")
    states = {True: "[green]answers[/]", False: "[red]does not answer[/]"}
    lines = [
        f"{part['name']:<8} {part['url'] or 'process ' + str(part['pid'])}  "
        f"{states[part['answers']]}"
        for part in parts
    ]
    if not all(part["answers"] for part in parts):
        lines.append("`modelyard up` starts what is missing.")
    return Group(*lines)


def _page(part: Part) -> str | None:
    """Return the address to open in a browser."""
    return part.url.removesuffix("/api") if part.url else None


def _parts(parts: Any) -> list[dict[str, Any]]:
    return [part.model_dump(mode="json") | {"page": _page(part)} for part in parts]


def _rows(changes: list[Change]) -> list[dict[str, Any]]:
    return [change.model_dump(mode="json") for change in changes]


def _print_json(data: Any) -> None:
    # not through Rich: it wraps lines to the terminal's width
    print(json.dumps(data, indent=2, default=str))
