"""Who finishes a rollout whose flow run is killed, with its worker or without, and after how long?

A delivery is a run of its Prefect deployment, started by a real worker; nobody does anything after
the kill but start the platform again where its worker was killed too. The config's reconciliation
has no schedule here: what carries a rollout on within seconds is not that.
"""

from __future__ import annotations

import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, claim, show
from benchmarks.rollout_broken import MODEL, Yard, service_url, yard
from benchmarks.serving_load import free_port
from modelyard.adapters.platform.parts import (
    platform_id,
    read_platform,
    start_platform,
    stop_platform,
)
from modelyard.adapters.platform.prefect_api import PrefectApi
from modelyard.adapters.platform.processes import family, marked_processes, stop_processes
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.rollout import EventKind, RolloutEvent
from modelyard.domain.values import ReplicaState, ServiceStatus
from modelyard.project import Project

CHECKOUT = Path(__file__).parents[1]
REPLICAS = 2
_STARTED_AGAIN_SECONDS = 3.0
"""After its worker was killed, the platform is started again so much later."""
_LONGEST_SECONDS = 300.0
_PAUSE_SECONDS = 0.02
"""Of each client after each answer: the load is steady, and flow runs have something to run on."""
_SHORT_SECONDS, _POLL_SECONDS = 0.02, 0.5
"""Between two looks: at what is over within a moment, and at what costs its servers something."""


@dataclass(frozen=True)
class Moment:
    """What is true of a rollout, and of the service, when its flow run is killed."""

    name: str
    is_there: Callable[[tuple[RolloutEvent, ...], str, ServiceStatus], bool]
    """Of what happened so far, the version that comes into traffic, and what serves now."""


def _starts(_: tuple[RolloutEvent, ...], version: str, service: ServiceStatus) -> bool:
    starting = any(replica.version == version for replica in service.replicas)
    return starting and version not in service.weights


def _bakes(events: tuple[RolloutEvent, ...], step: int) -> bool:
    entered = sum(event.kind is EventKind.ENTERED for event in events)
    return entered == step and events[-1].kind is EventKind.LOOKED


def _drains(events: tuple[RolloutEvent, ...], version: str, service: ServiceStatus) -> bool:
    left = any(replica.version != version for replica in service.replicas)
    return left and service.weights.get(version) == 100


MOMENTS = (
    Moment("its fleet starts", _starts),
    Moment("its first step bakes", lambda events, *_: _bakes(events, 0)),
    Moment("a later step bakes", lambda events, *_: _bakes(events, 1)),
    Moment("it was decided for", lambda events, *_: events[-1].kind is EventKind.PROMOTED),
    Moment("the former fleet drains", _drains),
)


@dataclass(frozen=True)
class Kill:
    """What came of one kill."""

    moment: str
    what: str
    outcome: str
    unattended: float
    """Seconds until somebody went on with it."""
    took: float
    """Seconds until its end."""
    answered: int
    failed: int
    is_whole: bool
    """Whether the new release has all of the traffic and exactly its replicas."""


def measure_kills(quick: bool) -> list[Claim]:
    """Kill the flow runs of rollouts at each of their phases, under load."""
    moments = MOMENTS[1:2] if quick else MOMENTS
    workers = (False,) if quick else (False, True)
    kills: list[Kill] = []
    config = (
        f"ports: {{prefect: {free_port()}, mlflow: {free_port()}}}\n"
        "reconciliation: {schedule: null}\n"
    )
    with warnings.catch_warnings(), yard(config) as made:
        warnings.simplefilter("ignore")
        made.configure(steps="[25, 50]", bake="8s")
        with _platform(made) as project:
            for moment in moments:
                for with_worker in workers:
                    hours = 24 * (61 + len(kills))
                    kills.append(_kill(made, project, moment, with_worker, hours))
    return _report(kills)


