"""Small models and bundles for the tests of serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modelyard.adapters.learning.packaging import WantedRuntime, package_release
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.serving.model_file import save_model

NUMERIC = ColumnKind.NUMERIC
CATEGORICAL = ColumnKind.CATEGORICAL

REGRESSION = Contract(
    task=MLTask.REGRESSION,
    columns=(
        Column(name="temp", kind=NUMERIC),
        Column(name="season", kind=CATEGORICAL),
        Column(name="wind", kind=NUMERIC, required=False),
    ),
    target="cnt",
    id="row_id",
    time="hour",
)
BINARY = Contract(
    task=MLTask.BINARY,
    columns=(Column(name="temp", kind=NUMERIC),),
    target="busy",
    classes=("yes", "no"),
    positive="yes",
)
PLAIN = Contract(
    task=MLTask.REGRESSION, columns=(Column(name="x", kind=NUMERIC),), target="y", id="id"
)

FACTORS = {"1.0.0": 2.0, "2.0.0": 3.0}
"""What each plain release multiplies its x with."""


def weather(rows: int = 120) -> pd.DataFrame:
    """Return rows that fit REGRESSION and BINARY."""
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "temp": rng.uniform(-5, 30, rows),
            "season": rng.choice(["spring", "summer", "winter"], rows),
            "wind": rng.uniform(0, 10, rows),
        }
    )


def fit_regressor() -> Any:
    rows = weather()
    columns = ColumnTransformer(
        [("season", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["season"])],
        remainder="passthrough",
    )
    model = make_pipeline(columns, HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=5))
    return model.fit(rows, 3 * rows["temp"] + rows["wind"])


def fit_classifier() -> Any:
    rows = weather()[["temp"]]
    labels = np.where(rows["temp"] > 15, "yes", "no")
    return HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5).fit(rows, labels)


def bundle_of(
    folder: Path,
    estimator: Any,
    contract: Contract,
    version: str = "1.0.0",
    code: Path | None = None,
    runtime: WantedRuntime = "sklearn",
) -> str:
    """Write a bundle for a fitted estimator and return its digest."""
    model_folder = folder.with_name(f"{folder.name}-model")
    return package_release(
        folder,
        model="bikes",
        version=version,
        contract=contract,
        model_file=save_model(estimator, model_folder),
        model_folder=model_folder,
        holdout=weather() if "x" not in contract.names() else pd.DataFrame({"x": [1.0, 2.0, 5.0]}),
        requirements=lambda runtime: f"{runtime}\n",
        provenance={"commit": "abc"},
        code=code,
        wanted=runtime,
    ).digest


def plain_bundle(folder: Path, version: str, factor: float) -> str:
    """Write the bundle of a release that answers `factor * x`."""
    x = pd.DataFrame({"x": np.arange(10.0)})
    return bundle_of(folder, LinearRegression().fit(x, factor * x["x"]), PLAIN, version)


def falsify_golden(folder: Path) -> None:
    """Change one recorded prediction; the bundle's digest then has to be taken anew."""
    golden = json.loads((folder / "golden.json").read_text())
    golden["predictions"][1] += 0.001
    (folder / "golden.json").write_text(json.dumps(golden))
