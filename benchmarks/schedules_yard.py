"""Models whose day takes minutes, and the platform that watches them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.claims import console
from benchmarks.serving_load import free_port
from modelyard.adapters.platform.parts import (
    child_environment,
    platform_id,
    start_platform,
    stop_platform,
)
from modelyard.adapters.platform.processes import marked_processes, stop_processes
from modelyard.adapters.platform.services import stop_services
from modelyard.project import Project

ROWS_A_DAY = 60
_HISTORY_DAYS = 30
_CHECKOUT = Path(__file__).parents[1]
_CONFIG = """\
name: {name}
task: regression
data:
  source: {name}.csv
  target: cnt
  id: row_id
  time: hour
  features: {{numeric: [temp, wind], categorical: [season]}}
training: {{estimator: sklearn.linear_model.Ridge}}
evaluation: {{primary_metric: mae, holdout: newest 20%}}
service: {{target: local, replicas: 1}}
monitoring: {{schedule: {{every: {day}s}}, window: {day}s, min_rows: 20}}
retraining:
  cooldown: {day}s
  budget: 3 per {week}s
  min_new_labels: 100
  schedule: {{every: {week}s}}
"""
_DELIVER = """\
import sys
from flows.model_delivery import deliver_model
for model in sys.argv[1:]:
    deliver_model(model, reason="benchmark")
"""


@dataclass(frozen=True)
class Scale:
    """How many of what."""

    models: int
    days: int
    day: timedelta
    """How long a simulated day takes."""
    reconciliations: int
    """A day."""

    @property
    def names(self) -> list[str]:
        return [f"rides{number:02d}" for number in range(self.models)]


@contextmanager
def platform(scale: Scale) -> Iterator[Project]:
    """Release all models and start the platform; at the end nothing of either is left."""
    with tempfile.TemporaryDirectory(prefix="modelyard-week-") as folder:
        project = _make_project(Path(folder) / "project", scale)
        try:
            with console.status(f"{scale.models} first releases"):
                subprocess.run(
                    [sys.executable, "-c", _DELIVER, *scale.names],
                    cwd=project.root,
                    env=child_environment(project),
                    capture_output=True,
                    check=True,
                )
            start_platform(project, lambda *_: None)
            yield project
        finally:
            stop_platform(project, lambda *_: None)
            stop_services(project)
            stop_processes(marked_processes(platform_id(project)), grace_seconds=0)


def _make_project(root: Path, scale: Scale) -> Project:
    (root / "configs" / "models").mkdir(parents=True)
    day = int(scale.day.total_seconds())
    (root / "configs" / "platform.yaml").write_text(
        f"home: .modelyard\nports: {{prefect: {free_port()}, mlflow: {free_port()}}}\n"
        f"reconciliation: {{schedule: {{every: {day // scale.reconciliations}s}}}}\n"
    )
    now = datetime.now(UTC)
    for number, name in enumerate(scale.names):
        config = _CONFIG.format(name=name, day=day, week=scale.days * day)
        (root / "configs" / "models" / f"{name}.yaml").write_text(config)
        times = pd.date_range(
            now - _HISTORY_DAYS * scale.day, now, periods=_HISTORY_DAYS * ROWS_A_DAY
        )
        rides(pd.Series(times), seed=number).to_csv(root / f"{name}.csv", index=False)
    for name in ("flows", "tasks", "deployments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_CHECKOUT / name, root / name, ignore=ignored)
    return Project(root)


def rides(times: pd.Series, seed: int) -> pd.DataFrame:
    """Return a ride at each of these times."""
    rng = np.random.default_rng(seed)
    temp, wind = rng.uniform(0, 30, len(times)), rng.uniform(0, 10, len(times))
    season = rng.choice(["dry", "wet"], len(times))
    demand = 20 + 3 * temp - wind + 5 * (season == "dry") + rng.normal(0, 2, len(times))
    stamps = times.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return pd.DataFrame(
        {
            "row_id": [f"{stamp}-{number}" for number, stamp in enumerate(stamps)],
            "hour": stamps,
            "temp": temp.round(2),
            "wind": wind.round(2),
            "season": season,
            "cnt": demand.round(3),
        }
    )
