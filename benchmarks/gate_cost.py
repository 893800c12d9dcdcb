"""What does the gate cost beside training?

A project of its own with 100,000 rows of 20 columns and gradient boosting. A first release is
delivered, so that the gate has a champion to predict with; then training and gate of others are
timed as the delivery runs them: reading the rows, predicting with three models, all metrics and
rules, plots, and what is logged to MLflow. A single one says little on a machine that does other
things too: the median of several is told.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.claims import Claim, claim, show

_CONFIG = """\
name: wide
task: regression
data: {{source: rows.parquet, target: y, time: at, id: row}}
training:
  estimator: sklearn.ensemble.HistGradientBoostingRegressor
  params: {{max_iter: 100, early_stopping: false, learning_rate: {rate}}}
evaluation: {{slices: [c0], thresholds: {{r2: {{min: 0.1}}}}}}
service: {{replicas: 1}}
"""


def write_project(root: Path, rows: int) -> None:
    """Write rows of 14 numbers and 6 categories, and a platform without anything outside."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {f"x{i}": rng.normal(size=rows) for i in range(14)}
    columns |= {f"c{i}": rng.choice(list("abcdefgh"), rows) for i in range(6)}
    noise = rng.normal(size=rows)
    columns["y"] = 2 * columns["x0"] + np.abs(columns["x1"]) + (columns["c0"] == "a") + noise
    columns["at"] = pd.date_range("2024-01-01", periods=rows, freq="min")
    columns["row"] = np.arange(rows)
    pd.DataFrame(columns).to_parquet(root / "rows.parquet")
    (root / "configs" / "models").mkdir(parents=True)
    (root / "configs" / "platform.yaml").write_text("home: .modelyard\n")
    write_config(root, 0.1)


def write_config(root: Path, rate: float) -> None:
    (root / "configs" / "models" / "wide.yaml").write_text(_CONFIG.format(rate=rate))


def measure_cost(quick: bool) -> list[Claim]:
    """Deliver a champion, and time the steps of its challengers."""
    rows, challengers = (10_000, 1) if quick else (100_000, 5)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = Path(folder)
        write_project(root, rows)
        os.environ["MODELYARD_ROOT"] = str(root)
        try:
            taken = _challenge(root, challengers)
        finally:
            del os.environ["MODELYARD_ROOT"]
    show(
        f"Delivering {rows:,} rows x 20 columns: median of {challengers}, and range",
        ("step", "seconds", "least", "most"),
        [(step, float(np.median(s)), min(s), max(s)) for step, s in taken.items()],
    )
    ratio = float(np.median(np.divide(taken["Gate"], taken["Train"])))
    # A small run is mostly what does not grow with the rows: plots and what is logged.
    return [claim("the gate's time, as a share of training's", ratio, "<=", 1.0 if quick else 0.1)]


def _challenge(root: Path, challengers: int) -> dict[str, list[float]]:
    """Return what each step of each challenger's delivery took, in seconds."""
    from modelyard.adapters.workspace import Workspace
    from tasks.data import open_delivery
    from tasks.evaluation import gate_candidate
    from tasks.images import build_release
    from tasks.registration import register_release
    from tasks.rollout import advance_rollout, start_rollout
    from tasks.training import refit_candidate, train_candidate

    workspace = Workspace.find()
    try:
        delivery = open_delivery.fn("wide", "first")
        judged = train_candidate.fn(delivery)
        gated = gate_candidate.fn(delivery, judged)
        candidate = refit_candidate.fn(delivery, judged, gated)
        registration = register_release.fn(delivery, candidate, gated)
        build = build_release.fn(delivery, candidate, registration)
        start_rollout.fn(delivery, registration, build)
        advance_rollout.fn(delivery.id)
        taken: dict[str, list[float]] = {}
        for i in range(challengers):
            write_config(root, 0.12 + 0.01 * i)
            delivery = _timed(taken, "Take rows", open_delivery.fn, "wide", f"challenger {i}")
            judged = _timed(taken, "Train", train_candidate.fn, delivery)
            gated = _timed(taken, "Gate", gate_candidate.fn, delivery, judged)
            assert gated.champion_version == registration.version
        return taken
    finally:
        workspace.target("local").remove("wide")
        workspace.ledger.close()


def _timed(taken: dict[str, list[float]], name: str, step: Callable[..., Any], *args: Any) -> Any:
    started = time.perf_counter()
    result = step(*args)
    taken.setdefault(name, []).append(time.perf_counter() - started)
    return result
