"""What does a first config for a data file look like?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.data.sources import find_odd_cells, read_rows
from modelyard.adapters.data.times import check_time_format, guess_time_formats
from modelyard.config import Data, ModelConfig
from modelyard.config.file import ContradictionError, Problem, closest
from modelyard.config.values import format_duration
from modelyard.domain.values import ColumnKind, Contract, MLTask
from modelyard.errors import DataError, InvalidInputError

Schema = TypeVar("Schema", bound=BaseModel)

_WINDOWS = tuple(timedelta(hours=h) for h in (1, 6, 24)) + tuple(
    timedelta(days=d) for d in (7, 14, 28, 91, 182, 364)
)
_MIN_ROWS = 200
_FEWEST_WINDOWS = 6
_ID_NAME = re.compile(r"(.*_)?(id|uuid|guid|key|no|nr|index|instant|row)", re.IGNORECASE)


class Draft(NamedTuple):
    """A config that was not written yet, and what it was inferred from."""

    config: ModelConfig
    contract: Contract
    left_out: dict[str, str]
    rows: int
    text: str
    """The YAML file, with comments."""
    hints: tuple[str, ...]
    """What only a person can decide."""


def draft_config(
    file: str,
    *,
    root: Path,
    name: str,
    target: str,
    task: MLTask | None = None,
    time: str | None = None,
    id_column: str | None = None,
    time_format: str | None = None,
    label_time: str | None = None,
) -> Draft:
    """Read a data file and infer a config from its rows. Raises DataError or InvalidInputError.

    `file` is a data source; a relative path starts at `root`. What is given is kept; what is left
    out is inferred: the task from the target's values, the event time and the id where exactly one
    column can be meant, features as `infer_contract` does, window sizes from the rows per day.
    """
    given = {"target": target, "id": id_column, "time": time, "label_time": label_time}
    _check_roles(given)
    if time_format is not None:
        check_time_format(time_format)
    data = _validated(Data, {"source": file, "target": target})
    raw = read_rows(data, root=root)
    sentinel = _sentinel(raw)
    if sentinel is not None:
        data = data.model_copy(update={"missing_values": (*data.missing_values, sentinel)})
        raw = read_rows(data, root=root)
    odd = find_odd_cells(data, root=root)
    if task is None and target in odd:
        raise DataError(
            f"{file}: target {target!r} holds numbers, but not in {odd[target]}. Mend these cells, "
            "or say with --task that the numbers are the names of classes."
        )
    task = task or _task(raw[target])
    times = _time_formats(raw, {target, id_column, label_time})
    time = time or (next(iter(times)) if len(times) == 1 else None)
    if time is not None and time not in raw.columns:
        raise DataError(
            f"{file}: there is no column {time!r} (--time).{closest(time, raw.columns)}"
        )
    settings = {
        "source": file,
        "target": target,
        "id": id_column or _id(raw, {target, time, label_time}),
        "time": time,
        "time_format": time_format or (_time_format(time, times.get(time, ())) if time else None),
        "label_time": label_time,
        "missing_values": data.missing_values if sentinel is not None else None,
    }
    data = _validated(Data, {k: v for k, v in settings.items() if v is not None})
    config = _validated(ModelConfig, {"name": name, "task": task, "data": data})
    rows = read_rows(data, root=root, task=task)
    inferred = infer_contract(config, rows)
    window, min_rows = _window(rows[time] if time else None, len(rows))
    text = _write(data, config, inferred.contract, inferred.left_out, window, min_rows)
    return Draft(
        config,
        inferred.contract,
        inferred.left_out,
        len(rows),
        text,
        (
            *_odd_hints(odd, inferred.left_out, {data.target, data.id, data.time, data.label_time}),
            *_hints(time, times),
        ),
    )


def _check_roles(given: dict[str, str | None]) -> None:
    """Refuse a column that two options name, before its values are asked what they are."""
    taken: dict[str, str] = {}
    for role, column in given.items():
        if column in taken:
            raise InvalidInputError(
                f"{_option(role)} {column!r}: is {taken[column]} already; name another column."
            )
        if column is not None:
            taken[column] = _option(role)


def _validated(schema: type[Schema], raw: dict[str, Any]) -> Schema:
    """Return `raw` as `schema`. Raises InvalidInputError that speaks of the command's options."""
    try:
        return schema.model_validate(raw)
    except ValidationError as err:
        lines = []
        for error in err.errors(include_url=False):
            cause = error.get("ctx", {}).get("error")
            is_contradiction = isinstance(cause, ContradictionError)
            problems = (
                cause.problems
                if is_contradiction
                else (Problem(tuple(error["loc"]), f"{cause or error['msg']}."),)
            )
            lines += [f"{_option(str(p.key[-1]))}: {_in_options(p.message)}" for p in problems]
        # From None: the vendor's own message would repeat all of it in other words.
        raise InvalidInputError("\n".join(lines)) from None


