"""A project with a champion that a window shows to be bad, and the platform that is to mend it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.serving_load import free_port
from modelyard.adapters.platform.parts import (
    platform_id,
    read_platform,
    start_platform,
    stop_platform,
)
from modelyard.adapters.platform.prefect_api import PrefectApi
from modelyard.adapters.platform.processes import marked_processes, stop_processes
from modelyard.adapters.platform.services import stop_services
from modelyard.domain.drift import DriftOutcome, DriftPolicy, DriftVerdict
from modelyard.domain.metrics import Interval
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.performance import PerformanceOutcome, PerformanceVerdict
from modelyard.domain.quality import QualityOutcome, QualityVerdict
from modelyard.domain.windows import event_id, window_of
from modelyard.ledger import Ledger
from modelyard.project import Project

MODEL = "rides"
EVENT = "modelyard.performance.degraded"
DAY = timedelta(days=1)
FIRST = datetime(2024, 1, 15, tzinfo=UTC)
"""What came before this moment is history."""
SHIFT = FIRST + 7 * DAY
"""From here on twice as many rides are counted."""
LAST = FIRST + 16 * DAY
QUIET_SECONDS = 8.0
"""So long nothing may be under way before it is over: slots are polled."""
_CONFIG = f"""\
name: {MODEL}
task: regression
data:
  source: rides.csv
  target: cnt
  id: row_id
  time: hour
  features: {{numeric: [temp, wind], categorical: [season]}}
training: {{estimator: sklearn.linear_model.Ridge, window: 7d}}
evaluation: {{primary_metric: mae, holdout: newest 3d}}
service: {{target: local, replicas: 1}}
monitoring: {{window: 1d, min_rows: 10, schedule: null}}
retraining: {{on: [performance, drift], cooldown: 0d, budget: 1000 per 7d, min_new_labels: 24}}
"""
_CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Yard:
    """A project whose platform is up."""

    project: Project
    api: PrefectApi
    model: str = MODEL

    def record_window(self, start: datetime) -> WindowRecord:
        """Store a day in which the champion was far worse than promised."""
        ledger = self._ledger()
        champion = ledger.champion(MODEL)
        assert champion is not None
        assert champion.version is not None
        record = _degraded(champion.version, start)
        window = record.window
        shown = record.model_dump(mode="json")
        ledger.record_window(window.id, MODEL, window.start, window.end, shown)
        ledger.close()
        return record

    def event(self, record: WindowRecord, *, same_id: bool = True) -> dict[str, Any]:
        """Return the event about a window, as Prefect's API takes it."""
        window = record.window
        known_as = event_id(window, EVENT) if same_id else uuid.uuid4()
        return self.event_about(window.id, window.end, EVENT, known_as)

    def event_about(
        self, window_id: str, as_of: datetime, name: str, known_as: uuid.UUID
    ) -> dict[str, Any]:
        """Return likewise any event about a window."""
        return {
            "id": str(known_as),
            "event": name,
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {
                "prefect.resource.id": f"modelyard.model.{self.model}",
                "modelyard.model": self.model,
                "modelyard.window": window_id,
            },
            "related": [],
            "payload": {"window_id": window_id, "as_of": as_of.isoformat()},
        }

    def emit(self, events: Sequence[dict[str, Any]]) -> None:
        for start in range(0, len(events), 50):
            self.api.ask("POST", "/events", list(events[start : start + 50]))

    def reconcile(self) -> str:
        """Ask for the scheduled reconciliation now; return the flow run's id."""
        deployment = self.api.ask("GET", f"/deployments/name/reconcile/{self.model}")
        path = f"/deployments/{deployment['id']}/create_flow_run"
        return self.api.ask("POST", path, {"parameters": {"model": self.model}})["id"]

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """Return the flow runs of a flow, the oldest first."""
        body = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC", "limit": 200}
        return self.api.ask("POST", "/flow_runs/filter", body)

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is under way or due; False where that takes too long."""
        deadline = time.monotonic() + timeout_seconds
        quiet_since: float | None = None
        while time.monotonic() < deadline:
            if any(_is_active(run) for run in self.runs("retrain") + self.runs("reconcile")):
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > QUIET_SECONDS:
                return True
            time.sleep(0.5)
        return False

    def import_seconds(self) -> float:
        """Return how long a fresh process takes to import the flow of a retraining."""
        began = time.monotonic()
        words = [sys.executable, "-c", "import flows.model_retraining"]
        subprocess.run(words, cwd=self.project.root, check=True)
        return time.monotonic() - began

    def retrainings(self) -> list[str]:
        """Return the state of each delivery that the controller began."""
        ledger = self._ledger()
        try:
            releases = ledger.releases(MODEL)
        finally:
            ledger.close()
        return [r.state for r in releases if r.delivery.reason.startswith("retrain:")]

    def _ledger(self) -> Ledger:
        return Ledger.open(self.project.ledger_url)


@contextmanager
def yard(reconciliation: str = "null") -> Iterator[Yard]:
    """Release a model, start the platform; at the end nothing of either is left.

    `reconciliation` is its schedule, as platform.yaml has it.
    """
    with tempfile.TemporaryDirectory(prefix="modelyard-retraining-") as folder:
        project = make_project(Path(folder) / "project", reconciliation)
        try:
            _deliver(project)
            start_platform(project, lambda *_: None)
            url = read_platform(project)["prefect"].url
            assert url is not None
            with PrefectApi(url, timeout_seconds=180) as api:
                yield Yard(project, api)
        finally:
            stop_platform(project, lambda *_: None)
            stop_services(project)
            stop_processes(marked_processes(platform_id(project)), grace_seconds=0)


def make_project(root: Path, reconciliation: str = "null") -> Project:
    """Write a project of one model, whose rows are those of `rides`."""
    (root / "configs" / "models").mkdir(parents=True)
    ports = f"{{prefect: {free_port()}, mlflow: {free_port()}}}"
    asked = f"reconciliation: {{schedule: {reconciliation}}}"
    platform = f"home: .modelyard\nports: {ports}\n{asked}\n"
    (root / "configs" / "platform.yaml").write_text(platform)
    (root / "configs" / "models" / f"{MODEL}.yaml").write_text(_CONFIG)
    rides().to_csv(root / "rides.csv", index=False)
    for name in ("flows", "tasks", "deployments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_CHECKOUT / name, root / name, ignore=ignored)
    return Project(root)


def modelyard(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a project."""
    return subprocess.run(
        [sys.executable, "-m", "modelyard", *words],
        cwd=project.root,
        env={**os.environ, "MODELYARD_ROOT": str(project.root)},
        capture_output=True,
        text=True,
    )


