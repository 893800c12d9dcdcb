"""What do a release's own rows tell about outcomes: where it errs, and how late labels come?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

import numpy as np
import pandas as pd

from modelyard.adapters.baseline import (
    answer_scores,
    judged_predictions,
    stored_value,
    window_numbers,
)
from modelyard.adapters.data.snapshots import load_learnt, load_snapshot
from modelyard.adapters.data.times import as_datetime64
from modelyard.adapters.learning.outcomes import Outcomes, as_outcomes, as_truth, class_name
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.estimation import Expectation, expect
from modelyard.domain.metrics import Metric
from modelyard.domain.performance import due_after
from modelyard.domain.profiles import PREDICTION as PREDICTED
from modelyard.domain.profiles import SCORE, Columns, Levels
from modelyard.domain.releases import Release, rows_learnt
from modelyard.domain.slices import SliceFigure, measure_slices
from modelyard.domain.values import Contract, MLTask, Value
from modelyard.serving.predictor import Prediction

_OF_CLASSES = frozenset({"balanced_accuracy", "f1_macro"})
"""Metrics of several classes that the score of the predicted one says little about."""


class Output(StrEnum):
    """By what of the model's output windows are weighted."""

    NUMBER = "predicted number"
    SCORE = "score"
    CLASS = "predicted class"


class OutcomeReference(Value):
    """What windows of a release are held against, beside what the gate promised."""

    columns: tuple[str, ...]
    """Those whose levels are slices."""
    output: Output
    expectation: Expectation
    slices: tuple[SliceFigure, ...]
    """The metric on levels of the holdout."""
    label_delay: timedelta
    """Age from which on a row's label is due."""


def outcome_reference(
    workspace: Workspace, config: ModelConfig, release: Release, metric: Metric
) -> OutcomeReference:
    """Return what a release's own rows tell about outcomes, made on first use; kept.

    It is made again where the config asks for another metric, other slices or another delay.
    """
    asked = (
        metric.name,
        config.evaluation.slices,
        config.data.label_delay,
        config.data.label_time,
        config.monitoring.window,
    )
    digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:12]
    return stored_value(
        workspace.project.folder("profiles", release.model) / f"{release.id}-{digest}.json",
        OutcomeReference,
        lambda: _made(workspace, config, release, metric),
    )


def _made(
    workspace: Workspace, config: ModelConfig, release: Release, metric: Metric
) -> OutcomeReference:
    learnt = rows_learnt(release.delivery, with_holdout=True)
    contract, holdout = release.delivery.contract, release.delivery.holdout
    needed = (contract.target, *config.evaluation.slices)
    rows = load_snapshot(
        holdout, workspace.project, [n for n in dict.fromkeys(needed) if n in holdout.columns]
    )
    times = [name for name in (config.data.time, config.data.label_time) if name is not None]
    late = set(times) <= set(holdout.columns) and config.data.label_time is not None
    known = load_learnt(learnt, workspace.project, times) if late else None
    said = judged_predictions(workspace, release)
    return learn_outcomes(config, contract, metric, rows, said, known)


def learn_outcomes(
    config: ModelConfig,
    contract: Contract,
    metric: Metric,
    holdout: pd.DataFrame,
    said: Prediction,
    learnt: pd.DataFrame | None,
) -> OutcomeReference:
    """Return what is known of a release's outcomes by its rows.

    Args:
        holdout: rows that it was judged on, with target and slices, shape (rows, columns).
        said: what the judged fit said about them.
        learnt: event and label time of all its rows; None where the config names no label time.
    """
    columns = [name for name in config.evaluation.slices if name in holdout]
    outcomes, truth = as_outcomes(said, contract), as_truth(holdout[contract.target], contract)
    predicted = outcomes.for_metric(metric)
    output = _output(outcomes, metric, contract)
    return OutcomeReference(
        columns=tuple(columns),
        output=output,
        expectation=expect(metric, truth, predicted, _said_output(said, output, contract)),
        slices=measure_slices(
            metric,
            truth,
            predicted,
            slice_levels(holdout, columns),
            confidence=config.evaluation.confidence,
        ),
        label_delay=_label_delay(config, learnt),
    )


def logged_output(rows: Columns, output: Output, contract: Contract) -> np.ndarray:
    """Return what windows are weighted by, of logged rows: float64 of shape (rows,), or NaN."""
    said = rows[SCORE if output is Output.SCORE else PREDICTED]
    if isinstance(said, Levels):
        codes = [_code(name, contract) for name in said.names]
        return np.array([*codes, np.nan])[said.codes]  # the last one is of rows without an answer
    return said


def slice_levels(rows: pd.DataFrame, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the level of each row by column: objects of str or None, shape (rows,)."""
    return {
        column: np.array(
            [None if pd.isna(value) else class_name(value) for value in rows[column]], dtype=object
        )
        for column in columns
    }


def _output(outcomes: Outcomes, metric: Metric, contract: Contract) -> Output:
    if not contract.task.is_classification:
        return Output.NUMBER
    several = contract.task is MLTask.MULTICLASS
    scored = outcomes.scores is not None and np.isfinite(outcomes.scores).all()
    return Output.CLASS if not scored or (several and metric.name in _OF_CLASSES) else Output.SCORE


def _said_output(said: Prediction, output: Output, contract: Contract) -> np.ndarray:
    if output is Output.CLASS:
        return np.array([_code(answer, contract) for answer in said.predictions])
    scores = answer_scores(said, contract) if output is Output.SCORE else None
    return np.array(said.predictions, dtype=np.float64) if scores is None else scores


def _code(answer: object, contract: Contract) -> float:
    known = str(answer) in contract.classes
    return float(contract.classes.index(str(answer))) if known else np.nan


def _label_delay(config: ModelConfig, learnt: pd.DataFrame | None) -> timedelta:
    """Return the age at which labels are due: as the config says, or as the release's rows show."""
    data = config.data
    if learnt is None or data.time is None or data.label_time is None:
        return data.label_delay
    times = as_datetime64(learnt[data.time])
    seconds = (as_datetime64(learnt[data.label_time]) - times) / np.timedelta64(1, "s")
    is_known = np.isfinite(seconds)
    windows = window_numbers(times, config.monitoring.window)
    return due_after(seconds[is_known], windows[is_known])
