"""What does a recipe learn in a fresh environment?

`python -m modelyard.adapters.learning.refit JOB.json` writes the model and `refit.json` into the
job's folder. This file is run as it was when the release was recorded, by whatever ModelYard is
current: so what a job and its answer hold may grow, and never change its meaning.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from modelyard.adapters.learning.fitting import fit_recipe
from modelyard.adapters.learning.pipelines import build_pipeline
from modelyard.adapters.records.threads import describe_threads
from modelyard.config import Training
from modelyard.domain.values import Contract

ANSWER = "refit.json"


def refit(job: dict[str, Any]) -> dict[str, Any]:
    """Fit the recipe of a job on its rows, and describe the environment that did it."""
    training = Training.model_validate(job["training"])
    contract = Contract.model_validate(job["contract"])
    rows, holdout = pd.read_parquet(job["rows"]), pd.read_parquet(job["holdout"])
    build_pipeline(training, contract)  # loads the libraries whose threads are limited
    wanted = job["threads"]
    now = describe_threads().limits()
    with threadpool_limits({api: n for api, n in wanted.items() if now.get(api, n) != n}):
        folder, time = Path(job["folder"]), job.get("time")
        fit = fit_recipe(training, contract, rows, holdout, folder, time)
        threads = describe_threads()
    return {
        "model_file": fit.stored.model_dump(mode="json"),
        "predictions": fit.predictions and fit.predictions.name,
        "seconds": fit.seconds,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in job["packages"]},
        "threads": threads.model_dump(mode="json"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    (Path(job["folder"]) / ANSWER).write_text(json.dumps(refit(job)))


if __name__ == "__main__":
    main()
