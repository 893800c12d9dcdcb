"""What did challenger, champion and the naive model say about the same holdout rows?"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from modelyard.adapters.data.selection import row_keys
from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.data.times import as_datetime64
from modelyard.adapters.learning.outcomes import Outcomes, as_labels, as_outcomes, as_truth
from modelyard.adapters.learning.pipelines import fit_baseline
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.releases import Candidate, Delivery, Release
from modelyard.domain.values import Contract
from modelyard.errors import InvalidInputError, RequestError
from modelyard.project import Project
from modelyard.serving.bundle import load_bundle
from modelyard.serving.model_file import ModelFile, load_model
from modelyard.serving.predictor import Predictor, prepare_features

_TIMED_CALLS = 15


@dataclass(frozen=True)
class Judged:
    """One model on the holdout."""

    name: str
    outcomes: Outcomes


@dataclass(frozen=True)
class Comparison:
    """What the gate decides on: models over the same rows, in event-time order."""

    contract: Contract
    rows: pd.DataFrame
    """The holdout rows, shape (n, columns)."""
    truth: np.ndarray
    times: np.ndarray | None
    challenger: Judged
    champion: Judged | None
    champion_note: str
    """Why there is no champion to compare with, where there is none."""
    baseline: Judged
    """The naive model."""
    seen: int = 0
    """Rows left out, because the champion was trained on them."""
    shared: dict[str, int] = field(default_factory=dict)
    """Rows that are training rows all the same, by the model that learnt them."""
    rows_are_new: bool = True
    recipe_is_new: bool = True
    """Whether the challenger was trained otherwise than the champion."""
    latency_ms: float | None = None
    """Median time of predicting one row, where there is a budget for it."""
    model_bytes: int = 0

    @property
    def rival(self) -> Judged:
        """What the challenger has to beat."""
        return self.champion or self.baseline


def compare(
    workspace: Workspace,
    delivery: Delivery,
    candidate: Candidate,
    champion: Release | None,
    config: ModelConfig,
) -> Comparison:
    """Predict the holdout rows that no model has seen with the challenger, champion and baseline.

    Raises InvalidInputError where the challenger cannot be measured on them.
    """
    project = workspace.project
    contract = delivery.contract
    rows = load_snapshot(delivery.holdout, project)
    training = load_snapshot(delivery.training, project)
    learnt = None if champion is None else _learnt_keys(champion, project, config, rows)
    unseen = _unseen(rows, champion, learnt, config)
    rows, seen = rows[unseen].reset_index(drop=True), int((~unseen).sum())
    if rows.empty:
        raise InvalidInputError(
            f"The champion was trained on all {seen:,} holdout rows: wait for newer rows."
        )
    keys = row_keys(rows, config.data, config.evaluation.group)
    own = row_keys(training, config.data, config.evaluation.group)
    shared = {"the challenger": _shared(keys, own)}
    if champion is not None and learnt is not None:
        shared[f"champion {champion.version}"] = _shared(keys, learnt)
    truth = as_truth(rows[contract.target], contract)
    file = ModelFile.model_validate(candidate.model_file)
    folder = project.home / candidate.folder
    predictor = Predictor(load_model(file, folder), contract)
    features = prepare_features(rows, contract)
    naive = fit_baseline(
        contract.task,
        as_labels(training[contract.target], contract),
        config.evaluation.primary_metric,
    )
    former, note = None, ""
    if champion is not None:
        former, note = _judge_champion(project, champion, rows, contract)
    timed = config.evaluation.max_latency_ms is not None
    return Comparison(
        contract=contract,
        rows=rows,
        truth=truth,
        times=None if contract.time is None else as_datetime64(rows[contract.time]),
        challenger=_judge("the challenger", predictor, features),
        champion=former,
        champion_note=note,
        baseline=_judge("the naive model", Predictor(naive, contract), features),
        seen=seen,
        shared=shared,
        rows_are_new=champion is None
        or delivery.training.fingerprint != champion.delivery.training.fingerprint,
        recipe_is_new=champion is None or candidate.recipe != champion.candidate.recipe,
        latency_ms=_latency_ms(predictor, rows.head(1)) if timed else None,
        model_bytes=(folder / file.path).stat().st_size,
    )


def _learnt_keys(
    champion: Release, project: Project, config: ModelConfig, like: pd.DataFrame
) -> np.ndarray | None:
    """Return the keys of the rows that the champion was trained on; None where they were not kept.

    Of the columns that `like` has: a source may have got new ones.
    """
    trained = champion.delivery.training
    if trained.path is None and config.data.time is not None:
        return None  # by reference: too many to read again, and their span tells them apart
    old = load_snapshot(trained, project)
    known_by = config.evaluation.group or config.data.id
    if known_by is not None and known_by not in old.columns:
        return None
    shared = [name for name in like.columns if name in old.columns]
    return row_keys(old[shared], config.data, config.evaluation.group)


def _unseen(
    rows: pd.DataFrame, champion: Release | None, learnt: np.ndarray | None, config: ModelConfig
) -> np.ndarray:
    """Return which holdout rows the champion was not trained on; the challenger's split is strict.

    By time where both spans are known, otherwise by what each row is known by.
    """
    if champion is None:
        return np.ones(len(rows), dtype=bool)
    end = champion.delivery.training.span.end
    if config.data.time is not None and end is not None:
        return (rows[config.data.time] > pd.Timestamp(end)).to_numpy()
    if learnt is None:
        return np.ones(len(rows), dtype=bool)
    return ~np.isin(row_keys(rows, config.data, config.evaluation.group), learnt)


def _shared(keys: np.ndarray, learnt: np.ndarray) -> int:
    return int(np.isin(keys, learnt).sum())


def _judge_champion(
    project: Project, champion: Release, rows: pd.DataFrame, contract: Contract
) -> tuple[Judged | None, str]:
    before = champion.delivery.contract
    same = (before.task, before.target, before.classes, before.positive) == (
        contract.task,
        contract.target,
        contract.classes,
        contract.positive,
    )
    name = f"champion {champion.version}"
    if not same:
        return None, f"{name} predicts another outcome"
    bundle = load_bundle(project.home / champion.build.bundle, champion.build.digest)
    try:
        predictor = bundle.predictor
        features = prepare_features(rows, predictor.contract)
        return _judge(name, predictor, features), ""
    except RequestError as err:
        return None, f"{name} cannot read these rows: {err}"


def _judge(name: str, predictor: Predictor, features: pd.DataFrame) -> Judged:
    return Judged(name, as_outcomes(predictor.predict(features), predictor.contract))


def _latency_ms(predictor: Predictor, row: pd.DataFrame) -> float:
    taken = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        predictor.predict_frame(row)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken) * 1_000)
