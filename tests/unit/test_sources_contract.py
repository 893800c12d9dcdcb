"""Features are what a model may see; the rest is left out with a reason."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.data.frames import as_features, infer_contract
from modelyard.adapters.learning.outcomes import as_labels
from modelyard.config import ModelConfig
from modelyard.domain.values import ColumnKind
from modelyard.errors import DataError, RequestError

N = 400


def config(task: str = "regression", **data: Any) -> ModelConfig:
    return ModelConfig.model_validate(
        {"name": "m", "task": task, "data": {"source": "x.csv", "target": "y", **data}}
    )


@pytest.fixture
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "row": np.arange(N),
            "at": pd.date_range("2024-01-01", periods=N, freq="h", tz="UTC"),
            "x": rng.normal(size=N),
            "flag": rng.random(N) < 0.5,
            "kind": rng.choice(["a", "b"], N),
            "code": [f"code {i}" for i in range(N)],
            # read as 3 January or as 1 March, and a date in any case
            "when": [f"0{1 + i % 3}/0{1 + i % 5}/2024" for i in range(N)],
            "note": [f"note {i % 300}" for i in range(N)],
            "day": ["2024-01-01", "2024-01-02"] * (N // 2),
            "nothing": np.nan,
            "y_pred": rng.normal(size=N),
            "y_lag_24": rng.normal(size=N),
            "y": rng.normal(size=N),
        }
    )


def test_numbers_and_texts_with_few_values_are_features(rows: pd.DataFrame) -> None:
    contract, left_out = infer_contract(config(time="at"), rows)
    assert contract.names(ColumnKind.NUMERIC) == ("x", "flag", "y_lag_24")
    assert contract.names(ColumnKind.CATEGORICAL) == ("kind",)
    assert left_out == {
        "row": "a row counter",
        "at": "event time",
        "code": "different in every row: an identifier",
        "note": "300 different texts: an identifier or free text",
        "day": "a date; add columns made from it, like hour or weekday",
        "when": "a date; add columns made from it, like hour or weekday",
        "nothing": "empty in every row",
        "y_pred": "its name says that it is made from the target 'y'",
    }


def test_a_declared_column_is_taken_as_it_is_declared(rows: pd.DataFrame) -> None:
    features = {"numeric": ["y_pred", "row"], "categorical": ["code", "flag"]}
    contract, left_out = infer_contract(config(features=features), rows)
    assert set(contract.names(ColumnKind.NUMERIC)) == {"row", "y_pred"}
    assert set(contract.names(ColumnKind.CATEGORICAL)) == {"code", "flag"}
    assert left_out["x"] == "not in data.features.numeric"


def test_a_list_that_is_left_out_is_inferred_and_an_empty_one_means_none(
    rows: pd.DataFrame,
) -> None:
    numeric = infer_contract(config(features={"numeric": ["x"]}), rows).contract
    assert numeric.names() == ("x", "kind")
    none = infer_contract(config(features={"numeric": ["x"], "categorical": []}), rows).contract
    assert none.names() == ("x",)


def test_no_feature_at_all_is_refused_with_the_reasons(rows: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="no column is left as a feature: code: different"):
        infer_contract(config(), rows[["code", "y"]])


def test_parts_that_add_up_to_the_target_are_left_out(rows: pd.DataFrame) -> None:
    counts = rows.assign(a=np.arange(N) % 7, b=np.arange(N) % 11)
    counts["y"] = counts["a"] + counts["b"]
    left_out = infer_contract(config(), counts).left_out
    assert left_out["a"] == left_out["b"] == "a and b add up to the target exactly: they leak it"
    noisy = counts.assign(y=counts["y"] + np.linspace(0, 0.1, N) ** 2)
    assert "a" not in infer_contract(config(), noisy).left_out


def test_the_outcome_in_other_words_is_left_out(rows: pd.DataFrame) -> None:
    rows["y"] = np.where(rows["x"] > 0, "yes", "no")
    rows["status"] = np.where(rows["x"] > 1, "gone", np.where(rows["x"] > 0, "left", "stayed"))
    left_out = infer_contract(config("binary_classification"), rows).left_out
    assert "leaks the target" in left_out["status"]
    assert "kind" not in left_out


def test_classes_are_in_text_order_and_the_last_is_positive() -> None:
    for values, classes in [
        (["yes", "no"], ("no", "yes")),
        (["UP", "DOWN"], ("DOWN", "UP")),
        ([1, 0], ("0", "1")),
        ([1.0, 0.0], ("0", "1")),
        ([True, False], ("False", "True")),
    ]:
        rows = pd.DataFrame({"x": [0.5, 1.5], "y": values})
        contract = infer_contract(config("binary_classification"), rows).contract
        assert contract.classes == classes
        assert contract.positive == classes[-1]
        assert sorted(as_labels(rows["y"], contract)) == list(classes)
    chosen = config("binary_classification", positive="False")
    assert infer_contract(chosen, rows).contract.positive == "False"


def test_three_classes_have_no_positive_one() -> None:
    rows = pd.DataFrame({"x": [0.5, 1.5, 1.0], "y": ["c", "a", "b"]})
    contract = infer_contract(config("multiclass_classification"), rows).contract
    assert (contract.classes, contract.positive) == (("a", "b", "c"), None)


def test_features_are_float64_and_texts_in_the_order_of_the_contract(rows: pd.DataFrame) -> None:
    features = {"numeric": ["x", "flag"], "categorical": ["kind", "row"]}
    contract = infer_contract(config(features=features), rows).contract
    rows.loc[0, ["x", "kind"]] = [np.nan, None]
    seen = as_features(rows.iloc[:2, ::-1], contract)
    assert tuple(seen.columns) == contract.names()
    assert seen["x"].dtype == seen["flag"].dtype == "float64"
    assert seen["x"].isna().tolist() == [True, False]
    assert seen["kind"].tolist()[0] is None
    assert seen["row"].tolist() == ["0", "1"]


def test_a_category_of_numbers_is_spelled_as_a_service_spells_it(rows: pd.DataFrame) -> None:
    features = {"numeric": ["x"], "categorical": ["kind"]}
    contract = infer_contract(config(features=features), rows).contract
    sent = rows.iloc[:3].assign(kind=[5.0, 5.5, np.nan])
    assert as_features(sent, contract)["kind"].tolist() == ["5", "5.5", None]
    with pytest.raises(RequestError, match="Column 'kind', row 0: expected text or null"):
        as_features(rows.assign(kind=rows["at"]), contract)


def test_rows_that_break_the_contract_are_refused(rows: pd.DataFrame) -> None:
    contract = infer_contract(config(features={"numeric": ["x"], "categorical": []}), rows).contract
    with pytest.raises(DataError, match=r"there is no column 'x'. Did you mean `X`\?"):
        as_features(rows.rename(columns={"x": "X"}), contract)
    with pytest.raises(
        DataError, match="column 'x' holds 1 values that are no numbers, first 'hot'"
    ):
        as_features(rows.astype({"x": object}).replace({"x": {rows["x"][3]: "hot"}}), contract)
