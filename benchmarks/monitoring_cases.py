"""Which real streams are monitored, and how?

Windows are counted in rows: whole weeks where rows come by the hour, and otherwise as many as make
twenty windows of the first third, on which a model is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.claims import data_folder
from benchmarks.gate_streams import ROOT, Stream
from modelyard.config import ModelConfig, load_model_config


@dataclass(frozen=True)
class Case:
    """A stream as it is monitored, by the config that ships as an example where there is one."""

    name: str
    metric: str
    window: int
    """Rows."""
    is_control: bool = False
    """Whether nothing lasting happens to it."""
    data: Mapping[str, object] = field(default_factory=dict)
    """What differs from the example's `data`, or all of it besides the source."""
    task: str | None = None
    """None where there is an example."""

    @property
    def stream(self) -> Stream:
        source = data_folder(self.name) / "data.csv.gz"
        if self.task is None:
            config = load_model_config(ROOT / "configs" / "models", self.name)
            changed = config.data.model_copy(update=dict(self.data))
            return Stream(config.model_copy(update={"data": changed}))
        kind = "Regressor" if self.task == "regression" else "Classifier"
        return Stream(
            ModelConfig.model_validate(
                {
                    "name": self.name,
                    "task": self.task,
                    "data": {"source": str(source), **self.data},
                    "training": {
                        "estimator": f"sklearn.ensemble.HistGradientBoosting{kind}",
                        "seed": 7,
                    },
                    "evaluation": {"primary_metric": self.metric},
                }
            )
        )


_WEATHER = (
    *("temperature_F", "dew_point_F", "sea_level_pressure_mb", "visibility_mi"),
    *("wind_speed_kn", "max_sustained_wind_kn", "max_temperature_F", "min_temperature_F"),
)
_SENSORS = tuple(f"PT08.S{n}" for n in ("1(CO)", "2(NMHC)", "3(NOx)", "4(NO2)", "5(O3)"))
_BEIJING = ("month", "hour", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir")
CASES = (
    Case("elec2", "log_loss", 7 * 48),
    Case("bike_sharing", "mae", 7 * 24),
    Case(
        "hotel_resort",
        "roc_auc",
        500,
        # In order of booking, early rows are all of long notice and late ones of short.
        data={"time": "arrival_date", "label_time": None},
    ),
    Case("bank_marketing", "log_loss", 500),
    Case(
        "air_quality",
        "mae",
        7 * 24,
        data={
            "target": "NOx(GT)",
            "time": "timestamp",
            "missing_values": ["", "-200"],
            "features": {"numeric": [*_SENSORS, "T", "RH", "AH"], "categorical": []},
        },
        task="regression",
    ),
    Case(
        "noaa_weather",
        "roc_auc",
        182,
        is_control=True,
        data={"target": "rain", "features": {"numeric": [*_WEATHER], "categorical": []}},
        task="binary_classification",
    ),
    Case(
        "beijing_pm25",
        "wape",  # its error goes with the season's level
        28 * 24,
        is_control=True,
        data={
            "target": "pm2.5",
            "time": "timestamp",
            "features": {"numeric": [*_BEIJING], "categorical": ["cbwd"]},
        },
        task="regression",
    ),
)
