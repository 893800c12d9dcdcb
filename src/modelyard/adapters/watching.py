"""What do the logged rows and labels of one window show?"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelyard.adapters.data.inference_log import (
    ID,
    PREDICTION,
    PROBABILITY,
    RELEASE,
    Labels,
)
from modelyard.adapters.data.labels import LABEL
from modelyard.adapters.data.snapshots import load_learnt, load_snapshot
from modelyard.adapters.learning.fitting import read_predictions as stored_predictions
from modelyard.adapters.learning.outcomes import Outcomes, as_truth, class_name
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.records.store import RecordStore
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.drift import DriftPolicy, judge_drift
from modelyard.domain.gate import Gated
from modelyard.domain.metrics import Metric, as_codes
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.performance import PerformancePolicy, judge_performance
from modelyard.domain.profiles import PREDICTION as PREDICTED
from modelyard.domain.profiles import Profile, profile_reference, profile_window
from modelyard.domain.quality import QualityPolicy, judge_quality
from modelyard.domain.releases import Release, ReleaseState, rows_learnt
from modelyard.domain.values import ColumnKind, Contract
from modelyard.domain.windows import Window
from modelyard.errors import InvalidInputError
from modelyard.serving.bundle import load_bundle
from modelyard.serving.frames import predict_frame, prepare_features


@dataclass(frozen=True)
class LoggedWindow:
    """The rows of one window as the service answered them, with the labels known by now."""

    rows: pd.DataFrame
    """As `PredictionLog.read` gives them, with labels."""
    contract: Contract

    def features(self) -> pd.DataFrame:
        return prepare_features(self.rows, self.contract) if len(self.rows) else self.rows

    def labelled(self, versions: set[str] | None = None) -> pd.DataFrame:
        """Return the rows with a label, of these versions or of all."""
        chosen = self.rows[LABEL].notna()
        if versions is not None:
            chosen &= self.rows[RELEASE].isin(versions)
        return self.rows[chosen]


def read_window(
    workspace: Workspace, release: Release, window: Window, as_of: datetime
) -> LoggedWindow:
    """Read a window's predictions and the labels that were known by `as_of`."""
    labels = Labels(workspace.project.label_folder(release.model), as_of)
    log = workspace.prediction_log(release.model)
    rows = log.read(window.start, window.end, labels=labels)
    return LoggedWindow(rows, release.delivery.contract)


def rotate_log(workspace: Workspace, model: str) -> list[str]:
    """Rotate a model's inference log within the bounds of the platform's config."""
    bounds = workspace.project.platform.inference_log
    return workspace.prediction_log(model).rotate(
        now=datetime.now(UTC), keep=bounds.keep, max_bytes=bounds.max_size
    )


def judging_release(
    workspace: Workspace, model: str, window: Window, min_rows: int
) -> Release | None:
    """Return the release that a window is judged by: the champion where it answered enough rows.

    Otherwise the one that answered most; None where no known release answered any.
    """
    log = workspace.prediction_log(model)
    answered = log.read(window.start, window.end, columns=[RELEASE])[RELEASE].value_counts()
    champion = workspace.ledger.champion(model)
    if champion is not None and (
        answered.empty or answered.get(champion.version, 0) >= min(min_rows, answered.max())
    ):
        return champion
    known = {r.version: r for r in workspace.ledger.releases(model) if r.version}
    return next((known[version] for version in answered.index if version in known), champion)


def measure(
    workspace: Workspace,
    config: ModelConfig,
    release: Release,
    window: Window,
    logged: LoggedWindow,
    usual_rows: float | None,
) -> WindowRecord:
    """Judge quality, drift and performance of one window."""
    policy = config.monitoring
    reference = reference_profile(workspace, release)
    seen = profile_window(_columns(logged.features(), logged.rows, logged.contract), reference)
    metric = find_metric(config.evaluation.primary_metric, config.task)
    labelled = logged.labelled({str(release.version)})
    everyone = logged.labelled()
    gated = Gated.model_validate(release.payload(ReleaseState.GATED))
    return WindowRecord(
        window=window,
        release=str(release.version),
        served={str(v): int(n) for v, n in logged.rows[RELEASE].value_counts().items()},
        rows=len(logged.rows),
        quality=judge_quality(
            reference,
            seen,
            QualityPolicy(min_rows=policy.min_rows),
            duplicate_ids=int(logged.rows[ID].duplicated(keep=False).sum()),
            expected_rows=usual_rows,
        ),
        drift=judge_drift(
            reference,
            seen,
            DriftPolicy(false_alarms=policy.false_alarms.rate, min_rows=policy.min_rows),
        ),
        performance=judge_performance(
            metric,
            as_truth(labelled[LABEL], logged.contract),
            logged_outcomes(labelled, logged.contract).for_metric(metric),
            rows=int((logged.rows[RELEASE] == release.version).sum()),
            promised=gated.metrics[metric.name],
            policy=PerformancePolicy(
                min_labels=min(100, policy.min_rows), confidence=config.evaluation.confidence
            ),
        ),
        realized=_realized(metric, everyone, logged.contract),
    )


