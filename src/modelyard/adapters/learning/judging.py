"""What did challenger, champion and the naive model say about the same holdout rows?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modelyard.adapters.data.hashes import row_hashes
from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.learning.outcomes import Outcomes, as_labels, as_outcomes, as_truth
from modelyard.adapters.learning.pipelines import fit_baseline
from modelyard.adapters.workspace import Workspace
from modelyard.domain.gate import SliceMetric
from modelyard.domain.metrics import (
    Interval,
    Metric,
    get_metric,
    metric_interval,
    metrics_for,
    paired_difference,
)
from modelyard.domain.releases import Candidate, Delivery, Release
from modelyard.domain.values import Contract
from modelyard.errors import InvalidInputError, RequestError
from modelyard.serving.bundle import load_bundle
from modelyard.serving.model_file import ModelFile, load_model
from modelyard.serving.predictor import Predictor, prepare_features

MIN_SLICE_ROWS = 30
"""A slice with fewer holdout rows says nothing."""


@dataclass(frozen=True)
class Judged:
    """One model on the holdout."""

    name: str
    outcomes: Outcomes
    metrics: dict[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """What the gate decides on: models over the same rows, in event-time order."""

    rows: pd.DataFrame
    """The holdout rows, shape (n, columns)."""
    truth: np.ndarray
    times: np.ndarray | None
    seen: int
    """Rows left out, because a model was trained on them."""
    challenger: Judged
    champion: Judged | None
    champion_note: str
    """Why there is no champion to compare with, where there is none."""
    baseline: Judged


def compare(
    workspace: Workspace,
    delivery: Delivery,
    candidate: Candidate,
    champion: Release | None,
    confidence: float,
) -> Comparison:
    """Predict the holdout rows that no model has seen with the challenger, champion and baseline.

    Raises InvalidInputError where the challenger cannot be measured on them.
    """
    project = workspace.project
    contract = delivery.contract
    rows = load_snapshot(delivery.holdout, project)
    training = load_snapshot(delivery.training, project)
    unseen = _unseen(workspace, rows, delivery, champion)
    rows, seen = rows[unseen].reset_index(drop=True), int((~unseen).sum())
    if rows.empty:
        raise InvalidInputError(
            f"The champion was trained on all {seen:,} holdout rows: wait for newer rows."
        )
    truth = as_truth(rows[contract.target], contract)

    model = load_model(
        ModelFile.model_validate(candidate.model_file), project.home / candidate.folder
    )
    challenger = _judge("challenger", Predictor(model, contract), rows, truth, confidence)
    naive = fit_baseline(
        contract.task,
        prepare_features(training, contract),
        as_labels(training[contract.target], contract),
    )
    former, note = None, "no champion yet"
    if champion is not None:
        former, note = _judge_champion(workspace, champion, rows, truth, contract, confidence)
    return Comparison(
        rows=rows,
        truth=truth,
        times=None if contract.time is None else rows[contract.time].to_numpy(),
        seen=seen,
        challenger=challenger,
        champion=former,
        champion_note=note,
        baseline=_judge("naive model", Predictor(naive, contract), rows, truth, confidence),
    )


def _unseen(
    workspace: Workspace, rows: pd.DataFrame, delivery: Delivery, champion: Release | None
) -> np.ndarray:
    """Return which holdout rows the champion was not trained on; the challenger's split is strict.

    By time where both spans are known, otherwise by the rows themselves.
    """
    if champion is None:
        return np.ones(len(rows), dtype=bool)
    trained = champion.delivery.training
    if delivery.contract.time and trained.span.end is not None:
        return (rows[delivery.contract.time] > pd.Timestamp(trained.span.end)).to_numpy()
    old = load_snapshot(trained, workspace.project)
    shared = [name for name in rows.columns if name in old.columns]
    return ~np.isin(row_hashes(rows[shared]), row_hashes(old[shared]))


def _judge_champion(
    workspace: Workspace,
    champion: Release,
    rows: pd.DataFrame,
    truth: np.ndarray,
    contract: Contract,
    confidence: float,
) -> tuple[Judged | None, str]:
    before = champion.delivery.contract
    if (before.task, before.target, before.classes) != (
        contract.task,
        contract.target,
        contract.classes,
    ):
        return None, f"champion {champion.version} predicts another outcome"
    predictor = load_bundle(
        workspace.project.home / champion.build.bundle, champion.build.digest
    ).predictor
    name = f"champion {champion.version}"
    try:
        return _judge(name, predictor, rows, truth, confidence), ""
    except RequestError as err:
        return None, f"{name} cannot read these rows: {err}"


def _judge(
    name: str, predictor: Predictor, rows: pd.DataFrame, truth: np.ndarray, confidence: float
) -> Judged:
    outcomes = as_outcomes(predictor.predict_frame(rows), predictor.contract)
    return Judged(name, outcomes, measure(outcomes, truth, predictor.contract, confidence))


def measure(
    outcomes: Outcomes, truth: np.ndarray, contract: Contract, confidence: float
) -> dict[str, Interval]:
    """Return every metric of the task with its interval; those undefined on these rows are left
    out."""
    measured = {}
    for metric in metrics_for(contract.task):
        if metric.needs_score and outcomes.scores is None:
            continue
        try:
            measured[metric.name] = metric_interval(
                metric, truth, outcomes.for_metric(metric), confidence=confidence
            )
        except InvalidInputError:  # one class only, or a constant outcome
            continue
    return measured


def measure_gain(
    comparison: Comparison, rival: Judged, metric: Metric, confidence: float
) -> Interval:
    """Return by how much the challenger is better than another model on the same rows.

    Raises InvalidInputError where the metric is not defined on them.
    """
    return paired_difference(
        metric,
        comparison.truth,
        comparison.challenger.outcomes.for_metric(metric),
        rival.outcomes.for_metric(metric),
        confidence=confidence,
    )


def measure_gains(comparison: Comparison, confidence: float) -> dict[str, Interval]:
    """Return the challenger's gain over the champion in every metric that both have."""
    champion = comparison.champion
    if champion is None:
        return {}
    gains = {}
    for name in comparison.challenger.metrics:
        if name not in champion.metrics:
            continue
        gain = measure_gain(comparison, champion, get_metric(name), confidence)
        if np.isfinite([gain.value, gain.low, gain.high]).all():
            gains[name] = gain
    return gains


def measure_slices(
    comparison: Comparison, metric: Metric, columns: Sequence[str]
) -> tuple[SliceMetric, ...]:
    """Return the metric of challenger and champion on each large enough level of each column."""
    return tuple(
        found
        for column in columns
        for level, rows in comparison.rows.groupby(column, sort=False, dropna=False).indices.items()
        if len(rows) >= MIN_SLICE_ROWS
        and (found := _slice(comparison, metric, column, str(level), np.asarray(rows)))
    )


def _slice(
    comparison: Comparison, metric: Metric, column: str, level: str, rows: np.ndarray
) -> SliceMetric | None:
    def on_rows(judged: Judged) -> float:
        return metric(comparison.truth[rows], judged.outcomes.for_metric(metric)[rows])

    try:
        challenger = on_rows(comparison.challenger)
        champion = None if comparison.champion is None else on_rows(comparison.champion)
    except InvalidInputError:  # predictions that are no numbers
        return None
    if not np.isfinite([challenger, challenger if champion is None else champion]).all():
        return None  # one class only
    return SliceMetric(
        column=column, level=level, rows=len(rows), challenger=challenger, champion=champion
    )
