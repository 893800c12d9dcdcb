"""A fresh environment is what was recorded, and what is not is named."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from modelyard.adapters.learning.refit import refit
from modelyard.adapters.learning.stored_predictions import read_predictions
from modelyard.adapters.records.store import RecordStore, pack
from modelyard.adapters.records.threads import describe_threads
from modelyard.adapters.reproduction.environments import (
    Refit,
    environment_differences,
    make_environment,
)
from modelyard.domain.records import Code, Lock, Record, Threads
from modelyard.errors import BundleError, ReproductionError
from tests.serving_bundles import REGRESSION, weather

SIX = "six==1.17.0"


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    folder = tmp_path / "records"
    folder.mkdir()
    return RecordStore(folder)


def record(store: RecordStore, requirements: str = SIX, python: str = "") -> Record:
    """Return the record of a release that needs one small package."""
    return Record(
        config={},
        code=Code(modelyard="0.1.0", source=store.put(pack({"own/a.py": b"A = 1"}), ".zip")),
        python=python or platform.python_version(),
        implementation=sys.implementation.name,
        platform=platform.platform(),
        requirements=f"{requirements}\n",
        lock=Lock(file=store.put(requirements.encode(), ".txt"), hashed=False),
        threads=Threads(pools=(), variables={}),
    )


def job(folder: Path, threads: dict[str, int]) -> dict[str, object]:
    rows = weather().assign(cnt=lambda rows: 3 * rows["temp"] + rows["wind"])
    for name, part in (("rows", rows[:100]), ("holdout", rows[100:])):
        part.to_parquet(folder / name, index=False)
    estimator = "sklearn.ensemble.HistGradientBoostingRegressor"
    return {
        "training": {"estimator": estimator, "params": {"max_iter": 5}, "seed": 3},
        "contract": REGRESSION.model_dump(mode="json"),
        "rows": str(folder / "rows"),
        "holdout": str(folder / "holdout"),
        "folder": str(folder),
        "threads": threads,
        "packages": ["numpy", "no-such-package"],
        "a field of a later release": 1,
    }


def test_a_refit_takes_the_recorded_threads_and_tells_what_it_was(tmp_path: Path) -> None:
    found = Refit.model_validate(refit(job(tmp_path, {"openmp": 1, "blas": 1})))
    assert found.threads.limits() == {"openmp": 1, "blas": 1}
    assert found.packages["no-such-package"] == "absent"
    assert found.predictions is not None
    said = read_predictions(tmp_path / found.predictions, REGRESSION)
    assert len(said.predictions) == len(pd.read_parquet(tmp_path / "holdout"))


def test_an_environment_has_the_recorded_packages_and_source_and_nothing_else(
    tmp_path: Path, store: RecordStore
) -> None:
    python = make_environment(record(store), [], tmp_path, store)
    code = "import six, sys; print(six.__version__); import numpy"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout == "1.17.0\n"
    assert "No module named 'numpy'" in done.stderr
    assert (tmp_path / "source" / "own" / "a.py").read_text() == "A = 1"


def test_the_nearest_python_is_taken_and_the_difference_named(
    tmp_path: Path, store: RecordStore
) -> None:
    old = record(store, python="3.99.1")
    assert Path(make_environment(old, [], tmp_path, store)).exists()
    here = Refit(
        model_file={"path": "m", "format": "skops", "sha256": "0"},  # pyright: ignore
        predictions=None,
        seconds=0,
        python=platform.python_version(),
        implementation=sys.implementation.name,
        platform=platform.platform(),
        packages={"six": "1.16.0"},
        threads=describe_threads(),
    )
    told = [str(difference) for difference in environment_differences(old, here)]
    assert told == [
        f"environment: python: recorded 3.99.1, now {platform.python_version()}",
        "environment: six: recorded 1.17.0, now 1.16.0",
    ]


def test_what_the_index_does_not_have_is_an_error_that_says_so(
    tmp_path: Path, store: RecordStore
) -> None:
    with pytest.raises(ReproductionError, match=r"cannot be made: uv pip install"):
        make_environment(record(store, "six==0.0.99"), [], tmp_path, store)


def test_an_altered_lock_is_never_installed(tmp_path: Path, store: RecordStore) -> None:
    altered = record(store)
    (store.folder / altered.lock.file.name).write_text("six==1.16.0")
    with pytest.raises(BundleError, match="was changed"):
        make_environment(altered, [], tmp_path, store)
    assert not (tmp_path / "venv").exists()
