"""What did challenger, champion and the naive model say about the same holdout rows?"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from modelyard.adapters.data.hashes import content_hashes
from modelyard.adapters.data.selection import key_columns
from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.data.times import as_datetime64
from modelyard.adapters.learning.outcomes import Outcomes, as_labels, as_outcomes, as_truth
from modelyard.adapters.learning.pipelines import fit_baseline
from modelyard.adapters.learning.rivals import Rival, choose_rival
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.releases import Candidate, Delivery, Release, rows_learnt
from modelyard.domain.values import Contract
from modelyard.errors import InvalidInputError, RequestError
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.features import Features
from modelyard.serving.frames import predict_frame, read_features
from modelyard.serving.model_file import ModelFile, load_model
from modelyard.serving.predictor import Predictor

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


@dataclass(frozen=True)
class Challenger:
    """A candidate as the gate looks at it."""

    predictor: Predictor
    model_bytes: int
    rows_are_new: bool
    """Whether it learns other rows than the champion did."""
    recipe_is_new: bool


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
    known_by = key_columns(rows.columns, config.data, config.evaluation.group)
    training = load_snapshot(delivery.training, project, list({*known_by, contract.target}))
    file = ModelFile.model_validate(candidate.model_file)
    folder = project.home / candidate.folder
    learns = rows_learnt(delivery, with_holdout=config.training.include_holdout)
    return compare_fits(
        config,
        contract,
        Challenger(
            predictor=EstimatorPredictor(load_model(file, folder), contract),
            model_bytes=(folder / file.path).stat().st_size,
            rows_are_new=champion is None or learns.fingerprint != champion.learnt.fingerprint,
            recipe_is_new=champion is None or candidate.recipe != champion.candidate.recipe,
        ),
        None if champion is None else choose_rival(workspace, config, champion, rows),
        rows,
        training,
    )


def compare_fits(
    config: ModelConfig,
    contract: Contract,
    challenger: Challenger,
    rival: Rival | None,
    holdout: pd.DataFrame,
    training: pd.DataFrame,
) -> Comparison:
    """Predict the holdout rows that the champion has not seen with it, challenger and baseline.

    Of the training rows the target, and the columns that rows are known by, are enough. Raises
    InvalidInputError where the challenger cannot be measured.
    """
    known_by = key_columns(holdout.columns, config.data, config.evaluation.group)
    unseen = np.ones(len(holdout), dtype=bool) if rival is None else rival.unseen
    rows, seen = holdout[unseen].reset_index(drop=True), int((~unseen).sum())
    if rows.empty:
        raise InvalidInputError(
            f"The champion was trained on all {seen:,} holdout rows: wait for newer rows."
        )
    keys, own = content_hashes(rows[known_by]), content_hashes(training[known_by])
    shared = {"the challenger": int(np.isin(keys, own).sum())}
    if rival is not None:
        shared[rival.name] = rival.shared
    features = read_features(rows, contract)
    naive = fit_baseline(
        contract.task,
        as_labels(training[contract.target], contract),
        config.evaluation.primary_metric,
    )
    former, note = None, ""
    if rival is not None:
        former, note = _judge_champion(rival, rows, contract, features)
    predictor = challenger.predictor
    timed = config.evaluation.max_latency_ms is not None
    return Comparison(
        contract=contract,
        rows=rows,
        truth=as_truth(rows[contract.target], contract),
        times=None if contract.time is None else as_datetime64(rows[contract.time]),
        challenger=_judge("the challenger", predictor, features),
        champion=former,
        champion_note=note,
        baseline=_judge("the naive model", *_without_columns(naive, contract, len(rows))),
        seen=seen,
        shared=shared,
        rows_are_new=challenger.rows_are_new,
        recipe_is_new=challenger.recipe_is_new,
        latency_ms=_latency_ms(predictor, rows.head(1)) if timed else None,
        model_bytes=challenger.model_bytes,
    )


def _judge_champion(
    rival: Rival, rows: pd.DataFrame, contract: Contract, features: Features
) -> tuple[Judged | None, str]:
    """Return what the champion says of the rows, whose `features` are those of `contract`."""
    before = rival.contract
    same = (before.task, before.target, before.classes, before.positive) == (
        contract.task,
        contract.target,
        contract.classes,
        contract.positive,
    )
    if not same:
        return None, f"champion {rival.version} predicts another outcome"
    predictor = rival.load()
    try:
        if predictor.contract.columns != contract.columns:
            features = read_features(rows, predictor.contract)
        return _judge(rival.name, predictor, features), ""
    except RequestError as err:
        return None, f"{rival.name} cannot read these rows: {err}"


def _without_columns(
    naive: BaseEstimator, contract: Contract, rows: int
) -> tuple[Predictor, Features]:
    """Return a model that looks at no column, and rows that have none."""
    empty = contract.model_copy(update={"columns": ()})
    features = Features(np.empty((rows, 0)), np.empty((rows, 0), dtype=object))
    return EstimatorPredictor(naive, empty), features


def _judge(name: str, predictor: Predictor, features: Features) -> Judged:
    said = as_outcomes(predictor.predict(features), predictor.contract)
    if said.silent:
        raise InvalidInputError(
            f"{name} gives no finite prediction for {said.silent:,} of {len(features):,} holdout "
            "rows."
        )
    return Judged(name, said)


def _latency_ms(predictor: Predictor, row: pd.DataFrame) -> float:
    taken = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        predict_frame(predictor, row)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken) * 1_000)
