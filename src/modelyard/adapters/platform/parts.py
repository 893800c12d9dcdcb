"""What runs the project on this machine, and how does it start and stop?

The platform is a Prefect server, an MLflow server, a Prefect worker and, where platform.yaml names
its port, the exporter of metrics: each a detached process with a log file in the project's run
folder. A server that platform.yaml names by URL is used and
never started or stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from modelyard.adapters.platform.deployments import Change, apply_deployments
from modelyard.adapters.platform.part import (
    HOST,
    START_SECONDS,
    Part,
    PartName,
    Platform,
    answers,
    check_alive,
    wait_for_answers,
)
from modelyard.adapters.platform.prefect_api import PrefectApi
from modelyard.adapters.platform.processes import (
    MARK_VARIABLE,
    family,
    marked_processes,
    session_of,
    start_process,
    stop_processes,
)
from modelyard.config.platform import METRICS_PORT
from modelyard.errors import ConflictError
from modelyard.project import ROOT_VARIABLE, Project

HEARTBEAT_SECONDS = 30
"""How often a flow run says that it is alive; Prefect's least."""
_FLOW_RUNS_A_CORE = 2
"""That this machine's worker runs at a time; the others wait. Sixty at once, when twenty models
are due at midnight, are no sooner done, and Prefect's server on SQLite cannot answer them."""
STOP_SECONDS = 15.0
"""How long a part may take to end by itself: a flow run reports that it was stopped."""

Report = Callable[[str, str, float | None], None]
"""Called with a part, what is true of it, and its seconds once it is there."""


def platform_id(project: Project) -> str:
    """Return what tells this project's processes and deployments from another's."""
    return hashlib.sha256(project.root.resolve().as_uri().encode()).hexdigest()[:12]


def read_platform(project: Project) -> dict[PartName, Part]:
    """Return the parts that run now, by name; without `modelyard up` only external ones."""
    return {name: part for name, part in expected_platform(project).items() if part.runs()}


def expected_platform(project: Project) -> dict[PartName, Part]:
    """Return the parts that were started and not stopped, also those that ended by themselves."""
    parts = _external_parts(project)
    file = _state_file(project)
    if file.is_file():
        for part in map(Part.model_validate, json.loads(file.read_text())):
            parts.setdefault(part.name, part)
    return parts


def prefect_environment(project: Project) -> dict[str, str]:
    """Return what must be in the environment before Prefect or MLflow is imported.

    Where no server runs, flows run on Prefect's ephemeral one: an empty address says so, and keeps
    an address in the user's own profile from being used unasked.
    """
    prefect = read_platform(project).get("prefect")
    environment = {
        ROOT_VARIABLE: str(project.root),
        "PREFECT_HOME": str(project.folder("prefect")),
        "PREFECT_API_URL": prefect.url if prefect and prefect.url else "",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(START_SECONDS)),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        # SQLite lets one writer in at a time: wait for it rather than fail
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
        # and where it fails all the same, with 500, that has changed nothing: it is asked again
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # a flow run that is heard of no more is found in two minutes, and not in ten
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # on busy cores, threads that wait by spinning cost a fit ten times its work
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    if not (prefect and prefect.is_external):
        # a key for somebody's cloud must not be sent to, or asked of, a server on this machine
        environment |= {"PREFECT_API_KEY": "", "PREFECT_API_AUTH_STRING": ""}
    return environment


