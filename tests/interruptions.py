"""Flows in processes of their own, which are killed at a chosen moment.

The processes are forked from one that has imported everything, which saves each of them the ten
seconds that Prefect and MLflow take to import; they share nothing else.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

_PRELOADED = [
    "git",  # MLflow imports it, and its stores, when a first run begins; Prefect its engines
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "prefect.flow_engine",
    "prefect.task_engine",
    "flows.model_delivery",
    "flows.model_monitoring",
    "flows.model_retraining",
    "modelyard.adapters.mlflow",
    "modelyard.adapters.local",
]
RUN_SECONDS = 240.0
STEPS = (
    "Take rows",
    "Check rows",
    "Train",
    "Gate",
    "Learn the holdout",
    "Register",
    "Build",
    "Start rollout",
    "Roll out",
)
"""Of a delivery, in their order, up to the champion; what follows shows it."""

# fork server: the processes must not have the threads of the test's own Prefect client
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)


@dataclass(frozen=True)
class Kill:
    """When a flow's process kills itself, as `kill -9` would."""

    step: str
    moment: Literal["running", "unrecorded", "recorded", "completed"]
    """Before the step does anything; after its effect, just before the ledger hears of it; just
    after that; when it has ended."""
    occurrence: int = 1

    def __str__(self) -> str:
        return f"{self.step} {self.moment} {self.occurrence}"


def run_flow(
    root: Path,
    server: str,
    flow: str,
    parameters: dict[str, Any],
    *,
    kill: Kill | None = None,
    after_seconds: float | None = None,
) -> int:
    """Run `module:function` in a fresh process and return its exit code; -9 where it was killed.

    It kills itself at `kill`, or is killed `after_seconds`, or runs to its end.
    """
    process = _context.Process(target=_run, args=(str(root), server, flow, parameters, kill))
    process.start()
    process.join(RUN_SECONDS if after_seconds is None else after_seconds)
    if process.is_alive():
        process.kill()
        process.join()
    code = process.exitcode
    process.close()
    assert code is not None
    return code


def _run(root: str, server: str, flow: str, parameters: dict[str, Any], kill: Kill | None) -> None:
    os.environ["MODELYARD_ROOT"] = root
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    if kill is not None:
        _arm(kill)
    module, _, name = flow.partition(":")
    with temporary_settings({PREFECT_API_URL: server, PREFECT_LOGGING_TO_API_ENABLED: False}):
        getattr(importlib.import_module(module), name)(**parameters)


def _arm(kill: Kill) -> None:
    from modelyard.adapters.prefect.steps import StepNews, listeners

    seen: dict[str, int] = {}
    at_work: list[bool] = [False]
    wrote: list[bool] = [False]

    def hear(news: StepNews) -> None:
        if news.step != kill.step:
            return
        if news.state == "running":
            seen[news.step] = seen.get(news.step, 0) + 1
        if seen[news.step] != kill.occurrence:
            return
        at_work[0] = news.state == "running"
        if news.state == kill.moment:
            _die()

    def watch(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if at_work[0] and _is_ledger(connection) and not statement.startswith(("SELECT", "BEGIN")):
            wrote[0] = True

    def commit(connection: sa.Connection) -> None:
        if wrote[0] and at_work[0] and _is_ledger(connection) and kill.moment == "unrecorded":
            _die()

    def checkin(*_: Any) -> None:
        if wrote[0] and at_work[0] and kill.moment == "recorded":
            _die()

    listeners.append(hear)
    sa.event.listen(sa.Pool, "checkin", checkin)
    sa.event.listen(sa.Engine, "before_cursor_execute", watch)
    sa.event.listen(sa.Engine, "commit", commit)


def _is_ledger(connection: sa.Connection) -> bool:
    return Path(connection.engine.url.database or "").name.startswith("ledger")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
