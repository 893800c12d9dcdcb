"""What does one fault cost: of a replica, the gateway, who changes the service, or the engine?"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from docker.errors import DockerException
from requests.exceptions import RequestException

from benchmarks.claims import Claim, claim, console, show
from benchmarks.interrupted_syncs import start_elsewhere
from benchmarks.rollout_load import Seen, load, wait_until
from benchmarks.rollout_service import VERSIONS, Yard, kill
from modelyard.domain.values import ReplicaState
from modelyard.errors import ModelYardError

OLD, NEW, NEWEST = VERSIONS
RESTART_ENGINE = "MODELYARD_BENCH_RESTART_ENGINE"
"""Set to 1, a full run may restart the engine."""
SCRIPT = Path(__file__).parents[1] / "scripts" / "install_docker_engine.sh"
_RESTART_PAUSE_SECONDS = 11.0
"""The engine waits longer before each restart of a container that ran for less than ten seconds."""


@dataclass(frozen=True)
class Kill:
    """A change of the service that is killed before one of its steps."""

    name: str
    before: dict[str, int]
    """The shares that there were."""
    wanted: dict[str, int]
    """Those that were asked for; of the same releases, only the weights change."""
    steps: tuple[str, ...]
    """Patterns, in order; it dies before the last one."""


_SPLIT, _TURNED = {OLD: 70, NEW: 30}, {OLD: 20, NEW: 80}
_TO_GATEWAY = ("write split.map", "POST")
_TO_DISK = ("write haproxy.cfg",)

KILLS = (
    Kill("new weights, between disk and gateway", _SPLIT, _TURNED, _TO_GATEWAY),
    Kill("a new fleet, between disk and gateway", _TURNED, {NEWEST: 100}, _TO_GATEWAY),
    Kill("new weights, before they are on disk", _SPLIT, _TURNED, _TO_DISK),
    Kill("a new fleet, before it is on disk", {OLD: 100}, {NEW: 100}, _TO_DISK),
    Kill(
        "a new fleet, before its container starts",
        {NEW: 100},
        {OLD: 100},
        (r"POST \S+/containers/\w+/start",),
    ),
    Kill(
        "a new fleet, before the old one is stopped",
        {OLD: 100},
        {NEW: 100},
        (r"POST \S+/containers/\w+/kill",),
    ),
)
"""A short run takes the first two."""


def measure_faults(yard: Yard, quick: bool) -> list[Claim]:
    return [
        *_kill_replicas(yard, 1 if quick else 5),
        *_kill_gateways(yard, 1 if quick else 5),
        *_kill_changes(yard, KILLS[:2] if quick else KILLS),
        *([] if quick else _restart_engine(yard)),
    ]


def _kill_replicas(yard: Yard, times: int) -> list[Claim]:
    status = yard.sync({OLD: 100}, replicas=2)
    back = []
    with load(yard, status.url) as seen:
        for number in range(times):
            wait_until(seen, 100)
            killed = yard.containers("replica")[number % 2]
            restarts = {killed.short_id: killed.attrs["RestartCount"] + 1}
            kill(killed)
            back.append(_wait(lambda wanted=restarts: _is_back(yard, wanted)))
            wait_until(seen, 100)
    show(
        "kill -9 of one replica of two, under load",
        ("kills", "answered", "failed", "s until it is ready again, median"),
        [(times, len(seen.answers), len(seen.failures), statistics.median(back))],
    )
    _tell(seen)
    return [claim("faults: failed requests, a replica of two killed", len(seen.failures), "<=", 0)]


def _is_back(yard: Yard, restarts: dict[str, int]) -> bool:
    status = yard.target.status(yard.model)
    return status is not None and any(
        replica.state is ReplicaState.READY and replica.restarts == restarts[replica.id]
        for replica in status.replicas
        if replica.id in restarts
    )


def _kill_gateways(yard: Yard, times: int) -> list[Claim]:
    """The service cannot answer until the engine has restarted its gateway: for how long?"""
    status = yard.sync(_SPLIT)
    runs: list[Seen] = []
    for number in range(times):
        if number:
            time.sleep(_RESTART_PAUSE_SECONDS)
        with load(yard, status.url) as seen:
            wait_until(seen, 100)
            kill(yard.gateway())
            _wait(lambda seen=seen: bool(seen.failures))
            wait_until(seen, 100)
        runs.append(seen)
    show(
        "kill -9 of the gateway, under load",
        ("kill", "answered", "failed", "outage s"),
        [(n, len(s.answers), len(s.failures), s.outage) for n, s in enumerate(runs, start=1)],
    )
    kept = yard.target.get_weights(yard.model) == _SPLIT
    worst = max(seen.outage for seen in runs)
    return [
        claim("faults: seconds without an answer, gateway killed", worst, "<=", 5),
        claim("faults: split as before, gateway killed", int(kept), ">=", 1),
    ]


def _kill_changes(yard: Yard, kills: Sequence[Kill]) -> list[Claim]:
    rows, unhealed = [], 0
    status = yard.sync(kills[0].before)
    with load(yard, status.url) as seen:
        for each in kills:
            yard.sync(each.before)
            _change_and_die(yard, each)
            begun = time.monotonic()
            yard.sync(each.wanted)
            took = time.monotonic() - begun
            healed = _is_exactly(yard, each.wanted)
            unhealed += not healed
            rows.append((each.name, took, "yes" if healed else "no"))
            wait_until(seen, 20)
    show(
        f"A change killed under load: {len(seen.answers)} answered, {len(seen.failures)} failed",
        ("what was killed", "s of the sync that heals", "as asked for"),
        rows,
    )
    _tell(seen)
    return [
        claim("faults: failed requests, changes killed", len(seen.failures), "<=", 0),
        claim("faults: killed changes that the next sync did not heal", unhealed, "<=", 0),
    ]


def _change_and_die(yard: Yard, each: Kill) -> None:
    if each.before.keys() == each.wanted.keys():
        process = start_elsewhere(
            yard.settings, "set_weights", (yard.model, each.wanted), each.steps
        )
    else:
        process = start_elsewhere(yard.settings, "sync", (yard.service(each.wanted),), each.steps)
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise SystemExit(f"{each.name}: it ended with {process.exitcode}, and was not killed.")


def _is_exactly(yard: Yard, weights: dict[str, int]) -> bool:
    """Whether gateway and engine have these fleets of one replica, and no container besides."""
    status = yard.target.status(yard.model)
    return (
        status is not None
        and status.weights == weights
        and sorted(r.version for r in status.replicas) == sorted(weights)
        and all(replica.state is ReplicaState.READY for replica in status.replicas)
        and len(yard.containers("replica")) == len(weights)
    )


def _restart_engine(yard: Yard) -> list[Claim]:
    """Restart the engine, where it is this benchmark's to restart."""
    process, why_not = _engine_to_restart(yard)
    if process is None:
        console.print(f"A restart of the engine was skipped: {why_not}.")
        return []
    status = yard.sync(_SPLIT)
    with load(yard, status.url) as seen:
        wait_until(seen, 100)
        process.terminate()
        process.wait(60)
        subprocess.run(["sh", str(SCRIPT)], check=True, capture_output=True)
        wait_until(seen, 100)
    _wait(lambda: _is_exactly(yard, _SPLIT))
    show(
        "A restart of the engine, under load",
        ("answered", "failed", "outage s"),
        [(len(seen.answers), len(seen.failures), seen.outage)],
    )
    return [claim("faults: seconds without an answer, engine restarted", seen.outage, "<=", 60)]