def _deliver(project: Project) -> None:
    done = modelyard(project, "deliver", MODEL, "--as-of", f"{FIRST:%Y-%m-%d}", "--json")
    if done.returncode != 0:
        sys.exit(f"The first release failed: {done.stderr[-2000:]}")


def _degraded(version: str, start: datetime) -> WindowRecord:
    promised, realized = (Interval(value=v, low=0.9 * v, high=1.1 * v) for v in (2.0, 40.0))
    return WindowRecord(
        window=window_of(MODEL, start, start + DAY),
        release=version,
        served={version: 24},
        rows=24,
        quality=QualityVerdict(outcome=QualityOutcome.OK, findings=(), reasons=()),
        drift=DriftVerdict(
            outcome=DriftOutcome.STABLE,
            rows=24,
            reference_rows=168,
            tests=1,
            policy=DriftPolicy(),
            reasons=(),
        ),
        performance=PerformanceVerdict(
            outcome=PerformanceOutcome.DEGRADED,
            metric="mae",
            realized=realized,
            promised=promised,
            limit=2.4,
            labels=24,
            rows=24,
            coverage=1.0,
            reasons=("mae is far from what was promised",),
        ),
        realized=realized.value,
        told=True,
    )


def rides() -> pd.DataFrame:
    """Return a month of hourly rides; from `SHIFT` on they double."""
    rng = np.random.default_rng(7)
    hours = pd.date_range(FIRST - 14 * DAY, LAST, freq="h", inclusive="left")
    temp, wind = rng.uniform(0, 30, len(hours)), rng.uniform(0, 10, len(hours))
    season = rng.choice(["dry", "wet"], len(hours))
    demand = (20 + 3 * temp - wind + 5 * (season == "dry")) * np.where(hours >= SHIFT, 2, 1)
    return pd.DataFrame(
        {
            "row_id": [f"r{number}" for number in range(len(hours))],
            "hour": hours.strftime("%Y-%m-%dT%H:%M:%S"),
            "temp": temp.round(2),
            "wind": wind.round(2),
            "season": season,
            "cnt": (demand + rng.normal(0, 2, len(hours))).round(3),
        }
    )


def _is_active(run: dict[str, Any]) -> bool:
    if run["state_type"] in ("PENDING", "RUNNING", "CANCELLING"):
        return True
    if run["state_type"] != "SCHEDULED":
        return False
    due = datetime.fromisoformat(run["expected_start_time"])
    return due <= datetime.now(UTC) + timedelta(minutes=2)
