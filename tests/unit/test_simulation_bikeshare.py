"""The simulated bike share is the same everywhere and tells the story that it documents."""

import hashlib
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

from modelyard.adapters.data.frames import as_features, infer_contract
from modelyard.adapters.data.sources import read_rows
from modelyard.adapters.learning.outcomes import as_labels
from modelyard.adapters.learning.pipelines import build_pipeline
from modelyard.config import load_model_file
from modelyard.domain.values import ColumnKind
from modelyard.errors import DataError
from modelyard.simulations import bikeshare, load_simulation

ROOT = Path(__file__).parents[2]
CONFIG = load_model_file(ROOT / "configs" / "models" / "bikeshare.yaml")
FORTNIGHT = timedelta(days=14)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return read_rows(CONFIG.data, root=ROOT, task=CONFIG.task)


def between(rows: pd.DataFrame, start: object, end: object) -> pd.DataFrame:
    return rows[(rows.timestamp >= start) & (rows.timestamp < end)]


class Model:
    """The recipe of the demo's config, fitted on a stretch of rows."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.contract = infer_contract(CONFIG, rows).contract
        pipeline = build_pipeline(CONFIG.training, self.contract)
        self.fitted = pipeline.fit(
            as_features(rows, self.contract), as_labels(rows["cnt"], self.contract)
        )

    def scores(self, rows: pd.DataFrame) -> tuple[float, float]:
        predicted = self.fitted.predict(as_features(rows, self.contract))
        return mean_absolute_error(rows.cnt, predicted), r2_score(rows.cnt, predicted)


def test_the_rows_of_a_seed_never_change() -> None:
    text = bikeshare.simulate().to_csv(index=False, lineterminator="\n")
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "272e4d05e9a709cd12b9d47e80b546f35141a0464edbd63dacddec470acdf532"


def test_another_seed_draws_another_two_years() -> None:
    assert not bikeshare.simulate(seed=1).equals(bikeshare.simulate(seed=2))


def test_hours_are_complete_and_unique_and_nothing_is_missing(rows: pd.DataFrame) -> None:
    assert len(rows) == (bikeshare.END - bikeshare.START) / timedelta(hours=1)
    assert (rows.timestamp.diff().dropna() == pd.Timedelta(hours=1)).all()
    assert rows.row_id.is_unique
    assert not rows.isna().any().any()


def test_the_subway_brings_sixty_percent_more_riders_and_moves_one_input(
    rows: pd.DataFrame,
) -> None:
    before = between(rows, bikeshare.TRAFFIC_START, bikeshare.DEMAND_SHIFT)
    after = between(rows, bikeshare.DEMAND_SHIFT, bikeshare.FAULT_START)
    assert 1.5 < after.cnt.mean() / before.cnt.mean() < 1.75
    assert after.stations_online.mean() > 1.08 * before.stations_online.mean()
    for column in ("temperature", "humidity", "wind"):
        assert abs(after[column].mean() - before[column].mean()) < 0.1 * before[column].std()


def test_the_faulty_sensor_reports_fractions_and_only_while_it_is_faulty(
    rows: pd.DataFrame,
) -> None:
    faulty = between(rows, bikeshare.FAULT_START, bikeshare.FAULT_END)
    assert faulty.humidity.max() <= 1
    assert rows.drop(index=faulty.index).humidity.min() > 20


def test_weeks_before_the_shift_are_alike(rows: pd.DataFrame) -> None:
    first_year = between(rows, bikeshare.START, bikeshare.TRAFFIC_START)
    week = (first_year.timestamp - first_year.timestamp.iloc[0]) // pd.Timedelta(days=7)
    temperature = first_year.groupby(week).temperature.mean()
    assert np.ptp(temperature.to_numpy()) < 0.3 * first_year.temperature.std()


def test_a_model_errs_twice_as_much_after_the_shift_and_recovers_by_retraining(
    rows: pd.DataFrame,
) -> None:
    start = bikeshare.TRAFFIC_START
    first_year = Model(between(rows, bikeshare.START, start))
    quiet_error, quiet_r2 = first_year.scores(between(rows, start, start + 3 * FORTNIGHT))
    assert quiet_r2 > 0.85

    shifted = between(rows, bikeshare.DEMAND_SHIFT, bikeshare.DEMAND_SHIFT + FORTNIGHT)
    assert first_year.scores(shifted)[0] > 2 * quiet_error

    # As the demo does it: the second bad window has ended, its newest week is the holdout.
    retrained_at = start + 5 * FORTNIGHT
    assert CONFIG.evaluation.holdout.span is not None
    end = retrained_at - CONFIG.evaluation.holdout.span
    assert isinstance(CONFIG.training.window, timedelta)
    retrained = Model(between(rows, end - CONFIG.training.window, end))
    later = between(rows, retrained_at, retrained_at + FORTNIGHT)
    error, r2 = retrained.scores(later)
    assert r2 > 0.85
    # Near the former level: there are 1.6 times as many rentals to be wrong about.
    assert error / later.cnt.mean() < 1.5 * quiet_error / 117
    assert error < 0.35 * first_year.scores(later)[0]


def test_the_demo_config_names_its_features(rows: pd.DataFrame) -> None:
    contract, left_out = infer_contract(CONFIG, rows)
    assert contract.names(ColumnKind.CATEGORICAL) == ("weather",)
    assert set(left_out) == {"row_id", "timestamp"}


def test_an_unknown_simulation_is_refused() -> None:
    with pytest.raises(DataError, match="sim://bikes: there is no such simulation"):
        load_simulation("bikes")
