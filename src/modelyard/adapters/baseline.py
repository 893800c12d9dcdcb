"""What is a window of a release's traffic held against?

The rows that the release was made from, and what windows looked like while nothing was wrong:
those that its training rows fall into, and the first ones that it served quietly itself.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from modelyard.adapters.data.inference_log import PREDICTION, PROBABILITY
from modelyard.adapters.data.snapshots import load_learnt, load_snapshot
from modelyard.adapters.learning.fitting import read_predictions as stored_predictions
from modelyard.adapters.records.store import RecordStore
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.drift_history import (
    MIN_WINDOWS,
    MOST_WINDOWS,
    WindowShares,
    window_shares,
)
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.profiles import PREDICTION as PREDICTED
from modelyard.domain.profiles import Profile, profile_reference, profile_window
from modelyard.domain.releases import Release, rows_learnt
from modelyard.domain.values import ColumnKind, Contract, Value
from modelyard.domain.windows import ORIGIN, Window
from modelyard.serving.bundle import load_bundle
from modelyard.serving.frames import predict_frame, prepare_features
from modelyard.serving.predictor import Prediction

V = TypeVar("V", bound=Value)


class TrainingWindows(Value):
    """What the windows that a release's training rows fall into looked like, oldest first."""

    windows: tuple[WindowShares, ...]


def reference_profile(workspace: Workspace, release: Release) -> Profile:
    """Return the profile that drift of a release is measured against, made on first use."""

    def make() -> Profile:
        contract = release.delivery.contract
        rows = reference_rows(workspace, release)
        unasked = len(rows) - release.delivery.holdout.rows
        kind = object if contract.task.is_classification else np.float64
        features = prepare_features(rows, contract)
        columns = {name: features[name].to_numpy() for name in contract.names()}
        profile = profile_reference(
            {**columns, PREDICTED: rows[PREDICTION].to_numpy(dtype=kind)},
            profiled_kinds(contract),
            scores=rows[PROBABILITY].to_numpy() if PROBABILITY in rows else None,
        )
        said = profile.columns[PREDICTED]
        # Training rows lack no answer: nobody was asked about them.
        said = said.model_copy(update={"nulls": said.nulls - unasked})
        return profile.model_copy(update={"columns": {**profile.columns, PREDICTED: said}})

    folder = workspace.project.folder("profiles", release.model)
    return stored_value(folder / f"{release.id}.json", Profile, make)


def windows_before(
    workspace: Workspace, config: ModelConfig, release: Release, window: Window
) -> tuple[WindowShares, ...]:
    """Return what windows looked like while nothing was wrong, oldest first: the yardstick of one.

    The newest of the training rows' windows, and the first ones that the release itself served
    quietly: later ones would let the yardstick grow with a slow drift. Where training rows tell no
    time, a window whose labels show the release as good as promised counts as quiet as well.
    """
    learnt = training_windows(workspace, config, release).windows
    most = MIN_WINDOWS if len(learnt) >= MIN_WINDOWS else MOST_WINDOWS
    former = workspace.ledger.windows(
        release.model, before=window.start, release=str(release.version)
    )
    records = (WindowRecord.model_validate(measured.record) for measured in former)
    quiet = (r.shares for r in records if r.shares and r.is_quiet(by_labels=not learnt))
    served = tuple(islice(quiet, most))
    return (*learnt[-(MOST_WINDOWS - len(served)) :], *served)


def training_windows(
    workspace: Workspace, config: ModelConfig, release: Release
) -> TrainingWindows:
    """Return what the windows looked like that a release's training rows fall into; kept.

    Of the columns, the prediction is in those alone that the holdout's rows fall into. None where
    the rows tell no time, or have less than three windows.
    """
    length, time = config.monitoring.window, config.data.time

    def make() -> TrainingWindows:
        rows = reference_rows(workspace, release)
        if time is None or time not in rows:
            return TrainingWindows(windows=())
        reference = reference_profile(workspace, release)
        shares = _shares_by_window(rows, time, length, release.delivery.contract, reference)
        enough = (s for s in shares if s.rows >= config.monitoring.min_rows)
        return TrainingWindows(windows=tuple(enough))

    name = f"{release.id}-{length // timedelta(seconds=1)}s.json"
    folder = workspace.project.folder("profiles", release.model)
    return stored_value(folder / name, TrainingWindows, make)


