"""Do newer rows count more where the config says so, here and when a release is made again?"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelyard.adapters.learning.fitting import fit_recipe
from modelyard.adapters.learning.pipelines import describe_recipe, fit_pipeline
from modelyard.adapters.learning.refit import refit
from modelyard.config import Training
from modelyard.domain.row_weights import age_weights
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.errors import ConfigError

DAY = timedelta(days=1)
CONTRACT = Contract(
    task=MLTask.REGRESSION, columns=(Column(name="x", kind=ColumnKind.NUMERIC),), target="y"
)
RIDGE = {"estimator": "sklearn.linear_model.Ridge"}


def shifted() -> pd.DataFrame:
    """Return 200 daily rows whose outcome is 0 in the first half and 10 in the second."""
    times = pd.date_range("2024-01-01", periods=200, freq="D", tz="UTC")
    outcome = np.where(np.arange(200) < 100, 0.0, 10.0)
    return pd.DataFrame({"time": times, "x": np.zeros(200), "y": outcome})


def predicted(training: Training, folder: Path) -> float:
    rows = shifted()
    fit = fit_recipe(training, CONTRACT, rows, rows.tail(1), folder, "time")
    assert fit.predictions is not None
    return float(pd.read_parquet(fit.predictions)["prediction"].iloc[0])


def test_a_row_counts_half_for_every_half_life_that_it_is_older() -> None:
    times = np.array(["2024-01-09", "2024-01-05", "2024-01-07"], "datetime64[ns]")

    assert age_weights(times, 2 * DAY).tolist() == [1.0, 0.25, 0.5]


def test_weights_are_the_same_to_the_bit_whatever_unit_the_times_are_stored_in() -> None:
    times = np.array(["2019-03-02T01:02:03.456789", "2024-01-05"], "datetime64[us]")
    stored = [times.astype(f"datetime64[{unit}]") for unit in ("ns", "us")]

    assert age_weights(stored[0], 3 * DAY).tobytes() == age_weights(stored[1], 3 * DAY).tobytes()


def test_what_was_true_long_ago_is_forgotten_by_half_lives(tmp_path: Path) -> None:
    assert predicted(Training(**RIDGE), tmp_path) == pytest.approx(5.0)
    assert predicted(Training(**RIDGE, half_life=10 * DAY), tmp_path) > 9.9


def test_a_release_that_is_made_again_weights_its_rows_alike(tmp_path: Path) -> None:
    training, rows = Training(**RIDGE, half_life=30 * DAY), shifted()
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    fit = fit_recipe(training, CONTRACT, rows, rows.tail(1), tmp_path, "time")
    again = tmp_path / "again"
    again.mkdir()
    answer = refit(
        {
            "training": training.model_dump(mode="json"),
            "contract": CONTRACT.model_dump(mode="json"),
            "time": "time",
            "folder": str(again),
            "threads": {},
            "packages": [],
            "rows": str(tmp_path / "rows.parquet"),
            "holdout": str(tmp_path / "rows.parquet"),
        }
    )

    assert answer["model_file"]["sha256"] == fit.stored.sha256


def test_an_estimator_that_takes_no_weights_is_refused_with_what_to_do() -> None:
    rows = shifted()
    for pipeline in (KNeighborsRegressor(), make_pipeline(StandardScaler(), KNeighborsRegressor())):
        with pytest.raises(
            ConfigError, match=r"KNeighborsRegressor takes no sample_weight.*window"
        ):
            fit_pipeline(pipeline, rows[["x"]], rows["y"].to_numpy(), np.ones(200))


def test_weights_reach_the_last_step_of_a_pipeline_of_ones_own() -> None:
    rows, weights = shifted(), np.repeat([0.0, 1.0], 100)
    fitted = fit_pipeline(
        make_pipeline(StandardScaler(), Ridge()), rows[["x"]], rows["y"].to_numpy(), weights
    )

    assert fitted.predict(rows[["x"]].tail(1))[0] == pytest.approx(10.0)


def test_a_half_life_is_part_of_the_recipe_and_none_is_not() -> None:
    assert "half_life" not in describe_recipe(Training(**RIDGE), CONTRACT)
    assert describe_recipe(Training(**RIDGE, half_life=30 * DAY), CONTRACT)["half_life"] == "30d"
