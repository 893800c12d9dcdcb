"""What may a user write into configs/?

One description for the loader, the command, the docs and the editor: `modelyard validate --schema`
prints it as JSON schema.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from modelyard.config.file import ContradictionError, closest, load_file, shown
from modelyard.config.rules import contradictions
from modelyard.config.scheduling import Schedule
from modelyard.config.section import Section
from modelyard.config.service import ServiceConfig
from modelyard.config.values import (
    AlertPlaces,
    Budget,
    Duration,
    EnvStr,
    FalseAlarms,
    Holdout,
    KOfN,
    PositiveDuration,
    Share,
    Size,
    WindowExtent,
    WindowOrAll,
)
from modelyard.domain.data_checks import DataCheck, Level
from modelyard.domain.gate import Proof, WhenInconclusive
from modelyard.domain.values import MLTask
from modelyard.errors import ConfigError

_DEFAULTS = {
    MLTask.REGRESSION: ("sklearn.ensemble.HistGradientBoostingRegressor", "mae"),
    MLTask.BINARY: ("sklearn.ensemble.HistGradientBoostingClassifier", "roc_auc"),
    MLTask.MULTICLASS: ("sklearn.ensemble.HistGradientBoostingClassifier", "accuracy"),
}


def _dotted_path(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text) is None:
        raise ValueError(
            "is no import path; write package.module.Class, like sklearn.linear_model.Ridge"
        )
    return text


def _function_path(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text) is None:
        raise ValueError("names no function; write module:function, like my_project.models:build")
    return text


def _text(value: Any) -> Any:
    # A class or a missing value is often a number, which nobody thinks of putting in quotes.
    return str(value) if isinstance(value, int | float) else value


def _texts(value: Any) -> Any:
    return [_text(item) for item in value] if isinstance(value, list | tuple) else value


ColumnName = Annotated[str, Field(min_length=1)]
Slug = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$")]


def _relax_evaluation(schema: dict[str, Any]) -> None:
    # Every config has a primary metric in the end, but the file may leave it to the task's default.
    schema.pop("required", None)


def _relax_model(schema: dict[str, Any]) -> None:
    schema["required"].remove("evaluation")


class Features(Section):
    """Which columns the model sees. A list that is left out is inferred; `[]` means none."""

    numeric: tuple[ColumnName, ...] | None = None
    """Columns read as numbers; true and false count as 1 and 0."""
    categorical: tuple[ColumnName, ...] | None = None
    """Columns read as categories, whatever their values look like."""
    drop: tuple[ColumnName, ...] = ()
    """Columns that are never features."""


class Limits(Section):
    """The smallest and the largest value that is accepted."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("limits nothing; give it a min or a max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class DataChecks(Section):
    """What rows must be like before anything is trained on them."""

    max_missing: Share = 0.5
    """Share of a column's cells without a value, above which it is warned of."""
    min_rows: Annotated[int, Field(ge=1)] = 100
    """Fewer training rows block."""
    min_class_rows: Annotated[int, Field(ge=1)] = 10
    """A class with fewer training rows is warned of."""
    max_duplicates: Share = 0.3
    """Share of rows that repeat another one in all columns but the id; more block."""
    ranges: dict[ColumnName, Limits] = {}
    """Values that a numeric feature, or a numeric target, may have. Rows beyond warn; more than
    1% of the rows block."""
    levels: Annotated[
        dict[str, Level],
        Field(json_schema_extra={"propertyNames": {"enum": [check.value for check in DataCheck]}}),
    ] = {}
    """What all findings of a check lead to (ok, warn, block), instead of what it says itself."""
    allow: tuple[ColumnName, ...] = ()
    """Findings that are known and meant: a check, a column, or check:column."""


class Data(Section):
    """Where the rows are and what their columns mean."""

    source: EnvStr
    """A path, glob or URL (csv, csv.gz, parquet), a SQLAlchemy URL, module:function, or sim://NAME.

    Paths are relative to the project. `${VARIABLE}` and `${VARIABLE:-default}` are replaced.
    """
    query: EnvStr | None = None
    """SQL whose rows are read; with a SQLAlchemy URL only."""
    target: ColumnName
    """Column that the model predicts."""
    positive: Annotated[str | None, BeforeValidator(_text)] = None
    """Class that a binary score is about; by default the last one in text order (yes, UP, 1)."""
    id: ColumnName | None = None
    """Column with a unique key of each row: it joins late labels to predictions."""
    time: ColumnName | None = None
    """Column with the event time; it orders everything. Times without a UTC offset are UTC."""
    time_format: str | None = None
    """strptime format of the time columns where they are not ISO 8601, like %d/%m/%Y %H:%M."""
    label_time: ColumnName | None = None
    """Column with the time at which the true outcome became known."""
    label_delay: Duration = timedelta(0)
    """How long after the event time the true outcome is known."""
    early_labels: Literal["leave out", "learn"] = "leave out"
    """With label_time: what becomes of rows that are younger than 90 % of the labels took. The
    labels that these have are those that are known sooner, which are seldom like the rest."""
    missing_values: Annotated[tuple[str, ...], BeforeValidator(_texts)] = (
        "",
        "NA",
        "N/A",
        "NaN",
        "nan",
        "null",
        "NULL",
    )
    """Cell texts, and numbers like -999, that mean: no value."""
    features: Features = Features()
    checks: DataChecks = DataChecks()