@contextmanager
def _platform(made: Yard) -> Iterator[Project]:
    """Start servers, worker and deployments of a project, and leave none of them."""
    for name in ("flows", "tasks", "deployments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, made.root / name, ignore=ignored)
    project = Project(made.root)
    try:
        start_platform(project, _say_nothing)
        yield project
    finally:
        stop_platform(project, _say_nothing)
        stop_processes(marked_processes(platform_id(project)), grace_seconds=0)


def _say_nothing(*_: object) -> None:
    return


def _kill(made: Yard, project: Project, moment: Moment, with_worker: bool, hours: int) -> Kill:
    workspace = Workspace.find()
    with made.traffic(service_url(), _PAUSE_SECONDS) as sent:
        flow_run = _deliver(project, made.until(hours))
        release = _reached(workspace, moment, flow_run, project)
        known = len(workspace.ledger.rollout(release.id))
        _end(project, flow_run, with_worker)
        killed = datetime.now(UTC)
        if with_worker:
            time.sleep(_STARTED_AGAIN_SECONDS)
            start_platform(project, _say_nothing)
        _wait(lambda: workspace.ledger.rollout(release.id)[-1].kind is EventKind.ENDED)
        _wait(lambda: not _unfinished_runs(project))
        answered, failed = sum(sent.values()) - sent["failed"], sent["failed"]
    after = workspace.ledger.rollout(release.id)[known:]
    release = workspace.ledger.release_by_id(release.id)
    return Kill(
        moment=moment.name,
        what="flow run and worker" if with_worker else "flow run",
        outcome="promoted" if release.state is ReleaseState.CHAMPION else release.state.value,
        unattended=(after[0].at - killed).total_seconds(),
        took=(after[-1].at - killed).total_seconds(),
        answered=answered,
        failed=failed,
        is_whole=_is_whole(workspace, str(release.version)),
    )


def _deliver(project: Project, as_of: datetime) -> str:
    """Ask for a delivery as the run form does; return the flow run's id."""
    deployment = _ask(project, "GET", f"/deployments/name/deliver/{MODEL}")
    body = {"parameters": {"model": MODEL, "as_of": as_of.isoformat()}}
    return _ask(project, "POST", f"/deployments/{deployment['id']}/create_flow_run", body)["id"]


def _reached(workspace: Workspace, moment: Moment, flow_run: str, project: Project) -> Release:
    """Wait until a rollout is where it is to be killed; return its release."""
    found: list[Release] = []

    def there() -> bool:
        release = workspace.ledger.unfinished(MODEL)
        if release is None or release.state is not ReleaseState.ROLLING_OUT:
            return False
        events = workspace.ledger.rollout(release.id)
        status = workspace.target("docker").status(MODEL)
        found[:] = [release]
        return bool(events and status and moment.is_there(events, str(release.version), status))

    try:
        _wait(there, _SHORT_SECONDS)
    except TimeoutError:
        state = _ask(project, "GET", f"/flow_runs/{flow_run}")["state"]
        raise SystemExit(f"{moment.name}: never seen; the flow run is {state}.") from None
    return found[0]


def _end(project: Project, flow_run: str, with_worker: bool) -> None:
    """Kill a flow run's processes with signal 9, those of the worker before."""
    told = _ask(project, "GET", f"/flow_runs/{flow_run}")["infrastructure_pid"]
    doomed = [p for p in marked_processes(platform_id(project)) if p.pid == int(told)]
    worker = read_platform(project)["worker"].process
    if with_worker and worker and (process := worker.process()):
        doomed = [process, *doomed]
    for process in [each for parent in doomed for each in family(parent)]:
        if process.is_running():
            process.kill()


def _unfinished_runs(project: Project) -> list[dict[str, Any]]:
    types = {"type": {"any_": ["PENDING", "RUNNING", "SCHEDULED"]}}
    runs = _ask(project, "POST", "/flow_runs/filter", {"flow_runs": {"state": types}})
    return [run for run in runs if not run["auto_scheduled"]]


def _is_whole(workspace: Workspace, version: str) -> bool:
    status = workspace.target("docker").status(MODEL)
    champion = workspace.ledger.champion(MODEL)
    return (
        status is not None
        and champion is not None
        and (champion.version, status.weights) == (version, {version: 100})
        and [r.version for r in status.replicas] == REPLICAS * [version]
        and all(replica.state is ReplicaState.READY for replica in status.replicas)
    )


def _ask(project: Project, method: str, path: str, body: Any = None) -> Any:
    url = read_platform(project)["prefect"].url
    assert url is not None
    with PrefectApi(url) as api:
        return api.ask(method, path, body)


def _wait(condition: Callable[[], bool], poll_seconds: float = _POLL_SECONDS) -> None:
    end = time.monotonic() + _LONGEST_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"It did not happen within {_LONGEST_SECONDS:.0f} s.")
        time.sleep(poll_seconds)


def _report(kills: list[Kill]) -> list[Claim]:
    show(
        "kill -9 of what carries a rollout on, under load",
        (
            *("while", "killed", "outcome", "s until carried on", "s until its end"),
            *("answered", "failed", "as asked for"),
        ),
        [
            (
                *(k.moment, k.what, k.outcome, k.unattended, k.took),
                *(k.answered, k.failed, "yes" if k.is_whole else "no"),
            )
            for k in kills
        ],
    )
    finished = sum(k.outcome == "promoted" and k.is_whole for k in kills)
    unattended = statistics.median(k.unattended for k in kills)
    return [
        claim("kills: failed requests", sum(k.failed for k in kills), "<=", 0),
        claim("kills: rollouts that ended as they should, of all", finished / len(kills), ">=", 1),
        claim("kills: seconds until a rollout was carried on, median", unattended, "<=", 60),
    ]
