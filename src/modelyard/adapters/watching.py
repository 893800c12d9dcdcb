"""What do the logged rows and labels of one window show?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa

from modelyard.adapters.baseline import OUTPUTS, reference_profile, windows_before
from modelyard.adapters.data.inference_log import PREDICTION, Labels
from modelyard.adapters.learning.outcomes import class_name
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.outcome_reference import outcome_reference
from modelyard.adapters.window_judgement import (
    FORMER,
    JudgedRelease,
    SeenWindow,
    judge_window,
    leading_up,
    see_rows,
    seen_columns,
)
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.gate import Gated
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.performance import TOGETHER
from modelyard.domain.profiles import SCORE
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.values import Contract
from modelyard.domain.windows import Window
from modelyard.ledger import RecordedWindow
from modelyard.serving.frames import prepare_features


def read_window(
    workspace: Workspace, release: Release, window: Window, as_of: datetime
) -> pd.DataFrame:
    """Read a window's predictions and the labels that were known by `as_of`, to be drawn."""
    labels = Labels(workspace.project.label_folder(release.model), as_of)
    return workspace.prediction_log(release.model).read(window.start, window.end, labels=labels)


def see_window(
    workspace: Workspace, release: JudgedRelease, model: str, window: Window, as_of: datetime
) -> SeenWindow:
    """Go once through a window's logged predictions, with the labels that were known by `as_of`."""
    log = workspace.prediction_log(model)

    def see(batches: pa.RecordBatchReader) -> SeenWindow:
        repeated = log.repeated_ids(window.start, window.end)
        return see_rows(batches, release, window, as_of, repeated)

    return log.fold(
        window.start,
        window.end,
        see,
        columns=seen_columns(release),
        labels=Labels(workspace.project.label_folder(model), as_of),
    )


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
    answered = log.served(window.start, window.end)
    champion = workspace.ledger.champion(model)
    if champion is not None and (
        not answered
        or answered.get(str(champion.version), 0) >= min(min_rows, max(answered.values()))
    ):
        return champion
    known = {r.version: r for r in workspace.ledger.releases(model) if r.version}
    return next((known[version] for version in answered if version in known), champion)


def judged_release(workspace: Workspace, config: ModelConfig, release: Release) -> JudgedRelease:
    """Return what a release's windows are held against; made on first use."""
    metric = find_metric(config.evaluation.primary_metric, config.task)
    gated = Gated.model_validate(release.payload(ReleaseState.GATED))
    return JudgedRelease(
        version=str(release.version),
        contract=release.delivery.contract,
        promised=gated.metrics[metric.name],
        naive=gated.naive_metrics.get(metric.name),
        reference=reference_profile(workspace, release),
        outcomes=outcome_reference(workspace, config, release, metric),
    )


def measure(
    workspace: Workspace,
    config: ModelConfig,
    release: Release,
    window: Window,
    as_of: datetime,
) -> WindowRecord:
    """Judge quality, drift and performance of one window by the labels known at `as_of`."""
    judged = judged_release(workspace, config, release)
    ledger, before = workspace.ledger, window.start
    former = ledger.windows(release.model, last=FORMER, before=before)
    served = ledger.windows(release.model, last=TOGETHER, before=before, release=judged.version)
    return judge_window(
        config,
        judged,
        window,
        see_window(workspace, judged, release.model, window, as_of),
        as_of,
        before=windows_before(workspace, config, release, window),
        former=_records(former),
        told=leading_up(window, _records(served)),
    )


def _records(measured: Sequence[RecordedWindow]) -> list[WindowRecord]:
    return [WindowRecord.model_validate(old.record) for old in measured]


def drawn_rows(
    rows: pd.DataFrame, contract: Contract, labels: pd.Series | None = None
) -> pd.DataFrame:
    """Return features, the model's output and target of rows, as a drift report draws them."""
    target = rows[contract.target].where(rows[PREDICTION].notna()) if labels is None else labels
    if contract.task.is_classification:
        target = target.map(class_name, na_action="ignore")
    said = {name: rows[of].to_numpy() for name, of in OUTPUTS.items() if of in rows}
    if not contract.task.is_classification:
        said.pop(SCORE, None)
    return prepare_features(rows, contract).assign(**said, **{contract.target: target.to_numpy()})
