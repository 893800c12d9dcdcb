"""What becomes of a retraining whose event comes too often or never, or whose process is killed?

Each way is the product's own: flows in processes of their own, Prefect's server, its automations
and a worker. What is killed is killed with signal 9, and nobody does anything afterwards but start
the platform, or the flow, once more.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import Any

import psutil

from benchmarks import retraining_yard
from benchmarks.faults_schedule import Way
from benchmarks.faults_yard import MODEL, Yard
from modelyard.adapters.platform.parts import (
    platform_id,
    read_platform,
    start_platform,
    stop_platform,
)
from modelyard.adapters.platform.prefect_api import PrefectApi
from modelyard.adapters.platform.processes import family, marked_processes, stop_processes
from modelyard.domain.monitoring import IncidentCause
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.retraining import RetrainingDecision
from modelyard.ledger import Ledger

_EVENTS = 200
_LONGEST_SECONDS = 420.0
_STARTED_AGAIN_SECONDS = 3.0
_WORKS = frozenset(
    {ReleaseState.TRAINED, ReleaseState.GATED, ReleaseState.REFITTED, ReleaseState.REGISTERED}
)
"""Of a delivery: it is worth to be killed."""

# Forked from a process that has imported everything: a kill would hit an import else.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["mlflow.sklearn", "prefect.flow_engine", "flows.model_retraining", "modelyard.adapters.mlflow"]
)


def prepare() -> None:
    """Begin to import what flows need, while something else is waited for."""
    forkserver.ensure_running()


@dataclass(frozen=True)
class Outcome:
    """What came of one way."""

    seconds: float | None
    """From the kill to the end of the retraining; where nothing is killed, from its event on."""
    words: str


def retrain(made: Yard, decision: RetrainingDecision, way: Way) -> Outcome:
    """Have a retraining that is due run in one of the ways."""
    match way:
        case Way.FLOW:
            begun = time.monotonic()
            code = _Run(made, decision).join()
            return Outcome(time.monotonic() - begun, f"the flow ended with {code}" if code else "")
        case Way.KILLED:
            return _kill_promotion(made, decision)
        case _:
            with _platform(made) as at:
                return _through_platform(made, at, decision, way)


class _Run:
    """The flow `retrain` in a process of its own."""

    def __init__(self, made: Yard, decision: RetrainingDecision) -> None:
        asked = {"cause": decision.cause, "as_of": decision.as_of}
        self.process = _context.Process(target=_retrain, args=(str(made.root), made.server, asked))
        self.process.start()

    def join(self) -> int:
        """Wait for its end; return its exit code, -9 where it was killed or took too long."""
        self.process.join(_LONGEST_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        self.process.close()
        assert code is not None
        return code


def _retrain(root: str, server: str, asked: dict[str, Any]) -> None:
    import logging
    import warnings

    os.environ["MODELYARD_ROOT"] = root
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    from flows.model_retraining import retrain_model

    with temporary_settings({PREFECT_API_URL: server, PREFECT_LOGGING_TO_API_ENABLED: False}):
        retrain_model(MODEL, **asked)


def _kill_promotion(made: Yard, decision: RetrainingDecision) -> Outcome:
    """Kill the flow while its release comes into traffic; run it again."""
    ledger = made.workspace.ledger
    first = _Run(made, decision)
    wait(lambda: _is_in(ledger, {ReleaseState.ROLLING_OUT}) or not first.process.is_alive(), 0.002)
    first.process.kill()
    killed = time.monotonic()
    code = first.join()
    unfinished = ledger.unfinished(MODEL)
    state = unfinished.state.value if unfinished else "ended already"
    again = _Run(made, decision).join()
    words = f"{'killed' if code == -9 else f'ended with {code}'} while {state}"
    return Outcome(time.monotonic() - killed, words + (f"; again: {again}" if again else ""))


@contextmanager
def _platform(made: Yard) -> Iterator[retraining_yard.Yard]:
    """Start servers, worker and deployments of the project, and leave none of them."""
    project = made.workspace.project
    try:
        start_platform(project, lambda *_: None)
        url = read_platform(project)["prefect"].url
        assert url is not None
        with PrefectApi(url, timeout_seconds=180) as api:
            yield retraining_yard.Yard(project, api, MODEL)
    finally:
        stop_platform(project, lambda *_: None)
        stop_processes(marked_processes(platform_id(project)), grace_seconds=0)


def _through_platform(
    made: Yard, at: retraining_yard.Yard, decision: RetrainingDecision, way: Way
) -> Outcome:
    ledger, project = made.workspace.ledger, made.workspace.project
    begun = time.monotonic()
    if way is Way.LOST:
        at.reconcile()
    else:
        at.emit(_events(at, decision, _EVENTS if way is Way.DOUBLED else 1))
    if way in (Way.WORKER, Way.SERVER):
        wait(lambda: _is_in(ledger, _WORKS), 0.01)
        parts = read_platform(project)
        killed = parts["prefect" if way is Way.SERVER else "worker"].process
        process = killed and killed.process()
        assert process is not None
        # the worker's flow runs are its children
        doomed = family(process)
        begun = time.monotonic()
        kill(doomed)
        time.sleep(_STARTED_AGAIN_SECONDS)
        start_platform(project, lambda *_: None)
    ended = wait(lambda: _is_linked(ledger, decision), 0.5)
    seconds = time.monotonic() - begun
    settled = at.settle(_LONGEST_SECONDS)
    runs = sum(run["start_time"] is not None for run in at.runs("retrain"))
    words = f"{runs} flow runs of retrain in all" if ended and settled else "not over in time"
    return Outcome(seconds if ended else None, words)


def _events(
    at: retraining_yard.Yard, decision: RetrainingDecision, count: int
) -> list[dict[str, Any]]:
    """Return the event about a window so many times: half under one id, half under others."""
    assert decision.cause is not None
    assert decision.window_id is not None
    assert decision.as_of is not None
    name, same = IncidentCause(decision.cause).event, uuid.uuid4()
    return [
        at.event_about(
            decision.window_id, decision.as_of, name, same if number % 2 == 0 else uuid.uuid4()
        )
        for number in range(count)
    ]


def _is_in(ledger: Ledger, states: set[ReleaseState] | frozenset[ReleaseState]) -> bool:
    release: Release | None = ledger.unfinished(MODEL)
    return release is not None and release.state in states


def _is_linked(ledger: Ledger, decision: RetrainingDecision) -> bool:
    made = ledger.decision(decision.key or "")
    return made is not None and made.release_id is not None


def kill(processes: list[psutil.Process]) -> None:
    """End processes without asking them."""
    for process in processes:
        if process.is_running():
            process.kill()


def wait(condition: Callable[[], bool], poll_seconds: float) -> bool:
    """Wait for something; False where it takes too long."""
    end = time.monotonic() + _LONGEST_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(poll_seconds)
    return True