def start_platform(project: Project, report: Report) -> tuple[dict[PartName, Part], list[Change]]:
    """Start what is missing, apply the deployments; return the parts and the applied changes.

    Both servers start at the same time; the worker once its work pool is there. Raises
    ServiceUnavailableError with the end of the log when a part does not come up.
    """
    with _locked(project):
        expected = expected_platform(project)
        parts: dict[PartName, Part] = {n: part for n, part in expected.items() if part.runs()}
        started = time.monotonic()
        awaited: list[PartName] = []
        servers: dict[PartName, Callable[[Project], Part]] = {
            "prefect": _start_prefect,
            "mlflow": _start_mlflow,
        }
        if project.platform.ports.metrics is not None:
            servers["metrics"] = _start_metrics
        for name, start in servers.items():
            if name not in parts:
                report(name, "starting", None)
                _end_rest(project, expected.get(name))
                parts[name] = start(project)
                _write_state(project, parts)
                awaited.append(name)
        for name in servers:
            report(name, "waiting" if name in awaited else _presence(parts[name]), None)
        for name, seconds in wait_for_answers(parts, started):
            report(name, "ready" if name in awaited else _presence(parts[name]), seconds)

        report("deployments", "applying", None)
        started = time.monotonic()
        changes = apply_deployments(project, child_environment(project))
        report("deployments", f"{len(changes)} changed", time.monotonic() - started)

        if project.platform.orchestration.type != "process":
            report("worker", "elsewhere", None)
        elif "worker" not in parts:
            report("worker", "starting", None)
            started = time.monotonic()
            _end_rest(project, expected.get("worker"))
            settle_flow_runs(project)
            parts["worker"] = _start_worker(project)
            _write_state(project, parts)
            _wait_for_worker(project, parts)
            report("worker", "ready", time.monotonic() - started)
        else:
            report("worker", _presence(parts["worker"]), None)
        return parts, changes


def stop_worker(project: Project, report: Report) -> int:
    """Stop the worker and its flow runs; return how many processes ended."""
    with _locked(project):
        # a Prefect worker waits for its flow runs, so these are asked to end as well
        count = _stop_part(read_platform(project).get("worker"), report)
        if count:
            settle_flow_runs(project)
        return count


def stop_platform(project: Project, report: Report) -> int:
    """Stop the worker with its flow runs, then the servers; return how many processes ended.

    Only processes that `modelyard up` of this project started, and what descends from them.
    """
    count = stop_worker(project, report)
    with _locked(project):
        parts = read_platform(project)
        servers: tuple[PartName, ...] = ("metrics", "mlflow", "prefect")
        for name in servers:
            count += _stop_part(parts.get(name), report)
        left = marked_processes(platform_id(project))
        stop_processes(left, grace_seconds=STOP_SECONDS)
        _state_file(project).unlink(missing_ok=True)
        return count + len(left)


def _stop_part(part: Part | None, report: Report) -> int:
    """Stop a part's process and all that descends from it; return how many there were."""
    process = part.process.process() if part and part.process else None
    if part is None or process is None:
        return 0
    report(part.name, "stopping", None)
    started = time.monotonic()
    processes = family(process)
    stop_processes(processes, grace_seconds=STOP_SECONDS)
    report(part.name, "stopped", time.monotonic() - started)
    return len(processes)


def _end_rest(project: Project, killed: Part | None) -> None:
    """End what a part that was killed left behind: a server still holds the port."""
    if killed is not None and killed.process is not None:
        rest = session_of(killed.process, platform_id(project))
        stop_processes(rest, grace_seconds=STOP_SECONDS)


def _start_prefect(project: Project) -> Part:
    url = _address(project.platform.ports.prefect)
    port = str(httpx.URL(url).port)
    return _start(
        project,
        "prefect",
        ["prefect", "server", "start", "--host", HOST, "--port", port],
        url=f"{url}/api",
        # the page in the browser asks this address
        PREFECT_API_URL=f"{url}/api",
        PREFECT_UI_API_URL=f"{url}/api",
    )


def _start_mlflow(project: Project) -> Part:
    url = _address(project.platform.ports.mlflow)
    artifacts = project.folder("mlartifacts")
    return _start(
        project,
        "mlflow",
        [
            *("mlflow", "server", "--host", HOST, "--port", str(httpx.URL(url).port)),
            *("--backend-store-uri", project.tracking_uri),
            # Runs are logged to the database and this folder directly, so the server must read the
            # artifacts where the runs say they are, and not offer to store them itself.
            *("--default-artifact-root", artifacts.as_uri(), "--no-serve-artifacts"),
            *("--workers", "1"),
        ],
        url=url,
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",  # for judging language models: four processes
    )


def _start_metrics(project: Project) -> Part:
    url = _address(project.platform.ports.metrics or METRICS_PORT)
    words = ["modelyard", "metrics", "--port", str(httpx.URL(url).port)]
    return _start(project, "metrics", words, url=url)


