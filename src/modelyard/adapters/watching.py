"""What do the logged rows and labels of one window show?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from modelyard.adapters.baseline import profiled_kinds, reference_profile, windows_before
from modelyard.adapters.data.inference_log import (
    PREDICTION,
    PROBABILITY,
    RELEASE,
    TIME,
    Labels,
)
from modelyard.adapters.data.labels import LABEL
from modelyard.adapters.data.profiling import ArrowReader, Layout
from modelyard.adapters.learning.outcomes import Outcomes, as_truth, class_name
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.outcome_reference import (
    OutcomeReference,
    logged_output,
    outcome_reference,
    slice_levels,
)
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.arrivals import SLOTS, find_gap, slots_of
from modelyard.domain.drift import DriftPolicy, judge_drift
from modelyard.domain.drift_history import still_columns, window_shares
from modelyard.domain.estimation import count_groups, estimate
from modelyard.domain.gate import Gated
from modelyard.domain.metrics import Interval, Metric, as_codes
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.performance import (
    PerformanceOutcome,
    PerformancePolicy,
    PerformanceVerdict,
    judge_performance,
)
from modelyard.domain.profiles import PREDICTION as PREDICTED
from modelyard.domain.profiles import Profile, ProfileBuilder
from modelyard.domain.quality import QualityCheck, QualityPolicy, judge_quality
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.relevance import relevance
from modelyard.domain.slices import compare_slices, measure_slices
from modelyard.domain.values import Contract, as_utc
from modelyard.domain.windows import Window
from modelyard.errors import InvalidInputError
from modelyard.serving.frames import prepare_features

_FORMER = 10
"""Windows before, by which it is told how many rows are usual."""


@dataclass(frozen=True)
class SeenWindow:
    """What is kept of the rows of one window: their profile, and those with a label.

    Of a window's rows those answered by the release that judges it are its own.
    """

    profile: Profile
    served: dict[str, int]
    """Rows by the version that answered, the busiest first."""
    arrived: tuple[int, ...]
    """Rows in each part of the window."""
    repeated_ids: int
    labelled: pd.DataFrame
    """Time, release, prediction, probabilities, slices and label of the rows with a label."""
    outputs: np.ndarray
    """Its own rows in each group of the expectation, shape (groups,)."""
    due: int
    """Its own rows whose label is due."""


def read_window(
    workspace: Workspace, release: Release, window: Window, as_of: datetime
) -> pd.DataFrame:
    """Read a window's predictions and the labels that were known by `as_of`, to be drawn."""
    labels = Labels(workspace.project.label_folder(release.model), as_of)
    return workspace.prediction_log(release.model).read(window.start, window.end, labels=labels)


