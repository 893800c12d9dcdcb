"""A small project in which the whole loop is quick: few rows, a linear model, one replica."""

from __future__ import annotations

import importlib
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest

from modelyard.adapters.data.labels import store_labels
from modelyard.adapters.local import LocalTarget
from modelyard.adapters.replay import Replay
from modelyard.adapters.workspace import Workspace
from modelyard.domain.gate import Gated
from modelyard.domain.releases import Build, Candidate, Delivery, Registration
from modelyard.domain.rollout import RolloutReport
from modelyard.domain.values import ServiceStatus
from modelyard.project import Project
from tasks.data import open_delivery
from tasks.evaluation import gate_candidate
from tasks.images import build_release
from tasks.registration import register_release, show_release
from tasks.rollout import advance_rollout, start_rollout
from tasks.training import refit_candidate, train_candidate

MODEL = "rides"
WEEK = timedelta(days=7)

FIRST = datetime(2024, 1, 15, tzinfo=UTC)
"""What came before this moment is history: 336 hourly rows."""
SHIFT = datetime(2024, 1, 22, tzinfo=UTC)
"""From here on twice as many rides are counted: the first release is wrong."""
SECOND = datetime(2024, 1, 31, tzinfo=UTC)
"""Enough of the shift is known to learn it."""

_CONFIG = """\
name: {model}
task: regression
data:
  source: rides.csv
  target: cnt
  id: row_id
  time: hour
  features: {{numeric: [temp, wind], categorical: [season]}}
training: {{{recipe}, window: 7d}}
evaluation: {{primary_metric: mae, holdout: newest 3d, margin: {margin}, slices: [season]}}
service: {{target: local, replicas: {replicas}, rollout: {{{rollout}}}}}
monitoring: {{window: 7d, min_rows: 100}}
retraining: {{on: [performance], windows: 1 of 1, {retraining}}}
alerts: [{alerts}]
"""


def rides() -> pd.DataFrame:
    """Return 31 days of hourly rides; from `SHIFT` on they double."""
    rng = np.random.default_rng(7)
    hours = pd.date_range("2024-01-01", SECOND.replace(tzinfo=None), freq="h", inclusive="left")
    temp = rng.uniform(0, 30, len(hours)).round(2)
    wind = rng.uniform(0, 10, len(hours)).round(2)
    season = rng.choice(["dry", "wet"], len(hours))
    demand = 20 + 3 * temp - wind + 5 * (season == "dry")
    after = hours >= SHIFT.replace(tzinfo=None)
    noise = rng.normal(0, 2, len(hours))
    return pd.DataFrame(
        {
            "row_id": [f"r{number}" for number in range(len(hours))],
            "hour": hours.strftime("%Y-%m-%dT%H:%M:%S"),
            "temp": temp,
            "wind": wind,
            "season": season,
            "cnt": (np.where(after, 2 * demand, demand) + noise).round(3),
        }
    )


def write_config(
    root: Path,
    *,
    recipe: str = "estimator: sklearn.linear_model.Ridge",
    replicas: int = 1,
    alerts: str = "",
    margin: str = "1%",
    rollout: str = "",
    retraining: str = "",
) -> None:
    """Write the model's config; called again, it is changed."""
    rules = {"cooldown": "0d", "min_new_labels": "24"}
    rules |= dict(rule.split(": ") for rule in retraining.split(", ") if rule)
    file = root / "configs" / "models" / f"{MODEL}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        _CONFIG.format(
            model=MODEL,
            recipe=recipe,
            replicas=replicas,
            alerts=alerts,
            margin=margin,
            rollout=rollout,
            retraining=", ".join(f"{k}: {v}" for k, v in rules.items()),
        )
    )


def load_mlflow() -> None:
    """Import MLflow, which warns of its own type hints while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in ("mlflow.pyfunc", "mlflow.sklearn", "mlflow.types.responses"):
            importlib.import_module(module)


def make_project(root: Path) -> Project:
    """Write a project with its config and rows into a folder."""
    write_config(root)
    (root / "configs" / "platform.yaml").write_text("home: .modelyard\n")
    rides().to_csv(root / "rides.csv", index=False)
    return Project(root)


def copy_project(template: Project, root: Path) -> Project:
    """Copy a project with all that it has recorded; MLflow's files stay where they are."""
    shutil.copytree(template.root, root, dirs_exist_ok=True)
    return Project(root)


