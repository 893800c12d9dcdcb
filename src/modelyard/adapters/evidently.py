"""What should a person look at when a window drifted, or rows were found wanting?

Evidently draws; it does not decide. Its own verdicts depend on the number of rows and not on a
stated rate of false alarms, so the report shows the scores of `modelyard.domain.drift` through a
registered test, on a bounded sample of rows: the two can never disagree. The summary of rows that
data checks complained of shows their reasons, and none of Evidently's own tests.
"""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelyard.domain.drift import DriftVerdict
from modelyard.domain.profiles import PREDICTION
from modelyard.domain.values import ColumnKind, MLTask, Value
from modelyard.errors import InvalidInputError

_STAT_TEST = "modelyard"
_MOST_COLUMNS = 100
"""Of a data summary: each takes about 70 kB and a tenth of a second."""
_shown: ContextVar[DriftVerdict] = ContextVar("_shown")


class DriftReport(Value):
    """A rendered report."""

    path: str
    reference_rows: int
    """Rows of the sample that was drawn from the reference."""
    current_rows: int
    left_out: dict[str, str]
    """Columns that Evidently cannot draw, with the reason."""


def render_drift_report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    kinds: Mapping[str, ColumnKind],
    verdict: DriftVerdict,
    path: Path,
    *,
    task: MLTask | None = None,
    target: str | None = None,
    predicted: str = PREDICTION,
    positive: str | None = None,
    title: str = "Drift report",
    max_rows: int = 20_000,
    seed: int = 0,
) -> DriftReport:
    """Write a self-contained HTML page: verdict, drift by column, data summary, model quality.

    The page needs no network. The model's quality is shown where `task` and `target` are given and
    both frames have the target and the column `predicted`; rows without a label are left out of
    the whole page then.

    Args:
        reference: rows that the release was evaluated on, with the columns of `kinds`.
        current: rows of the window, likewise; columns may be missing or all null.
        kinds: columns to draw; `prediction` is one of them where drift judged it.
        predicted: column of the predicted value or class.
        positive: the positive class of a binary target.
        max_rows: rows sampled from each frame; the scores are of all rows all the same.

    Raises InvalidInputError where there is no row or no column to draw.
    """
    quality = _has_labels(task, (target, predicted), reference, current)
    if quality:
        reference, current = (f[f[target].notna()] for f in (reference, current))
    left_out = _undrawable(reference, current, kinds)
    drawn = {name: kind for name, kind in kinds.items() if name not in left_out}
    if not drawn or reference.empty or current.empty:
        raise InvalidInputError(
            f"There is nothing to draw: {len(reference)} reference rows, {len(current)} rows in "
            f"the window, columns left out: {left_out or 'none'}."
        )
    extra = [c for c in (target, predicted) if quality and c is not None and c not in drawn]
    frames = [
        _prepared(_sample(frame, max_rows, seed), drawn, extra, task)
        for frame in (current, reference)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    token = _shown.set(verdict)
    try:
        definition = _definition(
            drawn, extra, task if quality else None, target, predicted, positive
        )
        _render(frames, list(drawn), definition, path, task if quality else None)
    finally:
        _shown.reset(token)
    _write_heading(path, title, verdict, left_out)
    return DriftReport(
        path=str(path),
        reference_rows=len(frames[1]),
        current_rows=len(frames[0]),
        left_out=left_out,
    )


def render_data_summary(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    kinds: Mapping[str, ColumnKind],
    path: Path,
    *,
    title: str,
    reasons: Sequence[str],
    max_rows: int = 20_000,
    seed: int = 0,
) -> None:
    """Write a self-contained HTML page: what was found, and each column of two sets of rows.

    Args as in `render_drift_report`; `reasons` go above the page. Raises InvalidInputError where
    there is no row or no column to draw.
    """
    left_out = _undrawable(reference, current, kinds)
    drawn = {name: kind for name, kind in kinds.items() if name not in left_out}
    drawn = dict(list(drawn.items())[:_MOST_COLUMNS])
    if not drawn:
        raise InvalidInputError(f"There is nothing to draw: columns left out: {left_out}.")
    frames = [
        _prepared(_sample(frame, max_rows, seed), drawn, (), None) for frame in (current, reference)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    definition = _definition(drawn, (), None, None, "", None)
    with _evidently():
        from evidently import Dataset, Report
        from evidently.presets import DataSummaryPreset

        rows, before = (Dataset.from_pandas(f, data_definition=definition) for f in frames)
        snapshot = Report([DataSummaryPreset(columns=list(drawn))]).run(rows, before)
        snapshot.save_html(str(path))  # a Path is accepted and nothing is written
    facts = [
        f"{len(current):,} rows against {len(reference):,}; the plots show a sample.",
        *_not_drawn(left_out),
    ]
    if len(kinds) - len(left_out) > len(drawn):
        facts.append(f"The first {len(drawn)} columns of {len(kinds)} are drawn.")
    _insert_heading(path, title, reasons, facts)


def _render(
    frames: Sequence[pd.DataFrame],
    columns: list[str],
    definition: Any,
    path: Path,
    task: MLTask | None,
) -> None:
    with _evidently():
        from evidently import Dataset, Report
        from evidently.presets import (
            ClassificationPreset,
            DataDriftPreset,
            DataSummaryPreset,
            RegressionPreset,
        )

        _register_stat_test()
        verdict = _shown.get()
        drifted = {suspect.column for suspect in verdict.suspects}
        # One drifted column is drift; the only one may be a column that cannot be drawn.
        share = 0.0 if drifted and drifted.isdisjoint(columns) else 1 / len(columns)
        presets: list[Any] = [
            DataDriftPreset(
                columns=columns,
                method=_STAT_TEST,
                threshold=verdict.policy.false_alarms,
                drift_share=share,
            ),
            DataSummaryPreset(columns=columns),
        ]
        if task is not None:
            presets.append(ClassificationPreset() if task.is_classification else RegressionPreset())
        current, reference = (Dataset.from_pandas(f, data_definition=definition) for f in frames)
        snapshot = Report(presets).run(current, reference)
        snapshot.save_html(str(path))  # a Path is accepted and nothing is written


@contextmanager
def _evidently() -> Iterator[None]:
    """Import and use Evidently inside: it costs seconds and 300 MB, and no call home is wanted.

    What it and its dependencies warn of is not for an operator to mend.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _register_stat_test() -> None:
    """Register the test that looks up a column's score in the verdict that is being shown."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def score(
        reference: pd.Series, current: pd.Series, kind: object, threshold: float
    ) -> tuple[float, bool]:
        finding = _shown.get().strongest(str(current.name))
        return (1.0, False) if finding is None else (finding.adjusted_p_value, finding.drifted)

    register_stattest(
        StatTest(
            name=_STAT_TEST,
            display_name="ModelYard p-value over all tests",
            allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
        ),
        score,
    )


def _definition(
    kinds: Mapping[str, ColumnKind],
    extra: Sequence[str],
    task: MLTask | None,
    target: str | None,
    predicted: str,
    positive: str | None,
) -> Any:
    """Say what each column is: Evidently would guess, by dtype and by how many values there are."""
    with _evidently():
        from evidently import (
            BinaryClassification,
            DataDefinition,
            MulticlassClassification,
            Regression,
        )

        numeric = [name for name, kind in kinds.items() if kind is ColumnKind.NUMERIC]
        categorical = [name for name, kind in kinds.items() if kind is ColumnKind.CATEGORICAL]
        (categorical if task and task.is_classification else numeric).extend(extra)
        models: dict[str, Any] = {}
        if task is MLTask.REGRESSION and target:
            models["regression"] = [Regression(target=target, prediction=predicted)]
        elif task is MLTask.BINARY and target and positive is not None:
            models["classification"] = [
                BinaryClassification(target=target, prediction_labels=predicted, pos_label=positive)
            ]
        elif task is not None and target:
            models["classification"] = [
                MulticlassClassification(target=target, prediction_labels=predicted)
            ]
        return DataDefinition(numerical_columns=numeric, categorical_columns=categorical, **models)


def _has_labels(
    task: MLTask | None, columns: tuple[str | None, str], *frames: pd.DataFrame
) -> bool:
    return task is not None and all(
        column in frame and frame[column].notna().any() for column in columns for frame in frames
    )


def _undrawable(
    reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, ColumnKind]
) -> dict[str, str]:
    """Return columns that would make Evidently give up the whole report, with the reason."""
    left_out = {}
    for name in kinds:
        for frame, where in ((reference, "reference"), (current, "window")):
            if name not in frame:
                left_out[name] = f"missing in the {where}"
            elif not frame[name].notna().any():
                left_out[name] = f"all null in the {where}"
    return left_out