def reference_profile(workspace: Workspace, release: Release) -> Profile:
    """Return the profile that drift of a release is measured against, made on first use."""

    def make() -> Profile:
        rows, contract = reference_rows(workspace, release), release.delivery.contract
        columns = _columns(prepare_features(rows, contract), rows, contract)
        kinds = profiled_kinds(contract)
        answered = {PREDICTED: columns.pop(PREDICTED)[-release.delivery.holdout.rows :]}
        features = profile_reference(columns, {name: kinds[name] for name in columns})
        predicted = profile_reference(answered, {PREDICTED: kinds[PREDICTED]})
        return Profile(rows=features.rows, columns=features.columns | predicted.columns)

    folder = workspace.project.folder("profiles", release.model)
    return stored_profile(folder / f"{release.id}.json", make)


def stored_profile(file: Path, make: Callable[[], Profile]) -> Profile:
    """Return the profile that a file holds; make and store it where there is none."""
    if file.exists():
        return Profile.model_validate_json(file.read_text())
    profile = make()
    half = file.with_suffix(".part")
    half.write_text(profile.model_dump_json())
    half.replace(file)
    return profile


def profiled_kinds(contract: Contract) -> dict[str, ColumnKind]:
    """Return the kind of every column that drift is looked for in: features and prediction."""
    of_prediction = (
        ColumnKind.CATEGORICAL if contract.task.is_classification else ColumnKind.NUMERIC
    )
    return {**{column.name: column.kind for column in contract.columns}, PREDICTED: of_prediction}


def drawn_rows(
    rows: pd.DataFrame, contract: Contract, labels: pd.Series | None = None
) -> pd.DataFrame:
    """Return features, prediction and target of rows, as a drift report draws them."""
    target = rows[contract.target].where(rows[PREDICTION].notna()) if labels is None else labels
    if contract.task.is_classification:
        target = target.map(class_name, na_action="ignore")
    return prepare_features(rows, contract).assign(
        **{PREDICTED: rows[PREDICTION].to_numpy(), contract.target: target.to_numpy()}
    )


def reference_rows(workspace: Workspace, release: Release) -> pd.DataFrame:
    """Return the rows that drift is measured against: the training rows and then the holdout's.

    Only the latter have a prediction, by the fit that had not learnt them: of rows that a model
    has learnt it is surer than it will ever be of others, and each window would seem to drift.
    """
    delivery = release.delivery
    rows = load_learnt(rows_learnt(delivery, with_holdout=True), workspace.project)
    said = _judged_predictions(workspace, release)
    unknown = [None] * (len(rows) - len(said))
    kind = object if delivery.contract.task.is_classification else np.float64
    return rows.assign(**{PREDICTION: pd.Series([*unknown, *said], index=rows.index, dtype=kind)})


def _judged_predictions(workspace: Workspace, release: Release) -> list[Any]:
    """Return what the fit that the gate judged said about each holdout row."""
    record, contract = release.judged.record, release.delivery.contract
    if record is not None and record.predictions is not None:
        content = RecordStore(workspace.project.record_folder()).get(record.predictions)
        return list(stored_predictions(io.BytesIO(content), contract).predictions)
    # A release from before there were records: it serves the judged fit itself.
    bundle = load_bundle(workspace.project.home / release.build.bundle, release.build.digest)
    holdout = load_snapshot(release.delivery.holdout, workspace.project)
    return list(predict_frame(bundle.predictor, holdout).predictions)


def _columns(
    features: pd.DataFrame, rows: pd.DataFrame, contract: Contract
) -> dict[str, np.ndarray]:
    kind: type = object if contract.task.is_classification else np.float64
    predicted = np.asarray(rows[PREDICTION].to_numpy(), dtype=kind)
    columns = {name: features[name].to_numpy() for name in contract.names() if name in features}
    return {**columns, PREDICTED: predicted}


def logged_outcomes(rows: pd.DataFrame, contract: Contract) -> Outcomes:
    """Return what the service answered to logged rows, as metrics take it."""
    if not contract.task.is_classification:
        return Outcomes(rows[PREDICTION].to_numpy(dtype=np.float64), None)
    codes = as_codes(rows[PREDICTION].to_numpy(), contract.classes, contract.positive)
    names = [PROBABILITY]
    if contract.positive is None:
        names = [f"{PROBABILITY}_{label}" for label in contract.classes]
    if rows.empty or any(n not in rows or rows[n].isna().any() for n in names):
        return Outcomes(codes, None)
    scores = rows[names].to_numpy(dtype=np.float64)
    return Outcomes(codes, scores[:, 0] if contract.positive is not None else scores)


def _realized(metric: Metric, rows: pd.DataFrame, contract: Contract) -> float | None:
    try:
        value = metric(
            as_truth(rows[LABEL], contract), logged_outcomes(rows, contract).for_metric(metric)
        )
    except InvalidInputError:  # no label yet
        return None
    return value if np.isfinite(value) else None
