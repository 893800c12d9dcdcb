"""How is the environment of a release made again, and a refit run in it?"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.adapters.records.store import RecordStore, unpack
from modelyard.adapters.records.threads import VARIABLES
from modelyard.adapters.uv import run_uv
from modelyard.domain.records import Record, Threads, pins_of
from modelyard.domain.reproduction import (
    Difference,
    Part,
    compare_facts,
    compare_pins,
    compare_threads,
)
from modelyard.domain.values import Value
from modelyard.errors import ReproductionError
from modelyard.serving.model_file import ModelFile

_REFIT = "modelyard.adapters.learning.refit"
_ANSWER = "refit.json"
TRAINING = "training.parquet"
HOLDOUT = "holdout.parquet"


class Refit(Value):
    """What a fresh environment says about its fit; see `modelyard.adapters.learning.refit`."""

    model_file: ModelFile
    predictions: str | None
    """File beside the model, where it can say something about the holdout."""
    seconds: float
    python: str
    implementation: str
    platform: str
    packages: dict[str, str]
    threads: Threads


def make_environment(
    record: Record, replaced: Sequence[str], folder: Path, store: RecordStore
) -> str:
    """Install the recorded packages and unpack the recorded source below `folder`.

    `replaced` are requirements that take the place of recorded ones. Returns the interpreter.
    Raises ReproductionError where something cannot be had, BundleError for an altered file.
    """
    environment = folder / "venv"
    lock = folder / "lock.txt"
    lock.write_bytes(store.get(record.lock.file))
    _uv("venv", "--quiet", "--no-project", "--python", _interpreter(record), str(environment))
    python = str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")
    hashes = ["--require-hashes"] if record.lock.hashed else []
    install = ("pip", "install", "--quiet", "--python", python)
    _uv(*install, "--no-deps", *hashes, "--requirements", str(lock))
    if replaced:
        _uv(*install, *replaced)
    source = folder / "source"
    for archive in (record.code.source, record.code.project):
        if archive is not None:
            unpack(store.get(archive), source)
    return python


def refit(
    python: str,
    folder: Path,
    record: Record,
    contract: Mapping[str, Any],
    project_root: Path,
) -> Refit:
    """Run the recorded code on the rows in the folder, in its environment.

    Raises ReproductionError where it fails.
    """
    job = {
        "training": record.config["training"],
        "contract": contract,
        "time": record.config["data"].get("time"),
        "folder": str(folder),
        "threads": record.threads.limits(),
        "packages": list(pins_of(record.requirements)),
        "rows": str(folder / TRAINING),
        "holdout": str(folder / HOLDOUT),
    }
    (folder / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        # -P: the project's present modules must not take the place of the recorded ones
        [python, "-P", "-m", _REFIT, str(folder / "job.json")],
        cwd=project_root,
        env=_environment(record.threads, folder / "source"),
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise ReproductionError(
            "The recorded code cannot train in the fresh environment:\n"
            f"{done.stderr.strip()[-2000:]}"
        )
    return Refit.model_validate_json((folder / _ANSWER).read_text())


def environment_differences(record: Record, refit: Refit) -> list[Difference]:
    """Name what of the environment is not as recorded: Python, packages, machine, threads."""
    pins = "".join(f"{name}=={version}\n" for name, version in refit.packages.items())
    before = compare_facts(
        (
            ("python", record.python, refit.python),
            ("implementation", record.implementation, refit.implementation),
        ),
        Part.ENVIRONMENT,
    )
    machine = compare_facts([("platform", record.platform, refit.platform)], Part.ENVIRONMENT)
    return [
        *before,
        *compare_pins(record.requirements, pins),
        *machine,
        *compare_threads(record.threads, refit.threads),
    ]


def _interpreter(record: Record) -> str:
    """Return the recorded Python, the nearest one that is here, or else this one."""
    if record.python == platform.python_version():
        return sys.executable
    for version in (record.python, record.python.rpartition(".")[0]):
        found = run_uv("python", "find", "--no-project", "--no-python-downloads", version)
        if found.returncode == 0:
            return found.stdout.strip()
    return sys.executable


def _environment(threads: Threads, source: Path) -> dict[str, str]:
    """Return this process's variables without its Python, and with the recorded threads."""
    left_out = {*VARIABLES, "VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, **threads.variables, "PYTHONPATH": str(source), "PYTHONNOUSERSITE": "1"}


def _uv(*words: str) -> None:
    done = run_uv(*words)
    if done.returncode != 0:
        raise ReproductionError(
            f"The recorded environment cannot be made: uv {' '.join(words[:2])}:\n"
            f"{done.stderr.strip()[-2000:]}\nCheck that the package index answers and still has "
            "these versions."
        )