def _engine_to_restart(yard: Yard) -> tuple[psutil.Process | None, str]:
    """Return the engine's process where nobody else needs it, or why it is left alone."""
    if os.environ.get(RESTART_ENGINE) != "1":
        return None, f"{RESTART_ENGINE} is not 1"
    if os.geteuid() or Path("/run/systemd/system").is_dir():
        return None, f"the engine is not one that {SCRIPT.name} starts without systemd, as root"
    engines = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "dockerd"]
    if len(engines) != 1 or engines[0].cmdline() != ["dockerd"]:
        return None, f"the engine was not started by {SCRIPT.name}"
    running = yard.engine.containers.list(ignore_removed=True)
    if any(c.labels.get("modelyard.platform") != yard.model for c in running):
        return None, "somebody else's containers run on it"
    return engines[0], ""


def _wait(condition: Callable[[], bool], seconds: float = 90.0) -> float:
    """Wait for a condition, and return how many seconds it took."""
    begun = time.monotonic()
    while not _holds(condition):
        if time.monotonic() - begun > seconds:
            raise SystemExit(f"It did not happen within {seconds:.0f} s.")
        time.sleep(0.05)
    return time.monotonic() - begun


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (DockerException, RequestException, ModelYardError):  # the engine is starting again
        return False


def _tell(seen: Seen) -> None:
    for _, failure in seen.failures[:5]:
        console.print(failure)