def _option(role: str) -> str:
    return "FILE" if role == "source" else f"--{role.replace('_', '-')}"


def _in_options(message: str) -> str:
    return re.sub(r"\bdata\.(\w+)", lambda found: _option(found[1]), message)


def _task(target: pd.Series) -> MLTask:
    values = target.dropna()
    distinct = values.nunique()
    if distinct < 2:
        raise InvalidInputError(
            f"target {target.name!r} has one value only, {values.head(1).tolist()}: there is "
            "nothing to predict."
        )
    if distinct == 2:
        return MLTask.BINARY
    if not pd.api.types.is_numeric_dtype(values):
        if distinct > 100:
            raise InvalidInputError(
                f"target {target.name!r} holds {distinct} different texts, like "
                f"{values.iloc[0]!r}: neither numbers nor a hundred classes. Name another column, "
                "or add what means `no value` to data.missing_values."
            )
        return MLTask.MULTICLASS
    whole = bool((values == np.floor(values)).all())
    return MLTask.MULTICLASS if whole and distinct <= 10 else MLTask.REGRESSION


def _time_formats(rows: pd.DataFrame, taken: set[str | None]) -> dict[str, tuple[str, ...]]:
    """Return the columns that hold times, and the formats that read them."""
    formats = {}
    for name in map(str, rows.columns):
        if name not in taken and not pd.api.types.is_numeric_dtype(rows[name]):
            formats[name] = guess_time_formats(rows[name].dropna())
    return {name: found for name, found in formats.items() if found}


def _time_format(column: str, formats: tuple[str, ...]) -> str | None:
    if len(formats) > 1:
        raise DataError(
            f"time column {column!r} can be read as {' and as '.join(formats)}. Say which with "
            "--time-format, like --time-format '%d/%m/%Y'."
        )
    return (formats[0] or None) if formats else None


def _id(rows: pd.DataFrame, taken: set[str | None]) -> str | None:
    """Return the column that is a unique key by its values and its name."""
    for name in map(str, rows.columns):
        if name not in taken and _ID_NAME.fullmatch(name):
            values = rows[name]
            whole = not pd.api.types.is_float_dtype(values)
            if whole and values.notna().all() and values.is_unique:
                return name
    return None


def _sentinel(rows: pd.DataFrame) -> str | None:
    """Return a number that stands for `no value`, like -200 or -9999; None where none does.

    It is negative and whole, the smallest value of three columns at least, often there, and far
    below all others.
    """
    found: dict[float, int] = {}
    for name in rows.columns:
        values = rows[name]
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            continue
        low = float(values.min())
        others = values[values > low]
        is_whole = low < -1 and low == np.floor(low)
        if is_whole and len(others) and (values == low).mean() > 0.005:
            spread = float(others.quantile(0.9) - others.min())
            if float(others.min()) - low > 0.1 * spread and float(others.min()) > low / 2:
                found[low] = found.get(low, 0) + 1
    common = [low for low, columns in found.items() if columns >= 3]
    return f"{common[0]:g}" if common else None


