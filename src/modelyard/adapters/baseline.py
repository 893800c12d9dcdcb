"""What is a window of a release's traffic held against?

The rows that the release was made from, and what windows looked like while nothing was wrong:
those that its training rows fall into, and the first ones that it served quietly itself.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from modelyard.adapters.data.inference_log import PREDICTION, PROBABILITY
from modelyard.adapters.data.snapshots import load_learnt, load_snapshot
from modelyard.adapters.data.times import as_datetime64
from modelyard.adapters.learning.stored_predictions import read_predictions
from modelyard.adapters.records.store import RecordStore
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.config.values import RowCount
from modelyard.domain.drift_history import (
    MIN_WINDOWS,
    MOST_WINDOWS,
    WindowShares,
    window_shares,
)
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.profiles import PREDICTION as PREDICTED
from modelyard.domain.profiles import SCORE, Profile, profile_reference, profile_window
from modelyard.domain.releases import Release, rows_learnt
from modelyard.domain.values import ColumnKind, Contract, Value
from modelyard.domain.windows import ORIGIN, Window, ends_by_count
from modelyard.serving.bundle import load_bundle
from modelyard.serving.frames import predict_frame, prepare_features
from modelyard.serving.predictor import Prediction

V = TypeVar("V", bound=Value)


OUTPUTS = {PREDICTED: PREDICTION, SCORE: PROBABILITY}
"""The log's columns of what a model says, by their names in a profile."""


class TrainingWindows(Value):
    """What the windows that a release's training rows fall into looked like, oldest first."""

    windows: tuple[WindowShares, ...]


def reference_profile(workspace: Workspace, release: Release) -> Profile:
    """Return the profile that drift of a release is measured against, made on first use."""

    def make() -> Profile:
        rows = reference_rows(workspace, release)
        return profile_of(rows, release.delivery.contract, release.delivery.holdout.rows)

    folder = workspace.project.folder("profiles", release.model)
    return stored_value(folder / f"{release.id}.json", Profile, make)


def profile_of(rows: pd.DataFrame, contract: Contract, asked: int) -> Profile:
    """Profile what `answered_rows` returns; the last `asked` rows are those with an answer."""
    columns = _profiled(rows, contract)
    kinds = {name: kind for name, kind in profiled_kinds(contract).items() if name in columns}
    profile = profile_reference(columns, kinds)
    unasked = len(rows) - asked
    # Training rows lack no answer: nobody was asked about them.
    said = {
        name: profile.columns[name].model_copy(
            update={"nulls": profile.columns[name].nulls - unasked}
        )
        for name in OUTPUTS
        if name in columns
    }
    return profile.model_copy(update={"columns": profile.columns | said})


def windows_before(
    workspace: Workspace, config: ModelConfig, release: Release, window: Window
) -> tuple[WindowShares, ...]:
    """Return what windows looked like while nothing was wrong, oldest first: the yardstick of one.

    `yardstick` says which; those of its training rows are made on first use.
    """
    learnt = training_windows(workspace, config, release).windows
    former = workspace.ledger.windows(
        release.model, before=window.start, release=str(release.version)
    )
    return yardstick(learnt, (WindowRecord.model_validate(old.record) for old in former))


def yardstick(
    learnt: Sequence[WindowShares], served: Iterable[WindowRecord]
) -> tuple[WindowShares, ...]:
    """Return what windows of a release are held against, oldest first.

    The newest of the training rows' windows, and the first ones that the release itself served
    quietly: later ones would let the yardstick grow with a slow drift. Where training rows tell no
    time, or fall into too few windows, a window whose labels show the release as good as promised
    counts as quiet as well: without a yardstick days that differ alarm, and none would come to be.
    """
    by_labels = len(learnt) < MIN_WINDOWS
    most = MOST_WINDOWS if by_labels else MIN_WINDOWS
    quiet = (r.shares for r in served if r.shares and r.is_quiet(by_labels=by_labels))
    first = tuple(islice(quiet, most))
    return (*learnt[-(MOST_WINDOWS - len(first)) :], *first)


def training_windows(
    workspace: Workspace, config: ModelConfig, release: Release
) -> TrainingWindows:
    """Return what the windows looked like that a release's training rows fall into; kept.

    Of the columns, the prediction is in those alone that the holdout's rows fall into. None where
    the rows tell no time, or have less than three windows.
    """
    extent = config.monitoring.window

    def make() -> TrainingWindows:
        rows, contract = reference_rows(workspace, release), release.delivery.contract
        reference = reference_profile(workspace, release)
        return TrainingWindows(windows=windows_within(config, rows, contract, reference))

    is_span = isinstance(extent, timedelta)
    size = f"{extent // timedelta(seconds=1)}s" if is_span else f"{extent.rows}rows"
    name = f"{release.id}-{size}.json"
    folder = workspace.project.folder("profiles", release.model)
    return stored_value(folder / name, TrainingWindows, make)