def _start_worker(project: Project) -> Part:
    pool = project.platform.orchestration.work_pool
    most = str(_FLOW_RUNS_A_CORE * (os.cpu_count() or 1))
    words = ["--pool", pool, "--name", _worker_name(project), "--limit", most]
    return _start(
        project,
        "worker",
        ["modelyard.adapters.platform.worker", *words],
        PREFECT_WORKER_QUERY_SECONDS="2",
    )


def _start(
    project: Project, name: PartName, module: list[str], url: str | None = None, **more: str
) -> Part:
    log = project.run_folder() / f"{name}.log"
    environment = child_environment(project) | {MARK_VARIABLE: platform_id(project)} | more
    process = start_process(
        [sys.executable, "-m", *module], folder=project.root, environment=environment, log=log
    )
    return Part(name=name, url=url, process=process, log=str(log))


def child_environment(project: Project) -> dict[str, str]:
    """Return the whole environment of a process that works for this project."""
    return {**os.environ, **prefect_environment(project), "PYTHONUNBUFFERED": "1"}


def _wait_for_worker(project: Project, parts: Platform) -> None:
    """Wait until Prefect has heard from the worker since it was started."""
    worker = parts["worker"]
    assert worker.process is not None
    pool = project.platform.orchestration.work_pool
    started = time.monotonic()
    with _prefect(parts) as api:
        while True:
            heard = api.worker_heard_at(pool, _worker_name(project))
            if heard and heard.timestamp() > worker.process.started:
                return
            check_alive(worker, time.monotonic() - started)
            time.sleep(0.2)


def settle_flow_runs(project: Project) -> None:
    """Have Prefect know which of our flow runs ended with an earlier worker."""
    parts = read_platform(project)
    if "prefect" not in parts or not answers(parts["prefect"]):
        return
    alive = {process.pid for process in marked_processes(platform_id(project))}
    with _prefect(parts) as api:
        api.crash_lost_runs(_worker_name(project), alive)


def _prefect(parts: Platform) -> PrefectApi:
    url = parts["prefect"].url
    assert url is not None
    return PrefectApi(url)


def _external_parts(project: Project) -> dict[PartName, Part]:
    """Return the servers that platform.yaml names by URL."""
    config = project.platform
    parts: dict[PartName, Part] = {}
    if config.orchestration.api_url:
        parts["prefect"] = Part(name="prefect", url=config.orchestration.api_url.rstrip("/"))
    if config.tracking.uri and config.tracking.uri.startswith(("http://", "https://")):
        parts["mlflow"] = Part(name="mlflow", url=config.tracking.uri.rstrip("/"))
    return parts


def _presence(part: Part) -> str:
    return "external" if part.is_external else "already running"


def _worker_name(project: Project) -> str:
    return f"modelyard-{socket.gethostname()}-{platform_id(project)}"


def _address(first_port: int) -> str:
    """Return an address on this machine at the first free port from `first_port` on."""
    for port in range(first_port, 65536):
        with socket.socket() as probe:
            # as servers do: a port whose last connection is still closing is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return f"http://{HOST}:{port}"
    raise ConflictError(f"No port from {first_port} on is free on {HOST}. End what listens there.")


def _state_file(project: Project) -> Path:
    return project.home / "run" / "platform.json"


def _write_state(project: Project, parts: Platform) -> None:
    """Record the parts that run here, at once or not at all."""
    file = _state_file(project)
    stored = [p.model_dump(mode="json") for p in parts.values() if not p.is_external]
    draft = file.with_suffix(".part")
    draft.write_text(json.dumps(stored, indent=2) + "\n")
    draft.replace(file)


@contextmanager
def _locked(project: Project) -> Iterator[None]:
    """Let one `up` or `down` of this project work at a time."""
    try:
        with FileLock(project.run_folder() / "platform.lock", timeout=START_SECONDS):
            yield
    except Timeout as err:
        raise ConflictError(
            f"Another `modelyard up` or `down` has been at work on {project.root} for "
            f"{START_SECONDS:.0f} s. Wait for it to end, or end it."
        ) from err