class Training(Section):
    """How a candidate is trained."""

    estimator: Annotated[str, AfterValidator(_dotted_path)] | None = None
    """Import path of a scikit-learn estimator; by default the task's gradient boosting."""
    pipeline: Annotated[str, AfterValidator(_function_path)] | None = None
    """Instead of an estimator: module:function that returns an unfitted scikit-learn pipeline."""
    params: dict[str, Any] = {}
    """Keyword arguments of the estimator, or of the pipeline function."""
    window: WindowOrAll = "all"
    """Train on the newest rows of this span of event time, or on all of them."""
    half_life: PositiveDuration | None = None
    """A row that is older by this span than the newest counts half as much; null: all count alike.
    The estimator must take sample weights."""
    include_holdout: bool = True
    """Once the gate has said promote, fit once more with the holdout's rows, and release that fit.

    false releases the very fit that the gate judged: as old as the holdout is long, and measured.
    """
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random state of everything that draws."""


class Threshold(Limits):
    """Limits of one metric on the holdout."""


class Evaluation(Section):
    """What a challenger must show before it is promoted."""

    model_config = ConfigDict(json_schema_extra=_relax_evaluation)

    primary_metric: str
    """Metric that decides: by default mae, roc_auc or accuracy, by task.

    One of ModelYard's, the name of a scikit-learn scorer, or module:scorer.
    """
    holdout: Holdout = Holdout(percent=20)
    """Newest rows, kept to judge with: `newest 20%` of the rows or `newest 14d`.

    Rows without a time are held out by a hash of their group, their id or their content.
    """
    group: ColumnName | None = None
    """Without data.time: rows that share a value of this column are held out together."""
    min_rows: Annotated[int, Field(ge=10)] = 30
    """Holdout rows that neither model was trained on, below which nothing is promoted."""
    thresholds: dict[str, Threshold] = {}
    """Limits by metric that a challenger must keep."""
    new_recipe: Proof = Proof.BETTER
    """What a challenger with another recipe than the champion's must be shown to be."""
    refit: Proof = Proof.NOT_SHOWN_WORSE
    """What the champion's recipe on newer rows must be shown to be."""
    min_gain: Share = 0.0
    """Gain that is more than nothing, for `better`: a share of the champion's metric."""
    margin: Share = 0.01
    """Loss that may be, for `no worse` and `not shown worse`: a share of the champion's metric."""
    inconclusive: WhenInconclusive = "keep"
    """What follows where the rows do not tell."""
    slices: tuple[ColumnName, ...] = ()
    """Columns on whose values the challenger must not be surely worse."""
    slice_margin: Share = 0.05
    """Loss that may be on a slice: a share of the champion's metric there."""
    calibration_margin: Annotated[float, Field(ge=0, le=1)] | None = 0.05
    """How much a classifier's expected calibration error may surely rise; null: not judged."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Budget of the time that predicting one row takes, without a server around it."""
    max_model_size: Size | None = None
    """Budget of the model's file."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of the intervals: 0.95 promotes an equal recipe in 2.5 % of the deliveries."""


class PerformanceAlerts(Section):
    """What is told of performance, besides a metric that is worse than promised on labels."""

    tolerance: Share = 0.1
    """How much worse than promised is not told: a share of the promised value, or of what the
    model gains over the naive one where that is less."""
    alert_on_slices: bool = True
    """Tell of a slice (evaluation.slices) that is worse than promised where the whole is not."""
    alert_on_estimate: bool = False
    """Tell of an estimate that is worse than promised before labels have told. Retrains nothing."""


