"""Do compiled models say what their pipelines say, on real rows, and is a wrong one caught?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.claims import Claim, claim, data_folder, show
from modelyard.adapters.learning.compiling import compile_forms
from modelyard.adapters.learning.pipelines import build_pipeline
from modelyard.adapters.learning.proving import TOLERANCE, compile_proven, disagreement, expect
from modelyard.config import Training
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.serving.agreement import differences
from modelyard.serving.compiled import CompiledPredictor
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.frames import prepare_features, read_features

ROWS = 10_000
FIT_ROWS = 8_000

TARGETS: dict[str, tuple[str, MLTask]] = {
    "air_quality": ("C6H6(GT)", MLTask.REGRESSION),
    "bank_marketing": ("y", MLTask.BINARY),
    "beijing_pm25": ("pm2.5", MLTask.REGRESSION),
    "bike_sharing": ("cnt", MLTask.REGRESSION),
    "elec2": ("class", MLTask.BINARY),
    "hotel_resort": ("is_canceled", MLTask.BINARY),
    "metro_traffic": ("traffic_volume", MLTask.REGRESSION),
    "noaa_weather": ("rain", MLTask.BINARY),
}
_MANY_LEVELS = 1000
"""A text column with more of them is an id or a time."""


class _Case(NamedTuple):
    contract: Contract
    pipeline: Any
    later: pd.DataFrame


def measure_agreement(quick: bool) -> list[Claim]:
    """Compare 10,000 rows of each data set, none of which the model was fitted on where it can."""
    estimators = {
        MLTask.REGRESSION: [
            "ensemble.HistGradientBoostingRegressor",
            "linear_model.Ridge",
            "ensemble.RandomForestRegressor",
        ],
        MLTask.BINARY: [
            "ensemble.HistGradientBoostingClassifier",
            "linear_model.LogisticRegression",
            "ensemble.RandomForestClassifier",
        ],
    }
    with threadpool_limits(1):  # threads that wait for each other are slower than one
        return _measure(estimators, quick)


def _measure(estimators: dict[MLTask, list[str]], quick: bool) -> list[Claim]:
    rows, worst, flips, fallbacks, caught, wrong = [], 0.0, 0, 0, 0, 0
    for name, (target, task) in list(TARGETS.items())[: 2 if quick else None]:
        for estimator in estimators[task][: 1 if quick else None]:
            case = _fit(name, target, task, estimator)
            expected = expect(case.pipeline, case.contract, case.later, 5000)
            compiled = compile_proven(case.pipeline, case.contract, expected)
            if compiled.graph is None:
                fallbacks += 1
                rows.append((name, estimator, "-", "-", compiled.reason))
                continue
            features = read_features(case.later, case.contract)
            before = EstimatorPredictor(case.pipeline, case.contract).predict(features)
            now = CompiledPredictor(compiled.graph, case.contract).predict(features)
            apart = differences(before, now)
            worst = max(worst, float(apart.max()))
            flips += int(np.isinf(apart).sum())
            rows.append((name, estimator, len(apart), float(apart.max()), "compiled"))
            if estimator.startswith("ensemble.Hist"):
                # numbers rounded before the trees compare them: what the obvious conversion does
                forms = dict(compile_forms(case.pipeline, case.contract))
                rounded = forms["float32 before the last step"]
                off = differences(
                    before, CompiledPredictor(rounded, case.contract).predict(features)
                )
                if off.max() > TOLERANCE:
                    wrong += 1
                    found, _ = disagreement(rounded, case.contract, expected)
                    caught += found is not None
    show(
        "Compiled against pipeline",
        ("data", "estimator", "rows", "largest difference", "runtime"),
        rows,
    )
    return [
        claim("agreement: largest difference", worst, "<=", TOLERANCE),
        claim("agreement: labels that differ", flips, "<=", 0),
        claim("agreement: pipelines that were not compiled", fallbacks, "<=", 0),
        claim(f"wrong conversions caught, of {wrong}", caught, ">=", max(wrong, 1)),
    ]


def _fit(name: str, target: str, task: MLTask, estimator: str) -> _Case:
    frame = pd.read_csv(data_folder(name) / "data.csv.gz")
    frame = frame[frame[target].notna()].reset_index(drop=True)
    columns = tuple(
        Column(name=str(c), kind=kind)
        for c in frame.columns
        if c != target and (kind := _kind(frame[c])) is not None
    )
    labels: np.ndarray = (
        frame[target].to_numpy(dtype=np.float64)
        if task is MLTask.REGRESSION
        else (frame[target].astype(str).to_numpy(dtype=object))
    )
    classes = () if task is MLTask.REGRESSION else tuple(sorted(set(labels)))
    contract = Contract(
        task=task,
        columns=columns,
        target=target,
        classes=classes,
        positive=classes[-1] if classes else None,
    )
    split = max(len(frame) - ROWS, len(frame) // 2)
    fitted = slice(max(0, split - FIT_ROWS), split)
    params = {"n_estimators": 10} if "Forest" in estimator else {}
    params |= {"max_iter": 500} if "Logistic" in estimator else {}
    training = Training(estimator=f"sklearn.{estimator}", params=params)
    pipeline: Any = build_pipeline(training, contract)
    pipeline.fit(prepare_features(frame.iloc[fitted], contract), labels[fitted])
    later = frame.iloc[split:].reset_index(drop=True)
    if len(later) < ROWS:  # a small data set: the rows before are asked about as well
        later = frame.tail(ROWS).reset_index(drop=True)
    return _Case(contract, pipeline, later)


def _kind(values: pd.Series) -> ColumnKind | None:
    if pd.api.types.is_numeric_dtype(values.dtype):
        return ColumnKind.NUMERIC
    return ColumnKind.CATEGORICAL if values.nunique() <= _MANY_LEVELS else None