def _window(times: pd.Series | None, rows: int) -> tuple[timedelta, int]:
    """Return the shortest window that holds enough rows as a rule, and how many are enough."""
    if times is None:
        return timedelta(days=1), _MIN_ROWS
    newest = times.iloc[len(times) // 2 :]
    span = times.iloc[-1] - times.iloc[0]
    fitting = [w for w in _WINDOWS if span / w >= _FEWEST_WINDOWS] or list(_WINDOWS[:1])
    usual = 0
    for window in fitting:
        counts = newest.dt.floor(window).value_counts()
        usual = int(counts.quantile(0.25))
        if usual >= _MIN_ROWS:
            return window, _MIN_ROWS
    # Few rows: the longest window that still gives a course over time, judged with what it has.
    return fitting[-1], max(30, min(_MIN_ROWS, usual // 2))


def _hints(time: str | None, times: Iterable[str]) -> tuple[str, ...]:
    hints = ["Check that every feature is known at the moment of prediction, not only afterwards."]
    if time is None and times:
        hints.append(
            f"Several columns hold times ({', '.join(times)}): name the event's with --time."
        )
    elif time is None:
        hints.append(
            "No event time: the holdout is drawn by a hash; evaluation.group keeps rows together."
        )
    else:
        hints.append(
            f"{time} orders the rows and is no feature: add columns like hour or weekday to the "
            "data where the season matters."
        )
    return tuple(hints)


def _odd_hints(
    odd: dict[str, str], left_out: dict[str, str], roles: set[str | None]
) -> Iterator[str]:
    for name, cells in odd.items():
        if name not in roles:
            outcome = "was left out" if name in left_out else "is categorical"
            yield (
                f"Column {name!r} {outcome}, since its cells are numbers, but not in "
                f"{cells}. If that is a mistake, mend the cells and run init again with --force; "
                "if it means `no value`, add the text to data.missing_values and the column to "
                "data.features.numeric."
            )


def _write(
    data: Data,
    config: ModelConfig,
    contract: Contract,
    left_out: dict[str, str],
    window: timedelta,
    min_rows: int,
) -> str:
    roles = {data.id, data.time, data.label_time}
    reasons = [
        f"    # left out: {_scalar(n)}: {why}" for n, why in left_out.items() if n not in roles
    ]
    joins = "joins late labels to predictions"
    zone = "event time; without a UTC offset it is UTC"
    known = "when the true outcome became known"
    delay = "how long after the event the outcome is known"
    newest = "or the newest rows only, like 180d" if data.time else "all rows"
    lines = [
        "# yaml-language-server: $schema=../../docs/schema/model.json",
        f"name: {config.name}",
        f"task: {config.task}",
        "",
        "data:",
        f"  source: {_scalar(data.source)}",
        f"  target: {_scalar(data.target)}",
        *_role("id", data.id, joins),
        *_role("time", data.time, zone),
        *_role("time_format", data.time_format, "strptime format"),
        *_role("label_time", data.label_time, known),
        *([_said("  label_delay: 0s", delay)] if data.time and not data.label_time else []),
        *([_missing_line(data)] if "missing_values" in data.model_fields_set else []),
        "  features:",
        f"    numeric: {_names(contract.names(ColumnKind.NUMERIC))}",
        f"    categorical: {_names(contract.names(ColumnKind.CATEGORICAL))}",
        *reasons,
        "",
        "training:",
        f"  estimator: {config.training.estimator}",
        _said("  params: {}", "keyword arguments of the estimator"),
        _said("  window: all", newest),
        "  seed: 0",
        "",
        "evaluation:",
        f"  primary_metric: {config.evaluation.primary_metric}",
        _said("  holdout: newest 20%", "a challenger must win on it, and learns it then"),
        _said("  margin: 0%", "how much worse than the champion it may be"),
        _said("  slices: []", "columns whose values are judged one by one as well"),
        "",
        "service:",
        _said("  target: local", "or docker"),
        "  replicas: 2",
        "",
        "monitoring:",
        _said("  schedule: 0 * * * *", "cron, UTC"),
        f"  window: {format_duration(window)}",
        _said(f"  min_rows: {min_rows}", "a window with fewer rows is not judged"),
        "  false_alarms: 1 per 1000 windows",
        "",
        "retraining:",
        "  on: [performance]",
        _said("  windows: 1 of 1", "so many of the last windows alarmed"),
        _said(f"  cooldown: {format_duration(window)}", "shortest time between two"),
        f"  budget: 3 per {format_duration(7 * window)}",
        _said(f"  min_new_labels: {min_rows}", "since the last training"),
        "",
        _said("alerts: []", "Apprise URLs, like mailto://... or ${SLACK_URL}"),
        "",
    ]
    return "\n".join(lines)


def _said(line: str, comment: str) -> str:
    return f"{line:<30} # {comment}"


def _role(role: str, column: str | None, comment: str) -> list[str]:
    return [] if column is None else [_said(f"  {role}: {_scalar(column)}", comment)]


def _missing_line(data: Data) -> str:
    values = ", ".join(json.dumps(value) for value in data.missing_values)
    return f"  missing_values: [{values}]"


def _names(names: tuple[str, ...]) -> str:
    """Write a list in lines of a hundred columns."""
    lines, line = [], ""
    for place, name in enumerate(names):
        item = _scalar(name) + (", " if place < len(names) - 1 else "")
        if len(line) + len(item) > 90:
            lines.append(line.rstrip())
            line = ""
        line += item
    return "[" + "\n      ".join([*lines, line]) + "]"


def _scalar(text: str) -> str:
    """Write a text so that YAML reads it as that text; JSON's quotes are YAML's."""
    words = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*", text) and text.lower() not in words
    return text if plain else json.dumps(text, ensure_ascii=False)
