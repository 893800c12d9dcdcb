"""How does a config's recipe become a fitted scikit-learn pipeline?"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from modelyard.adapters.learning.imports import locate
from modelyard.config import Training
from modelyard.config.values import format_duration
from modelyard.domain.values import ColumnKind, Contract, MLTask
from modelyard.errors import ConfigError
from modelyard.serving.predictor import model_code

MAX_CATEGORIES = 50
"""Rarer levels of a column share one dummy, so that a column of ids cannot blow up the matrix."""


def build_pipeline(training: Training, contract: Contract) -> BaseEstimator:
    """Return the unfitted pipeline of a recipe: preprocessing by column kind, then the estimator.

    `training.pipeline` names a function that takes the contract and the parameters and returns a
    whole pipeline of its own. Raises ConfigError for what cannot be imported or constructed.
    """
    if training.pipeline:
        return _call(locate(training.pipeline), training, contract)
    estimator = _construct(locate(str(training.estimator)), training)
    numeric = contract.names(ColumnKind.NUMERIC)
    categorical = contract.names(ColumnKind.CATEGORICAL)
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, sparse_output=False
    )
    columns = ColumnTransformer(
        [
            ("numeric", _numeric_step(estimator), list(numeric)),
            ("categorical", encoder, list(categorical)),
        ],
        verbose_feature_names_out=False,
    )
    return Pipeline([("columns", columns), ("estimator", estimator)])


def fit_pipeline(
    pipeline: BaseEstimator,
    features: pd.DataFrame,
    target: np.ndarray,
    weights: np.ndarray | None = None,
) -> BaseEstimator:
    """Fit a clone, so that the recipe stays unfitted.

    `weights` say how much each row counts, shape (rows,). Raises ModelCodeError where it cannot be
    fitted, ConfigError for weights that the estimator does not take.
    """
    weighted = {} if weights is None else {_weight_parameter(pipeline): weights}
    with model_code(f"to learn {len(features):,} rows"):
        fitted: Any = clone(pipeline)
        return fitted.fit(features, target, **weighted)


def _weight_parameter(pipeline: BaseEstimator) -> str:
    """Return the name under which a pipeline's fit hands sample weights to its last step."""
    steps = pipeline.steps if isinstance(pipeline, Pipeline) else [("", pipeline)]
    name, last = steps[-1]
    if not has_fit_parameter(last, "sample_weight"):
        raise ConfigError(
            f"training.half_life: {type(last).__name__} takes no sample_weight, so rows cannot be "
            "weighted by age. Remove half_life and let old rows leave by training.window, or take "
            "an estimator that does, like sklearn.ensemble.HistGradientBoostingRegressor."
        )
    return f"{name}__sample_weight" if name else "sample_weight"


def fit_baseline(task: MLTask, target: np.ndarray, metric: str) -> BaseEstimator:
    """Fit the naive model that any release must beat: class shares, or what is best of one number.

    Of all constants the mean has the least squared error, and the median the least absolute one.
    """
    squared = metric in ("rmse", "r2", "explained_variance") or "squared" in metric
    naive = (
        DummyClassifier(strategy="prior")
        if task.is_classification
        else DummyRegressor(strategy="mean" if squared else "median")
    )
    return naive.fit(np.zeros((len(target), 0)), target)  # it looks at no feature


def describe_recipe(training: Training, contract: Contract) -> dict[str, Any]:
    """Return what decides how a model is trained, apart from its rows, as JSON-shaped values."""
    recipe: dict[str, Any] = {
        "estimator": training.pipeline or training.estimator,
        "params": dict(training.params),
        "seed": training.seed,
        "window": str(training.window),
        "features": ", ".join(contract.names()),
    }
    if training.half_life is not None:
        recipe["half_life"] = format_duration(training.half_life)
    if training.pipeline:
        function = locate(training.pipeline)
        source = inspect.getsource(inspect.getmodule(function) or function)
        recipe["code"] = hashlib.sha256(source.encode()).hexdigest()[:16]
    return recipe


def code_folder(training: Training) -> Path | None:
    """Return the package or module that a user's pipeline comes from; a bundle carries it."""
    if not training.pipeline:
        return None
    top = importlib.import_module(training.pipeline.split(":")[0].split(".")[0])
    if not top.__file__:
        return None
    file = Path(top.__file__)
    return file.parent if file.name == "__init__.py" else file


def _numeric_step(estimator: BaseEstimator) -> Any:
    if get_tags(estimator).input_tags.allow_nan:
        return "passthrough"
    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_pipeline(imputer, StandardScaler())


def _construct(kind: Any, training: Training) -> BaseEstimator:
    params = dict(training.params)
    accepted = inspect.signature(kind).parameters
    if "random_state" in accepted:
        params.setdefault("random_state", training.seed)
    try:
        made = kind(**params)
    except Exception as err:
        raise ConfigError(
            f"training.params: {err}. {kind.__name__} takes {', '.join(accepted)}."
        ) from err
    if not (hasattr(made, "fit") and hasattr(made, "predict")):
        raise ConfigError(
            f"training.estimator = {training.estimator!r}: gives {type(made).__name__}, which has "
            "no fit and predict. Name a scikit-learn estimator's class."
        )
    return made


def _call(function: Any, training: Training, contract: Contract) -> BaseEstimator:
    try:
        return function(contract, seed=training.seed, **training.params)
    except (Exception, SystemExit) as err:
        raise ConfigError(
            f"training.pipeline: {training.pipeline} could not be called as "
            f"function(contract, seed=..., **params): {type(err).__name__}: {err}."
        ) from err