def see_window(
    workspace: Workspace,
    release: Release,
    window: Window,
    as_of: datetime,
    reference: Profile,
    outcomes: OutcomeReference,
) -> SeenWindow:
    """Go once through a window's predictions, with the labels that were known by `as_of`.

    Memory is bounded whatever the rows; only those with a label are kept.
    """
    contract = release.delivery.contract
    due_until = np.datetime64(_due_until(as_of, outcomes).replace(tzinfo=None))
    layout = Layout(profiled_kinds(contract), {PREDICTED: PREDICTION}, score=PROBABILITY)
    kept = [TIME, RELEASE, PREDICTION, *_probability_names(contract)]
    kept += [name for name in outcomes.columns if name not in kept]

    def see(batches: pa.RecordBatchReader) -> SeenWindow:
        builder, reader, served = ProfileBuilder(reference), ArrowReader(layout), Counter[str]()
        outputs, due = count_groups(np.empty(0), outcomes.expectation), 0
        labelled = [batches.schema.empty_table().select([*kept, LABEL])]
        arrived = np.zeros(SLOTS, dtype=int)
        for batch in batches:
            rows, answered_by = reader.read(batch), batch.column(RELEASE).to_pylist()
            times = batch.column(TIME).to_numpy(zero_copy_only=False)
            builder.add(*rows)
            arrived += slots_of(window, times)
            served.update(answered_by)
            own = np.array([version == str(release.version) for version in answered_by], dtype=bool)
            output = logged_output(rows, outcomes.output, contract)
            outputs += count_groups(output[own], outcomes.expectation)
            due += int((times[own] <= due_until).sum())
            known = batch.filter(batch.column(LABEL).is_valid()).select([*kept, LABEL])
            labelled.append(pa.Table.from_batches([known]))
        return SeenWindow(
            builder.profile(),
            dict(served.most_common()),
            tuple(arrived.tolist()),
            log.repeated_ids(window.start, window.end),
            pa.concat_tables(labelled).to_pandas(),
            outputs,
            due,
        )

    log = workspace.prediction_log(release.model)
    return log.fold(
        window.start,
        window.end,
        see,
        columns=[*dict.fromkeys([*layout.names(), PROBABILITY, *kept])],
        labels=Labels(workspace.project.label_folder(release.model), as_of),
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


def measure(
    workspace: Workspace,
    config: ModelConfig,
    release: Release,
    window: Window,
    as_of: datetime,
) -> WindowRecord:
    """Judge quality, drift and performance of one window by the labels known at `as_of`."""
    policy, metric = config.monitoring, find_metric(config.evaluation.primary_metric, config.task)
    reference = reference_profile(workspace, release)
    outcomes = outcome_reference(workspace, config, release, metric)
    seen = see_window(workspace, release, window, as_of, reference, outcomes)
    before = windows_before(workspace, config, release, window)
    usual = _usual(workspace, release.model, window)
    due = seen.labelled[seen.labelled[TIME] <= _due_until(as_of, outcomes)]
    promised = Gated.model_validate(release.payload(ReleaseState.GATED)).metrics[metric.name]
    performance = _performance(config, release, metric, promised, outcomes, seen, due)
    likely = estimate(metric, outcomes.expectation, seen.outputs, promised, performance.limit)
    # An estimate of all rows is not held against the labels of the oldest ones.
    likely = likely.confronted(performance.realized if performance.mature else None)
    untold = performance.outcome is PerformanceOutcome.TOO_FEW_LABELS
    alarm = policy.performance.alert_on_estimate and untold and likely.beyond
    return WindowRecord(
        window=window,
        release=str(release.version),
        served=seen.served,
        rows=seen.profile.rows,
        quality=judge_quality(
            reference,
            seen.profile,
            QualityPolicy(min_rows=policy.min_rows),
            duplicate_ids=seen.repeated_ids,
            expected_rows=usual.rows,
            gap=find_gap(window, seen.arrived, usual.arrived),
            still=still_columns(before),
        ),
        drift=judge_drift(
            reference,
            seen.profile,
            DriftPolicy(false_alarms=policy.false_alarms.rate, min_rows=policy.min_rows),
            before=before,
            relevance=relevance(reference),
        ),
        arrived=seen.arrived,
        shares=window_shares(reference, seen.profile),
        performance=performance,
        estimate=likely.model_copy(update={"alarm": alarm}),
        due_at=window.end + outcomes.label_delay,
        realized=_realized(metric, due, release.delivery.contract),
    )


def _due_until(as_of: datetime, outcomes: OutcomeReference) -> datetime:
    """Return up to which event time labels are due."""
    return as_utc(as_of) - outcomes.label_delay


def _performance(
    config: ModelConfig,
    release: Release,
    metric: Metric,
    promised: Interval,
    outcomes: OutcomeReference,
    seen: SeenWindow,
    due: pd.DataFrame,
) -> PerformanceVerdict:
    """Judge what labels say of a release's own rows; `due` are the labelled ones that count."""
    contract, version = release.delivery.contract, str(release.version)
    own = due[due[RELEASE] == version]
    truth = as_truth(own[LABEL], contract)
    predicted = logged_outcomes(own, contract).for_metric(metric)
    policy = PerformancePolicy(
        min_labels=min(100, config.monitoring.min_rows),
        confidence=config.evaluation.confidence,
        alert_on_slices=config.monitoring.performance.alert_on_slices,
    )
    slices = measure_slices(
        metric,
        truth,
        predicted,
        slice_levels(own, outcomes.columns),
        confidence=policy.confidence,
    )
    return judge_performance(
        metric,
        truth,
        predicted,
        rows=seen.served.get(version, 0),
        promised=promised,
        policy=policy,
        due=seen.due,
        early=int((seen.labelled[RELEASE] == version).sum()) - len(own),
        slices=compare_slices(metric, slices, outcomes.slices, policy.tolerance),
    )


class _Usual(NamedTuple):
    """How many rows the windows before had."""

    rows: float | None
    """Their median; None where too few are known."""
    arrived: list[tuple[int, ...]]
    """In their parts, of those that are as long and had no gap."""


def _usual(workspace: Workspace, model: str, window: Window) -> _Usual:
    measured = workspace.ledger.windows(model, last=_FORMER, before=window.start)
    records = [WindowRecord.model_validate(former.record) for former in measured]
    whole = [r for r in records if QualityCheck.GAP not in {f.check for f in r.quality.findings}]
    length = window.end - window.start
    alike = [r.arrived for r in whole if r.window.end - r.window.start == length and r.arrived]
    return _Usual(median(r.rows for r in records) if len(records) >= 3 else None, alike)


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


def _probability_names(contract: Contract) -> list[str]:
    """Return the inference log's columns of what a classifier's scores are made from."""
    if contract.positive is not None:
        return [PROBABILITY]
    return [f"{PROBABILITY}_{label}" for label in contract.classes]


def logged_outcomes(rows: pd.DataFrame, contract: Contract) -> Outcomes:
    """Return what the service answered to logged rows, as metrics take it."""
    if not contract.task.is_classification:
        return Outcomes(rows[PREDICTION].to_numpy(dtype=np.float64), None)
    codes = as_codes(rows[PREDICTION].to_numpy(), contract.classes, contract.positive)
    names = _probability_names(contract)
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
