"""Which parts of a model config cannot both be meant?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from modelyard.config.file import Problem, closest
from modelyard.config.values import RowCount
from modelyard.domain.data_checks import DataCheck
from modelyard.domain.metrics import METRICS, metrics_for
from modelyard.domain.rollout_plan import Strategy
from modelyard.domain.values import MLTask

if TYPE_CHECKING:
    from modelyard.config.schema import Data, Features, ModelConfig, Monitoring, Training
    from modelyard.config.service import ServiceConfig

_MOST_CONTAINERS = 32


def contradictions(config: ModelConfig) -> Iterator[Problem]:
    """Yield what is right by itself and wrong beside the rest of the config."""
    yield from _source(config.data)
    yield from _roles(config.data)
    yield from _features(config.data, config.data.features)
    yield from _checks(config.data, config.task)
    yield from _training(config.training)
    yield from _time(config)
    yield from _metrics(config)
    yield from _service(config.service)
    yield from _monitoring(config.monitoring)
    if config.data.positive is not None and config.task is not MLTask.BINARY:
        yield Problem(("data", "positive"), f"means nothing for a {config.task}; remove it.")


def _monitoring(monitoring: Monitoring) -> Iterator[Problem]:
    window, least = monitoring.window, monitoring.min_rows
    if isinstance(window, RowCount) and window.rows < least:
        yield Problem(
            ("monitoring", "window"),
            f"is never judged: windows with fewer than {least} rows are not. Take more rows, or "
            f"write monitoring.min_rows: {window.rows}.",
        )


def _service(service: ServiceConfig) -> Iterator[Problem]:
    if service.target == "docker" and service.replicas > _MOST_CONTAINERS:
        yield Problem(
            ("service", "replicas"),
            f"is more than the {_MOST_CONTAINERS} that a gateway has places for; ask for fewer.",
        )
    if service.target != "local":
        return
    needs = "needs a gateway, which target: docker has."
    if service.rollout.strategy is not Strategy.BLUE_GREEN:
        yield Problem(("service", "rollout", "strategy"), needs)
    if service.rollout.sticky is not None:
        yield Problem(("service", "rollout", "sticky"), needs)


def _source(data: Data) -> Iterator[Problem]:
    is_database = re.match(
        r"(sqlite|postgresql|mysql|mariadb|oracle|mssql)(\+\w+)?://", data.source
    )
    if is_database and data.query is None:
        yield Problem(("data", "source"), "is a database; write data.query, the SQL to read.")
    if data.query is not None and "://" not in data.source:
        yield Problem(("data", "query"), "needs a SQLAlchemy URL as data.source; remove one.")


def _roles(data: Data) -> Iterator[Problem]:
    """A column is the target, the id, the event time or the label time: one of them."""
    taken: dict[str, str] = {}
    for role in ("target", "id", "time", "label_time"):
        column = getattr(data, role)
        if column is None:
            continue
        if column in taken:
            yield Problem(("data", role), f"is data.{taken[column]} already; name another column.")
        taken.setdefault(column, role)


def _features(data: Data, features: Features) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    roles = {getattr(data, role): role for role in ("id", "time", "label_time")}
    for kind in ("numeric", "categorical", "drop"):
        for place, column in enumerate(getattr(features, kind) or ()):
            key = ("data", "features", kind, place)
            if column in seen:
                yield Problem(key, f"stands in features.{seen[column]} already; keep one of both.")
            seen.setdefault(column, kind)
            if kind == "drop":
                continue
            if column == data.target:
                yield Problem(key, "is the target: the model would see the answer; remove it.")
            elif column in roles:
                yield Problem(key, f"is data.{roles[column]}, no feature; remove it.")


def _checks(data: Data, task: MLTask) -> Iterator[Problem]:
    """Data checks name checks and columns that there are, and say one thing about each."""
    checks = [check.value for check in DataCheck]
    for name in data.checks.levels:
        if name not in checks:
            key = ("data", "checks", "levels", name)
            yield Problem(key, f"is no check.{closest(name, checks)}")
    listed = {data.target, *(data.features.numeric or ()), *(data.features.categorical or ())}
    inferred = data.features.numeric is None or data.features.categorical is None
    for place, name in enumerate(data.checks.allow):
        key = ("data", "checks", "allow", place)
        check, _, column = name.partition(":")
        word, known = (column, listed) if column and check in checks else (name, {*checks, *listed})
        if name in data.checks.levels:
            yield Problem(key, f"has a level in data.checks.levels.{name} too; keep one of both.")
        # a column that the release in traffic has, and that is dropped now, may be named as well
        elif not inferred and word not in known and word not in data.features.drop:
            yield Problem(key, f"is no check and no feature.{closest(word, known)}")
    for name in data.checks.ranges:
        yield from _range(data, task, name)


def _range(data: Data, task: MLTask, name: str) -> Iterator[Problem]:
    key, features = ("data", "checks", "ranges", name), data.features
    numbers = set(features.numeric or ())
    if name == data.target:
        if task.is_classification:
            yield Problem(key, "is the target and has classes, no range; remove it.")
    elif name in (features.categorical or ()):
        yield Problem(key, "has categories, and those have no range; remove it.")
    elif name in features.drop or name in (data.id, data.time, data.label_time):
        yield Problem(key, f"is no feature; name one, or remove it.{closest(name, numbers)}")
    elif features.numeric is not None and name not in numbers:
        yield Problem(key, f"is no numeric feature.{closest(name, numbers)}")


def _training(training: Training) -> Iterator[Problem]:
    if training.estimator is not None and training.pipeline is not None:
        yield Problem(
            ("training", "pipeline"), "and training.estimator exclude each other; keep one."
        )


def _time(config: ModelConfig) -> Iterator[Problem]:
    data = config.data
    if data.label_time is not None and data.label_delay > timedelta(0):
        yield Problem(
            ("data", "label_delay"), "and data.label_time say the same thing twice; keep one."
        )
    if data.early_labels == "learn" and data.label_time is None:
        yield Problem(
            ("data", "early_labels"),
            "needs data.label_time: with a delay no label comes early; or remove it.",
        )
    if data.time is not None:
        if config.evaluation.group is not None:
            yield Problem(
                ("evaluation", "group"),
                "means nothing beside data.time: the newest rows are held out.",
            )
        return
    needs = "needs data.time, the column with the event time"
    if data.label_time is not None:
        yield Problem(("data", "label_time"), f"{needs}.")
    if data.label_delay > timedelta(0):
        yield Problem(("data", "label_delay"), f"{needs}.")
    if config.training.window != "all":
        yield Problem(("training", "window"), f"{needs}; or write all.")
    if config.training.half_life is not None:
        yield Problem(("training", "half_life"), f"{needs}: the age of a row; or remove it.")
    if config.retraining.rows == "since change":
        yield Problem(("retraining", "rows"), f"{needs}; or write training window.")
    if config.evaluation.holdout.span is not None:
        yield Problem(("evaluation", "holdout"), f"{needs}; or write a share like `newest 20%`.")


def _metrics(config: ModelConfig) -> Iterator[Problem]:
    own = [metric.name for metric in metrics_for(config.task)]
    named: list[tuple[tuple[str, ...], str]] = [
        (("evaluation", "primary_metric"), config.evaluation.primary_metric),
        *((("evaluation", "thresholds", m), m) for m in config.evaluation.thresholds),
    ]
    for key, metric in named:
        if metric in own or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", metric):
            continue
        from sklearn.metrics import get_scorer_names  # half a second that few configs need

        if metric in METRICS or metric not in get_scorer_names():
            known = {*own, *get_scorer_names()} - METRICS.keys() | {*own}
            yield Problem(key, f"is no metric of {config.task}.{closest(metric, known)}")
