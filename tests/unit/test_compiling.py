"""A pipeline is compiled only where it then says the same; otherwise the reason is told."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from modelyard.adapters.learning.compiling import compile_forms
from modelyard.adapters.learning.pipelines import build_pipeline
from modelyard.adapters.learning.proving import TOLERANCE, compile_proven, disagreement, expect
from modelyard.config import Training
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.serving.agreement import differences
from modelyard.serving.compiled import CompiledPredictor
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.frames import prepare_features, read_features

NUMBERS, TEXTS = ["n 0", "n1", "n2"], ["few", "many"]
ORDER = ["n1", "few", "n 0", "many", "n2"]
"""Kinds are mixed in the contract: a graph must take each column from its place."""


def contract(task: MLTask = MLTask.REGRESSION, classes: tuple[str, ...] = ()) -> Contract:
    kinds = dict.fromkeys(NUMBERS, ColumnKind.NUMERIC)
    columns = tuple(Column(name=n, kind=kinds.get(n, ColumnKind.CATEGORICAL)) for n in ORDER)
    return Contract(task=task, columns=columns, target="y", classes=classes)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(600, 3)) * [1, 10, 1000], columns=pd.Index(NUMBERS))
    frame.loc[rng.random(600) < 0.1, "n1"] = np.nan
    frame["few"] = rng.choice(["a", "b", None], 600)
    frame["many"] = rng.choice([f"level {i}" for i in range(70)], 600)
    return frame


def outcome(rows: pd.DataFrame) -> np.ndarray:
    return (rows["n 0"] + 2.0 * (rows["few"] == "a") + rows["n2"] / 1000).to_numpy()


def ordinal(missing: float) -> ColumnTransformer:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=missing)
    return make_column_transformer((encoder, TEXTS), remainder="passthrough")


def linear(estimator: Any) -> Any:
    """Scaled numbers in another order than the contract's, imputed categories."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = make_pipeline(
        SimpleImputer(missing_values=None, strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", drop="first", min_frequency=7),
    )
    columns = make_column_transformer((numbers, ["n2", "n1", "n 0"]), (texts, ["many", "few"]))
    return make_pipeline(columns, estimator)


def default(estimator: str, task: MLTask = MLTask.REGRESSION) -> Any:
    training = Training(estimator=f"sklearn.{estimator}")
    return build_pipeline(training, contract(task, ("no", "yes")))


REGRESSIONS = {
    "default boosting": lambda: default("ensemble.HistGradientBoostingRegressor"),
    "default linear": lambda: default("linear_model.LinearRegression"),
    "categorical splits": lambda: make_pipeline(
        ordinal(-1), HistGradientBoostingRegressor(categorical_features=[0, 1], max_iter=20)
    ),
    "forest": lambda: make_pipeline(ordinal(np.nan), RandomForestRegressor(8, random_state=0)),
    "linear": lambda: linear(Ridge()),
}
CLASSIFICATIONS = {
    "default boosting": lambda: default(
        "ensemble.HistGradientBoostingClassifier", MLTask.MULTICLASS
    ),
    "forest": lambda: make_pipeline(ordinal(-2), RandomForestClassifier(8, random_state=0)),
    "boosting": lambda: linear(GradientBoostingClassifier(n_estimators=9)),
    "linear": lambda: linear(LogisticRegression()),
}


def probe(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with nothing in a column, unseen levels, and numbers far outside."""
    asked = rows.copy()
    asked.loc[::3, "many"] = "never seen"
    asked.loc[::5, NUMBERS] = np.nan
    asked.loc[::7, "few"] = None
    asked.loc[::11, "n2"] = 1e30
    return asked


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_compiled_regression_says_what_the_pipeline_says(name: str, rows: pd.DataFrame) -> None:
    check(REGRESSIONS[name](), contract(), outcome(rows), rows)


@pytest.mark.parametrize("classes", [("no", "yes"), ("c", "a", "b")])
@pytest.mark.parametrize("name", CLASSIFICATIONS)
def test_a_compiled_classifier_says_what_the_pipeline_says(
    name: str, classes: tuple[str, ...], rows: pd.DataFrame
) -> None:
    task = MLTask.BINARY if len(classes) == 2 else MLTask.MULTICLASS
    ranks = pd.qcut(outcome(rows), len(classes), labels=False)
    labels = np.array(classes, dtype=object)[ranks]
    check(CLASSIFICATIONS[name](), contract(task, classes), labels, rows)


def check(pipeline: Any, of: Contract, labels: np.ndarray, rows: pd.DataFrame) -> None:
    pipeline.fit(prepare_features(rows, of), labels)
    compiled = compile_proven(pipeline, of, expect(pipeline, of, rows, 300))
    assert compiled.graph is not None, compiled.reason
    assert "in float64" in compiled.reason
    asked = read_features(probe(rows), of)
    warnings.simplefilter("ignore")  # scikit-learn's, about levels that it never saw
    apart = differences(
        EstimatorPredictor(pipeline, of).predict(asked),
        CompiledPredictor(compiled.graph, of).predict(asked),
    )
    assert apart.max() < 1e-9


def test_a_wrong_conversion_is_caught_by_the_proof(rows: pd.DataFrame) -> None:
    of = contract()
    pipeline = REGRESSIONS["default boosting"]().fit(prepare_features(rows, of), outcome(rows))
    forms = dict(compile_forms(pipeline, of))
    expected = expect(pipeline, of, rows, 600)
    assert disagreement(forms["float64"], of, expected) == (None, pytest.approx(0, abs=1e-12))
    failure, largest = disagreement(forms["float32 before the last step"], of, expected)
    assert failure is not None
    assert largest > 100 * TOLERANCE


def test_what_cannot_be_compiled_says_why(rows: pd.DataFrame) -> None:
    of = contract()
    features = prepare_features(rows, of)
    strict = make_column_transformer((OrdinalEncoder(), TEXTS))
    pipeline = make_pipeline(strict, LinearRegression()).fit(features, outcome(rows))
    compiled = compile_proven(pipeline, of, expect(pipeline, of, rows, 300))
    assert compiled.graph is None
    assert "not compiled" in compiled.reason
    assert "OrdinalEncoder that refuses new levels" in compiled.reason


def test_columns_that_take_no_missing_value_are_found(rows: pd.DataFrame) -> None:
    of = contract()
    whole = rows.fillna({"n1": 0.0})
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS), (OneHotEncoder(handle_unknown="ignore"), ["few"])
    )
    pipeline = make_pipeline(columns, Ridge()).fit(prepare_features(whole, of), outcome(whole))
    assert sorted(expect(pipeline, of, whole, 100).not_null) == sorted(NUMBERS)


def test_a_tuned_threshold_is_not_lost(rows: pd.DataFrame) -> None:
    """The graph's label would be the likelier class: the proof sees it, and the pipeline serves."""
    from sklearn.model_selection import FixedThresholdClassifier

    of = contract(MLTask.BINARY, ("no", "yes"))
    labels = np.where(outcome(rows) > 0, "yes", "no").astype(object)
    tuned = FixedThresholdClassifier(
        HistGradientBoostingClassifier(max_iter=5), threshold=0.95, pos_label="yes"
    )
    pipeline = make_pipeline(ordinal(-1), tuned).fit(prepare_features(rows, of), labels)
    compiled = compile_proven(pipeline, of, expect(pipeline, of, rows, 300))
    assert compiled.graph is None
