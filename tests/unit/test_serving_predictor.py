"""A row is read the same way whatever it came in by, or refused with its column's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.errors import BundleError, RequestError
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.frames import predict_frame, prepare_features
from tests.serving_bundles import BINARY, REGRESSION, fit_classifier, fit_regressor, weather


def row(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame([{"temp": 20.0, "season": "summer", "wind": 1.0} | changes], dtype=object)


def test_columns_come_in_the_order_of_the_contract_and_others_are_left_out() -> None:
    prepared = prepare_features(row(extra=1)[["extra", "wind", "season", "temp"]], REGRESSION)
    assert list(prepared.columns) == ["temp", "season", "wind"]
    assert [str(t) for t in prepared.dtypes] == ["float64", "object", "float64"]


def test_integers_booleans_and_nulls_are_numbers() -> None:
    frame = pd.concat([row(temp=3), row(temp=True), row(temp=None)])
    values = prepare_features(frame, REGRESSION)["temp"].to_numpy()
    assert np.array_equal(values, [3.0, 1.0, np.nan], equal_nan=True)


def test_one_category_has_one_spelling_however_it_was_read() -> None:
    frame = pd.concat([row(season=s) for s in ("5", 5, 5.0, np.int64(5), 5.5, True, None, np.nan)])
    assert prepare_features(frame, REGRESSION)["season"].tolist() == [
        *("5", "5", "5", "5", "5.5", "True", None, None)
    ]


def test_typed_columns_of_a_data_frame_are_read_like_json() -> None:
    frame = pd.DataFrame(
        {
            "temp": pd.array([1, None], dtype="Int64"),
            "season": pd.Categorical(["summer", None]),
            "wind": np.array([1, 2], dtype=np.int8),
        }
    )
    prepared = prepare_features(frame, REGRESSION)
    assert np.array_equal(prepared["temp"], [1.0, np.nan], equal_nan=True)
    assert prepared["season"].tolist() == ["summer", None]


def test_an_optional_column_may_be_absent() -> None:
    assert prepare_features(row()[["temp", "season"]], REGRESSION)["wind"].isna().all()


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"temp": "20"}, "temp", "expected a number or null, got '20'"),
        ({"temp": [20]}, "temp", r"expected a number or null, got \[20\]"),
        ({"temp": float("inf")}, "temp", "expected a finite number"),
        ({"temp": 10**400}, "temp", "expected a number"),
        ({"temp": 1j}, "temp", "expected a number"),
        ({"season": {"name": "summer"}}, "season", "expected text or null"),
        ({"season": float("inf")}, "season", "expected text or null"),
    ],
)
def test_a_wrong_value_is_refused_with_its_column_and_row(
    changes: dict[str, Any], field: str, expected: str
) -> None:
    with pytest.raises(RequestError, match=f"row 1: {expected}") as caught:
        prepare_features(pd.concat([row(), row(**changes)]), REGRESSION)
    assert caught.value.field == field


def test_missing_repeated_and_no_rows_are_refused() -> None:
    with pytest.raises(RequestError, match="Missing column 'temp', 'season'") as caught:
        prepare_features(row()[["wind"]], REGRESSION)
    assert caught.value.field == "temp"
    with pytest.raises(RequestError, match="'temp' is there more than once"):
        prepare_features(pd.concat([row(), row()[["temp"]]], axis=1), REGRESSION)
    with pytest.raises(RequestError, match="no rows"):
        prepare_features(row().head(0), REGRESSION)


def test_a_regressor_predicts_what_the_estimator_predicts() -> None:
    estimator = fit_regressor()
    said = predict_frame(EstimatorPredictor(estimator, REGRESSION), weather())
    assert said.predictions == estimator.predict(weather()).tolist()
    assert said.probabilities is None


def test_probabilities_come_in_the_order_of_the_contract() -> None:
    estimator = fit_classifier()
    assert list(estimator.classes_) != list(BINARY.classes), "the orders must differ to be tested"
    said = predict_frame(
        EstimatorPredictor(estimator, BINARY), pd.DataFrame({"temp": [29.0, -4.0]})
    )
    assert said.predictions == ["yes", "no"]
    assert said.probabilities is not None
    assert said.probabilities[0][0] > 0.5 > said.probabilities[1][0]
    assert [sum(p) for p in said.probabilities] == pytest.approx([1, 1])


def test_classes_that_the_contract_does_not_know_are_refused() -> None:
    with pytest.raises(BundleError, match="no, yes"):
        EstimatorPredictor(
            fit_classifier(), BINARY.model_copy(update={"classes": ("yes", "maybe")})
        )
