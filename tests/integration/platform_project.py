"""A small project of its own, with stand-in flows that write down how they were run."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from modelyard.project import Project

CHECKOUT = Path(__file__).parents[2]

_FLOW = '''"""Stand-in for a flow: it records its parameters and folder."""

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Literal

from prefect import flow


@flow(name="{name}")
def {function}({parameters}) -> None:
    """Stand in for {name}.

    Args:
        model: Model to work on.
        reason: Why, in your own words.
    """
    recorded = {{**locals(), "folder": os.getcwd()}}
    file = Path("recorded-{name}.jsonl")
    with file.open("a") as lines:
        lines.write(json.dumps(recorded, default=str) + "\\n")
    if recorded.get("reason") == "sleep":
        time.sleep(300)
'''

_FLOWS = {
    "model_delivery": (
        "deliver",
        "deliver_model",
        'model: str, reason: str = "manual", as_of: datetime | None = None, dry_run: bool = False',
    ),
    "model_monitoring": ("monitor", "monitor_model", "model: str, as_of: datetime | None = None"),
    "model_retraining": (
        "retrain",
        "retrain_model",
        'model: str, cause: Literal["schedule", "drift", "performance", "person"] = "person", '
        "window_id: str | None = None, as_of: datetime | None = None",
    ),
    "model_rollback": (
        "rollback",
        "roll_back_model",
        'model: str, to: str | None = None, reason: str = "manual"',
    ),
    "model_rollout": ("rollout", "roll_out_model", "model: str"),
    "model_reconciliation": ("reconcile", "reconcile_model", "model: str"),
    "model_reproduction": ("reproduce", "reproduce_release", "model: str"),
    "model_backtest": ("backtest", "backtest_model", "model: str"),
}

_MODEL = """\
name: {name}
task: regression
data: {{source: rows.csv, target: y}}
training: {{estimator: sklearn.linear_model.LinearRegression}}
evaluation: {{primary_metric: mae}}
monitoring: {{schedule: "{monitoring}"}}
retraining: {{on: [drift, performance], schedule: "0 3 * * 0"}}
"""


def write_model(root: Path, name: str, monitoring: str = "0 * * * *") -> None:
    file = root / "configs" / "models" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_MODEL.format(name=name, monitoring=monitoring))


def make_project(root: Path, models: tuple[str, ...] = ("alpha",), more: str = "") -> Project:
    """Write a project with the checkout's deployments and stand-in flows, on free ports."""
    root.mkdir(parents=True, exist_ok=True)
    for name in models:
        write_model(root, name)
    (root / "configs" / "platform.yaml").write_text(
        f"home: .modelyard\nports: {{prefect: {free_port()}, mlflow: {free_port()}}}\n{more}"
    )
    shutil.copytree(
        CHECKOUT / "deployments",
        root / "deployments",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    flows = root / "flows"
    flows.mkdir(exist_ok=True)
    (flows / "__init__.py").touch()
    for module, (name, function, parameters) in _FLOWS.items():
        (flows / f"{module}.py").write_text(
            _FLOW.format(name=name, function=function, parameters=parameters)
        )
    return Project(root)


def free_port() -> int:
    """Return a port on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
