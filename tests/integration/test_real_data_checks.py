"""Do real rows pass the data checks as they are, and not once something was planted in them?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.checking import measure_rows, policy_of
from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.data.selection import Selection, select_rows
from modelyard.config import ModelConfig, load_model_file
from modelyard.domain.data_checks import Checked, DataCheck, Level
from modelyard.domain.data_rules import check_facts
from modelyard.domain.values import ColumnKind, Contract
from tests.checked_rows import types_of

EXAMPLES = Path(__file__).resolve().parents[2] / "configs" / "models" / "examples"
OTHERS = {
    "air_quality": """
task: regression
data:
  target: NOx(GT)
  time: timestamp
  missing_values: ["", -200]
  features:
    numeric: [PT08.S1(CO), PT08.S2(NMHC), PT08.S3(NOx), PT08.S4(NO2), PT08.S5(O3), T, RH, AH]
    categorical: []
evaluation: {holdout: newest 28d}
""",
    "beijing_pm25": """
task: regression
data:
  target: pm2.5
  time: timestamp
  features: {numeric: [month, hour, DEWP, TEMP, PRES, Iws, Is, Ir], categorical: [cbwd]}
evaluation: {holdout: newest 28d}
""",
    "metro_traffic": """
task: regression
data:
  target: traffic_volume
  time: date_time
  features:
    numeric: [temp, rain_1h, snow_1h, clouds_all]
    categorical: [holiday, weather_main]
evaluation: {holdout: newest 28d}
""",
    "noaa_weather": """
task: binary_classification
data:
  target: rain
  id: row_id
  features:
    numeric:
      [temperature_F, dew_point_F, sea_level_pressure_mb, visibility_mi, wind_speed_kn,
      max_sustained_wind_kn, max_temperature_F, min_temperature_F]
    categorical: []
""",
}
MOMENTS = {
    "air_quality": ("2004-09-01", "2005-01-01", None),
    "bank_marketing": ("2008-08-01", "2009-05-01", None),
    "beijing_pm25": ("2011-07-01", None),
    "bike_sharing": ("2011-08-01", "2012-05-01", None),
    "elec2": ("1996-09-01", "1997-06-01", None),
    "hotel_resort": ("2015-12-01", None),
    "metro_traffic": ("2014-01-01", None),
    "noaa_weather": (None,),
}
A_NUMBER = {
    "air_quality": "AH",
    "bank_marketing": "age",
    "beijing_pm25": "PRES",
    "bike_sharing": "atemp",
    "elec2": "nswdemand",
    "hotel_resort": "adr",
    "metro_traffic": "temp",
    "noaa_weather": "sea_level_pressure_mb",
}
"""A feature of each set with a unit that somebody may change."""
CLASSIFICATIONS = ("bank_marketing", "elec2", "hotel_resort", "noaa_weather")


@pytest.fixture
def config(
    request: pytest.FixtureRequest,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ModelConfig:
    monkeypatch.setenv("MODELYARD_DATA", str(data_folder))
    name = request.param
    if name not in OTHERS:
        return load_model_file(EXAMPLES / f"{name}.yaml")
    source = f"data:\n  source: ${{MODELYARD_DATA}}/{name}/data.csv.gz"
    file = tmp_path / f"{name}.yaml"
    file.write_text(f"name: {name}{OTHERS[name].replace('data:', source)}")
    return load_model_file(file)


def rows_of(config: ModelConfig, as_of: str | None = None) -> tuple[Selection, Contract]:
    moment = datetime.fromisoformat(as_of).replace(tzinfo=UTC) if as_of else None
    selection = select_rows(config, Path(), moment)
    return selection, infer_contract(config, selection.rows).contract


def checked(
    config: ModelConfig, training: pd.DataFrame, holdout: pd.DataFrame, contract: Contract
) -> Checked:
    policy = policy_of(config)
    features = config.data.features
    declared = frozenset((*(features.numeric or ()), *(features.categorical or ())))
    facts = measure_rows(training, holdout, contract, policy, type_of=types_of, declared=declared)
    return check_facts(facts, policy)


def by_name(names: tuple[str, ...] | dict) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("config", sorted(names), indirect=True)


@by_name(MOMENTS)
def test_real_rows_are_trained_on_at_every_time(config: ModelConfig) -> None:
    for moment in MOMENTS[config.name]:
        selection, contract = rows_of(config, moment)
        verdict = checked(config, selection.part("training"), selection.part("holdout"), contract)
        assert not verdict.blocks, (moment, verdict.reasons)


@by_name(A_NUMBER)
@pytest.mark.parametrize("factor", [1000.0, 0.01])
def test_another_unit_in_the_newest_rows_blocks(config: ModelConfig, factor: float) -> None:
    selection, contract = rows_of(config)
    column = A_NUMBER[config.name]
    holdout = selection.part("holdout")
    holdout = holdout.assign(**{column: holdout[column] * factor})
    verdict = checked(config, selection.part("training"), holdout, contract)
    blocking = {(f.check, f.column) for f in verdict.findings if f.level is Level.BLOCK}
    assert blocking & {(DataCheck.UNIT, column), (DataCheck.RANGE, column)}, verdict.reasons


@by_name(MOMENTS)
def test_a_planted_leak_blocks_and_a_lag_does_not(config: ModelConfig) -> None:
    selection, contract = rows_of(config)
    rows, target = selection.rows, config.data.target
    rng = np.random.default_rng(0)
    codes = pd.factorize(rows[target])[0] if contract.classes else rows[target].to_numpy(float)
    rows = rows.assign(
        settled=codes * 3.0 + rng.normal(0, 0.01, len(rows)),
        before=np.concatenate([codes[:1], codes[:-1]]).astype(float),
    )
    columns = tuple(
        contract.columns[0].model_copy(update={"name": name, "kind": ColumnKind.NUMERIC})
        for name in ("settled", "before")
    )
    wider = contract.model_copy(update={"columns": (*contract.columns, *columns)})
    training, holdout = rows[selection.training], rows[selection.holdout]
    verdict = checked(config, training, holdout, wider)
    leaks = {(f.column, f.level) for f in verdict.findings if f.check is DataCheck.LEAK}
    assert leaks == {("settled", Level.BLOCK)}


@by_name(CLASSIFICATIONS)
def test_a_class_that_vanished_from_the_newest_rows_blocks(config: ModelConfig) -> None:
    selection, contract = rows_of(config)
    holdout = selection.part("holdout").assign(**{config.data.target: contract.classes[0]})
    verdict = checked(config, selection.part("training"), holdout, contract)
    assert any(f.check is DataCheck.CLASSES and f.level is Level.BLOCK for f in verdict.findings), (
        verdict.reasons
    )


@pytest.mark.parametrize(
    ("config", "column"), [("hotel_resort", "reservation_status")], indirect=["config"]
)
def test_the_outcome_in_other_words_blocks_where_a_config_declares_it(
    config: ModelConfig, column: str
) -> None:
    selection, contract = rows_of(config)
    leak = contract.columns[0].model_copy(update={"name": column, "kind": ColumnKind.CATEGORICAL})
    wider = contract.model_copy(update={"columns": (*contract.columns, leak)})
    verdict = checked(config, selection.part("training"), selection.part("holdout"), wider)
    assert any(f.column == column and f.level is Level.BLOCK for f in verdict.findings)