def windows_within(
    config: ModelConfig, rows: pd.DataFrame, contract: Contract, reference: Profile
) -> tuple[WindowShares, ...]:
    """Return what the whole windows looked like that rows fall into, oldest first.

    `rows` are those of `reference_rows`; windows with too few of them are left out.
    """
    time = config.data.time
    if time is None or time not in rows:
        return ()
    shares = _shares_by_window(rows, time, config.monitoring.window, contract, reference)
    return tuple(s for s in shares if s.rows >= config.monitoring.min_rows)


def _shares_by_window(
    rows: pd.DataFrame,
    time: str,
    extent: timedelta | RowCount,
    contract: Contract,
    reference: Profile,
) -> Iterator[WindowShares]:
    """Yield the shares of each whole window of the rows, oldest first."""
    number = window_numbers(as_datetime64(rows[time]), extent)
    columns = _profiled(rows, contract)
    asked = rows[PREDICTION].notna().to_numpy()
    order = np.argsort(number, kind="stable")
    begins = np.flatnonzero(np.diff(number[order])) + 1
    # The first and the last window are seldom whole.
    for place in np.split(order, begins)[1:-1]:

        def shares(at: np.ndarray) -> WindowShares:
            taken = {name: values[at] for name, values in columns.items()}
            return window_shares(reference, profile_window(taken, reference))

        seen = shares(place)
        shown = {name: seen.columns[name] for name in contract.names()}
        answered = place[asked[place]]
        if answered.size:
            said = shares(answered).columns
            shown |= {name: said[name] for name in OUTPUTS if name in said}
        yield seen.model_copy(update={"columns": shown})


def window_numbers(times: np.ndarray, extent: timedelta | RowCount) -> np.ndarray:
    """Return the number of the window that each time falls into, ascending with time."""
    if isinstance(extent, timedelta):
        return (times - np.datetime64(ORIGIN.replace(tzinfo=None))) // np.timedelta64(extent)
    ends = [end.replace(tzinfo=None) for end in ends_by_count([np.sort(times)], extent.rows)]
    return np.searchsorted(np.array(ends, dtype="datetime64[us]"), times, side="right")


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
    """Return the kind of every column that drift is looked for in: features and model's output."""
    kinds = {column.name: column.kind for column in contract.columns}
    if not contract.task.is_classification:
        return {**kinds, PREDICTED: ColumnKind.NUMERIC}
    return {**kinds, PREDICTED: ColumnKind.CATEGORICAL, SCORE: ColumnKind.NUMERIC}


def _profiled(rows: pd.DataFrame, contract: Contract) -> dict[str, np.ndarray]:
    """Return the columns of rows that a profile is made of; no score where none is known."""
    features = prepare_features(rows, contract)
    kind = object if contract.task.is_classification else np.float64
    columns = {name: features[name].to_numpy() for name in contract.names()}
    columns[PREDICTED] = rows[PREDICTION].to_numpy(dtype=kind)
    if contract.task.is_classification and PROBABILITY in rows:
        columns[SCORE] = rows[PROBABILITY].to_numpy(dtype=np.float64)
    return columns


def reference_rows(workspace: Workspace, release: Release) -> pd.DataFrame:
    """Return the rows that drift is measured against: the training rows and then the holdout's.

    Only the latter have a prediction, by the fit that had not learnt them: of rows that a model
    has learnt it is surer than it will ever be of others, and each window would seem to drift.
    """
    delivery = release.delivery
    rows = load_learnt(rows_learnt(delivery, with_holdout=True), workspace.project)
    return answered_rows(rows, judged_predictions(workspace, release), delivery.contract)


def answered_rows(rows: pd.DataFrame, said: Prediction, contract: Contract) -> pd.DataFrame:
    """Return rows with what was said about the last ones of them, as the inference log has it."""
    of_holdout = rows.index[len(rows) - len(said.predictions) :]
    kind = object if contract.task.is_classification else np.float64
    answers = {PREDICTION: pd.Series(said.predictions, index=of_holdout, dtype=kind)}
    scores = answer_scores(said, contract)
    if scores is not None:
        answers[PROBABILITY] = pd.Series(scores, index=of_holdout)
    return rows.assign(**{name: values.reindex(rows.index) for name, values in answers.items()})


def judged_predictions(workspace: Workspace, release: Release) -> Prediction:
    """Return what the fit that the gate judged said about each holdout row."""
    record, contract = release.judged.record, release.delivery.contract
    if record is not None and record.predictions is not None:
        content = RecordStore(workspace.project.record_folder()).get(record.predictions)
        return read_predictions(io.BytesIO(content), contract)
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