def _shares_by_window(
    rows: pd.DataFrame, time: str, length: timedelta, contract: Contract, reference: Profile
) -> Iterator[WindowShares]:
    """Yield the shares of each whole window of the rows, oldest first."""
    number = (rows[time] - pd.Timestamp(ORIGIN)) // length
    features = prepare_features(rows, contract)
    kind = object if contract.task.is_classification else np.float64
    answers = rows[PREDICTION].to_numpy(dtype=kind)
    asked = rows[PREDICTION].notna().to_numpy()
    order = np.argsort(number.to_numpy(), kind="stable")
    begins = np.flatnonzero(np.diff(number.to_numpy()[order])) + 1
    # The first and the last window are seldom whole.
    for place in np.split(order, begins)[1:-1]:

        def shares(at: np.ndarray) -> WindowShares:
            columns = {name: features[name].to_numpy()[at] for name in contract.names()}
            return window_shares(
                reference, profile_window({**columns, PREDICTED: answers[at]}, reference)
            )

        seen = shares(place)
        columns = {name: seen.columns[name] for name in contract.names()}
        answered = place[asked[place]]
        if answered.size:
            columns[PREDICTED] = shares(answered).columns[PREDICTED]
        yield seen.model_copy(update={"columns": columns})


def stored_value(file: Path, kind: type[V], make: Callable[[], V]) -> V:
    """Return the value that a file holds; make and store it where there is none."""
    if file.exists():
        return kind.model_validate_json(file.read_text())
    value = make()
    half = file.with_suffix(".part")
    half.write_text(value.model_dump_json())
    half.replace(file)
    return value


def profiled_kinds(contract: Contract) -> dict[str, ColumnKind]:
    """Return the kind of every column that drift is looked for in: features and prediction."""
    of_prediction = (
        ColumnKind.CATEGORICAL if contract.task.is_classification else ColumnKind.NUMERIC
    )
    return {**{column.name: column.kind for column in contract.columns}, PREDICTED: of_prediction}


def reference_rows(workspace: Workspace, release: Release) -> pd.DataFrame:
    """Return the rows that drift is measured against: the training rows and then the holdout's.

    Only the latter have a prediction, by the fit that had not learnt them: of rows that a model
    has learnt it is surer than it will ever be of others, and each window would seem to drift.
    """
    delivery = release.delivery
    rows = load_learnt(rows_learnt(delivery, with_holdout=True), workspace.project)
    said = judged_predictions(workspace, release)
    of_holdout = rows.index[len(rows) - len(said.predictions) :]
    kind = object if delivery.contract.task.is_classification else np.float64
    answers = {PREDICTION: pd.Series(said.predictions, index=of_holdout, dtype=kind)}
    scores = answer_scores(said, delivery.contract)
    if scores is not None:
        answers[PROBABILITY] = pd.Series(scores, index=of_holdout)
    return rows.assign(**{name: values.reindex(rows.index) for name, values in answers.items()})


def judged_predictions(workspace: Workspace, release: Release) -> Prediction:
    """Return what the fit that the gate judged said about each holdout row."""
    record, contract = release.judged.record, release.delivery.contract
    if record is not None and record.predictions is not None:
        content = RecordStore(workspace.project.record_folder()).get(record.predictions)
        return stored_predictions(io.BytesIO(content), contract)
    # A release from before there were records: it serves the judged fit itself.
    bundle = load_bundle(workspace.project.home / release.build.bundle, release.build.digest)
    holdout = load_snapshot(release.delivery.holdout, workspace.project)
    return predict_frame(bundle.predictor, holdout)


def answer_scores(said: Prediction, contract: Contract) -> np.ndarray | None:
    """Return the probability that goes with each answer, as the inference log has it."""
    if said.probabilities is None:
        return None
    if contract.positive is not None:
        return said.probabilities[:, contract.classes.index(contract.positive)]
    codes = [contract.classes.index(str(label)) for label in said.predictions]
    return said.probabilities[np.arange(len(codes)), codes]