class Monitoring(Section):
    """What is measured of live traffic, and when it alarms."""

    schedule: Schedule | None = Schedule(cron="0 * * * *")
    """When windows that are due are measured: cron in UTC, or cron, every or rrule with a timezone;
    null: only by hand."""
    window: WindowExtent = timedelta(days=1)
    """One window: a span of event time like `1d`, or so many rows in the order of event time, like
    `500 rows`. Rows of the same time are in the same window."""
    lateness: Duration = timedelta(0)
    """How long after its event time a row may come and still be waited for, before its window is
    measured; what comes later is measured again."""
    min_rows: Annotated[int, Field(ge=1)] = 200
    """A window with fewer rows is not judged."""
    false_alarms: FalseAlarms = FalseAlarms()
    """Accepted over all columns together while nothing changes."""
    performance: PerformanceAlerts = PerformanceAlerts()


class Retraining(Section):
    """When a model is trained again."""

    on: tuple[Literal["performance", "drift"], ...] = ("performance", "drift")
    """Which alarms may lead to retraining. Drift does where labels do not tell, or not yet, whether
    it matters."""
    harmless_drift: Literal["alert", "retrain"] = "alert"
    """What drift leads to where labels of drifted rows show the performance that was promised."""
    windows: KOfN = KOfN(k=1, n=1)
    """At least k of the last n windows alarmed, the newest among them."""
    cooldown: Duration = timedelta(days=1)
    """Shortest time between two retrainings."""
    budget: Budget = Budget(count=3, period=timedelta(days=7))
    """At most so many retrainings within the period."""
    min_new_labels: Annotated[int, Field(ge=0)] = 500
    """Matured labels since the last training, below which retraining waits; on drift, labels since
    it began as well."""
    max_kept: Annotated[int, Field(ge=1)] = 3
    """After so many retrainings in a row that kept the champion, a person must look."""
    rows: Literal["training window", "since change"] = "training window"
    """Which rows a retraining learns: those of training.window, or of them those since the change
    that monitoring located, where these are enough."""
    schedule: Schedule | None = None
    """When to retrain whatever the windows say: cron in UTC, or cron, every or rrule with a
    timezone."""

    def is_scheduled(self, start: datetime, end: datetime) -> bool:
        """Return whether the schedule asks for a retraining after `start` and not after `end`."""
        return self.schedule is not None and self.schedule.falls_within(start, end)


class ModelConfig(Section):
    """One model: its data, training, evaluation, service, monitoring and retraining."""

    name: Slug
    """Same as the file's name: small letters, digits, - and _."""
    task: MLTask
    data: Data
    training: Training = Training()
    evaluation: Evaluation
    service: ServiceConfig = ServiceConfig()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    alerts: AlertPlaces = ()
    """Who hears of this model's incidents: Apprise URLs, or notification blocks of Prefect's as
    type/name."""

    model_config = ConfigDict(json_schema_extra=_relax_model)

    @model_validator(mode="before")
    @classmethod
    def _default_by_task(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        # An unknown task is reported as such; it must not be followed by what it would have set.
        task = raw.get("task")
        known = isinstance(task, str) and task in _DEFAULTS
        estimator, metric = _DEFAULTS[MLTask(task) if known else MLTask.REGRESSION]
        filled = {**raw}
        training = filled.setdefault("training", {})
        if isinstance(training, dict) and not training.keys() & {"estimator", "pipeline"}:
            filled["training"] = {"estimator": estimator, **training}
        evaluation = filled.setdefault("evaluation", {})
        if isinstance(evaluation, dict):
            filled["evaluation"] = {"primary_metric": metric, **evaluation}
        return filled

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if problems := tuple(contradictions(self)):
            raise ContradictionError(problems)
        return self


def load_model_file(path: Path) -> ModelConfig:
    """Read one model's config. Raises ConfigError naming every problem with its line."""
    config = load_file(path, ModelConfig)
    if config.name != path.stem:
        raise ConfigError(
            f"{shown(path)}: name = {config.name!r}: is not the file's name; rename the file to "
            f"{config.name}.yaml, or write name: {path.stem}."
        )
    return config


def load_model_config(folder: Path, name: str) -> ModelConfig:
    """Read the config of the model `name` from `folder`, or from its `examples/`.

    Raises ConfigError for an unknown name, with the known one that is most like it.
    """
    stem = name.removeprefix("examples/")
    for path in (folder / f"{name}.yaml", folder / "examples" / f"{stem}.yaml"):
        # A name with a path in it must not reach files outside of the folder.
        if re.fullmatch(r"[\w-]+", stem) and path.is_file():
            return load_model_file(path)
    known = {p.stem for p in (*folder.glob("*.yaml"), *folder.glob("examples/*.yaml"))}
    raise ConfigError(
        f"No model {name!r} in {shown(folder)}.{closest(stem, known)} "
        "`modelyard init FILE --target COLUMN` writes a new one."
    )
