"""Who imports whom, and what is not imported where it would cost?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("flows", "tasks", "deployments")


def run(*words: str, folder: Path = ROOT, path: Path | None = None) -> str:
    """Run a command and return what it printed; it fails the test where it fails."""
    done = lint(*words, folder=folder, path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lint(*words: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages that a statement imports in a fresh interpreter."""
    printed = run(sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)")
    return {name.partition(".")[0] for name in printed.splitlines()[-1].split()}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code, in which imports may be planted."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in (*CODE, "src"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def contracts(checkout: Path) -> subprocess.CompletedProcess[str]:
    tool = str(Path(sys.executable).with_name("lint-imports"))
    return lint(tool, "--no-cache", folder=checkout, path=checkout / "src")


def test_the_import_contracts_hold(checkout: Path) -> None:
    done = contracts(checkout)
    assert done.returncode == 0, done.stdout


def test_the_import_contracts_catch_what_breaks_them(checkout: Path) -> None:
    breaches = {
        "src/modelyard/domain/gate.py": "import pandas",
        "src/modelyard/serving/server.py": "import mlflow",
        "src/modelyard/ledger/schema.py": "import prefect",
        "tasks/data.py": "import flows.model_delivery",
        "src/modelyard/config/schema.py": "import modelyard.adapters.data.files",
    }
    for file, statement in breaches.items():
        path = checkout / file
        path.write_text(f"{path.read_text()}\n{statement}\n")
    done = contracts(checkout)
    assert done.returncode == 1
    for package in ("pandas", "mlflow", "prefect", "flows.model_delivery", "data.files"):
        assert package in done.stdout, done.stdout
    assert "0 kept" in done.stdout


def test_the_domain_takes_special_functions_from_scipy_and_nothing_else() -> None:
    modules = (f"modelyard.domain.{f.stem}" for f in (ROOT / "src/modelyard/domain").glob("[!_]*"))
    loaded = run(sys.executable, "-c", f"import sys, {', '.join(modules)}\nprint(*sys.modules)")
    parts = {name.split(".")[1] for name in loaded.split() if name.startswith("scipy.")}
    assert "special" in parts
    assert not parts & {"stats", "optimize", "linalg", "sparse", "signal", "integrate"}


def test_tasks_do_not_import_tasks() -> None:
    for file in (ROOT / "tasks").glob("*.py"):
        assert "from tasks" not in file.read_text(), file


def test_monitoring_decides_without_what_trains_or_draws() -> None:
    loaded = loaded_by("import modelyard.adapters.watching, modelyard.adapters.data.profiling")
    assert not loaded & {"sklearn", "mlflow", "evidently", "prefect", "matplotlib", "docker"}


def test_a_replica_needs_neither_prefect_nor_mlflow_nor_docker() -> None:
    loaded = loaded_by("import modelyard.serving.replica, modelyard.serving.supervisor")
    assert not loaded & {"prefect", "mlflow", "docker", "evidently", "sqlalchemy", "matplotlib"}


def test_a_fit_needs_neither_prefect_nor_mlflow_nor_a_database() -> None:
    loaded = loaded_by("import modelyard.adapters.learning.refit")
    heavy = {"prefect", "mlflow", "docker", "evidently", "sqlalchemy", "matplotlib", "fsspec"}
    assert not loaded & heavy


def test_the_command_starts_without_anything_heavy() -> None:
    help_text = "import contextlib, modelyard.cli as cli\nsys.argv = ['modelyard', '--help']\n"
    loaded = loaded_by(f"{help_text}with contextlib.suppress(SystemExit): cli.main()")
    assert "typer" in loaded
    assert not loaded & {"pandas", "prefect", "mlflow", "sklearn", "pyarrow", "evidently", "docker"}


@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("model_delivery", "deliver_model"),
        ("model_monitoring", "monitor_model"),
        ("model_retraining", "retrain_model"),
        ("model_rollback", "roll_back_model"),
        ("model_reconciliation", "reconcile_model"),
        ("model_reproduction", "reproduce_release"),
        ("model_backtest", "backtest_model"),
    ],
)
def test_a_flow_loads_by_module_and_by_path(module: str, function: str) -> None:
    loaded_by(
        "from prefect.flows import load_flow_from_entrypoint as load\n"
        f"for entrypoint in ('flows.{module}.{function}', 'flows/{module}.py:{function}'):\n"
        "    flow = load(entrypoint, use_placeholder_flow=False)\n"
        f"    assert flow.fn.__name__ == '{function}', flow\n"
        "    for name, shape in flow.parameters.properties.items():\n"
        "        assert shape.get('description'), (entrypoint, name)  # the run form shows it\n"
    )