@contextmanager
def working_in(project: Project, patch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Let tasks find a project; at the end nothing of it runs any more."""
    patch.setenv("MODELYARD_ROOT", str(project.root))
    workspace = Workspace.find()
    try:
        yield workspace
    finally:
        local_target(workspace).remove(MODEL)
        workspace.ledger.close()
        assert not processes_of(project.root)


def local_target(workspace: Workspace) -> LocalTarget:
    target = workspace.target("local")
    assert isinstance(target, LocalTarget)
    return target


@dataclass(frozen=True)
class Built:
    """What the tasks of a delivery gave, up to its bundle."""

    delivery: Delivery
    judged: Candidate
    candidate: Candidate
    gated: Gated
    registration: Registration
    build: Build


def build(as_of: datetime = FIRST, reason: str = "test") -> Built:
    """Call the tasks of a delivery one after another, up to the bundle."""
    delivery = open_delivery.fn(MODEL, reason, as_of)
    judged = train_candidate.fn(delivery)
    gated = gate_candidate.fn(delivery, judged)
    candidate = refit_candidate.fn(delivery, judged, gated)
    registration = register_release.fn(delivery, candidate, gated)
    return Built(
        delivery,
        judged,
        candidate,
        gated,
        registration,
        build_release.fn(delivery, candidate, registration),
    )


def release(built: Built) -> ServiceStatus:
    """Call the last tasks of a delivery: it serves and is champion."""
    rollout = roll_out(built)
    show_release.fn(built.delivery, built.registration, built.build, rollout)
    assert rollout.service is not None
    return rollout.service


def roll_out(built: Built) -> RolloutReport:
    """Call the tasks of a rollout as far as they go at once."""
    start_rollout.fn(built.delivery, built.registration, built.build)
    return advance_rollout.fn(built.delivery.id)


def release_and_send(workspace: Workspace) -> None:
    """Put a first release in traffic, and send it all rides that come after its rows."""
    service = release(build())
    champion = workspace.ledger.champion(MODEL)
    assert champion is not None
    config = workspace.project.model(MODEL)
    replay = Replay(workspace, config, champion, service.url, end=SECOND)
    for window in replay.windows:
        replay.send(window)
    assert replay.traffic.failed == 0


def load_labels(workspace: Workspace, start: datetime, end: datetime) -> None:
    """Load the true outcomes of the rides between two times, known at once."""
    rows = rides()
    times = pd.to_datetime(rows["hour"], utc=True)
    chosen = (times >= start) & (times < end)
    folder = workspace.project.label_folder(MODEL)
    store_labels(folder, rows["row_id"][chosen], rows["cnt"][chosen], times[chosen])


def processes_of(root: Path) -> list[psutil.Process]:
    """Return the serving processes, supervisors and replicas, whose arguments name a project."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except (psutil.Error, OSError):  # it ended just now
            continue
        serves = any(word.startswith("modelyard.serving.") for word in words)
        if serves and any(word.startswith(str(root)) for word in words):
            found.append(process)
    return found


def replicas_of(root: Path) -> list[psutil.Process]:
    return [p for p in processes_of(root) if "modelyard.serving.replica" in p.cmdline()]


def version_at(url: str) -> str:
    """Return which release serves at an address."""
    return httpx.get(f"{url}/version").json()["release"]


def wait_for_events(server: str, ids: Iterable[str], count: int) -> list[dict[str, Any]]:
    """Return the events that Prefect has under some ids, once there are so many.

    The server stores what it took a few seconds later.
    """
    filters = {"filter": {"id": {"id": sorted(ids)}}, "limit": 50}
    end = time.monotonic() + 60
    while True:
        answer = httpx.post(f"{server}/events/filter", json=filters).raise_for_status()
        events = answer.json()["events"]
        if len(events) >= count:
            return events
        assert time.monotonic() < end, f"Prefect has {len(events)} of {count} events"
        time.sleep(0.25)