def _sample(frame: pd.DataFrame, max_rows: int, seed: int) -> pd.DataFrame:
    if len(frame) <= max_rows:
        return frame
    kept = np.random.default_rng(seed).choice(len(frame), size=max_rows, replace=False)
    return frame.iloc[np.sort(kept)]


def _prepared(
    frame: pd.DataFrame,
    kinds: Mapping[str, ColumnKind],
    extra: Sequence[str],
    task: MLTask | None,
) -> pd.DataFrame:
    """Return plain float64 and str columns, whatever dtypes the rows came in."""
    columns = {}
    is_class = task is not None and task.is_classification
    for name in (*kinds, *extra):
        if kinds.get(name) is ColumnKind.NUMERIC or (name in extra and not is_class):
            values = pd.to_numeric(frame[name]).astype(np.float64)
            columns[name] = values.where(np.isfinite(values))
        else:
            columns[name] = frame[name].map(str, na_action="ignore").astype(object)
    return pd.DataFrame(columns).reset_index(drop=True)


def _write_heading(
    path: Path, title: str, verdict: DriftVerdict, left_out: Mapping[str, str]
) -> None:
    """Put the verdict in words above the report, in the same file."""
    policy = verdict.policy
    facts = [
        f"{verdict.rows:,} rows in the window against {verdict.reference_rows:,} in the reference.",
        f"A column is drifted when its p-value over all {verdict.tests} tests is at most "
        f"{policy.false_alarms:g} and at least {policy.min_effect:.1%} of the rows moved. "
        "Scores are of all rows; the plots show a sample.",
        *_not_drawn(left_out),
    ]
    _insert_heading(path, f"{title}: {verdict.outcome}", verdict.reasons, facts)


def _not_drawn(left_out: Mapping[str, str]) -> list[str]:
    return [f"Not drawn: {name}, {reason}." for name, reason in left_out.items()]


def _insert_heading(path: Path, title: str, reasons: Sequence[str], facts: Sequence[str]) -> None:
    listed = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons)
    heading = (
        '<header style="font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; '
        'margin: 24px auto; padding: 0 16px; color: #1f2933">'
        f"<h1>{html.escape(title)}</h1><ul>{listed}</ul>"
        f"<p>{html.escape(' '.join(facts))}</p></header>"
    )
    page = path.read_text(encoding="utf-8")
    head, body, rest = page.partition("<body>")
    if not body:
        raise InvalidInputError(f"Evidently wrote no page to {path}. Check its version and disk.")
    path.write_text(head + body + heading + rest, encoding="utf-8")
