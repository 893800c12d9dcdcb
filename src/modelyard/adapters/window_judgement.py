"""What do the rows of one window and their labels say of the release that is judged by it?

Given the rows, wherever they come from: the inference log of a service, or history that is gone
through again. The same rows lead to the same record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from modelyard.adapters.baseline import OUTPUTS, profiled_kinds
from modelyard.adapters.data.inference_log import PREDICTION, PROBABILITY, RELEASE, TIME
from modelyard.adapters.data.labels import LABEL
from modelyard.adapters.data.profiling import ArrowReader, Layout
from modelyard.adapters.learning.outcomes import Outcomes, as_truth
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.outcome_reference import OutcomeReference, logged_output, slice_levels
from modelyard.config import ModelConfig
from modelyard.domain.arrivals import SLOTS, find_gap, slots_of
from modelyard.domain.drift import DriftPolicy, judge_drift
from modelyard.domain.drift_history import (
    WindowShares,
    still_columns,
    usual_spreads,
    window_shares,
)
from modelyard.domain.estimation import count_groups, estimate
from modelyard.domain.metrics import Interval, Metric, as_codes
from modelyard.domain.monitoring import WindowRecord, quiet_eve
from modelyard.domain.performance import (
    TOGETHER,
    PerformanceOutcome,
    PerformancePolicy,
    PerformanceVerdict,
    judge_performance,
)
from modelyard.domain.profiles import Profile, ProfileBuilder
from modelyard.domain.promises import tolerated
from modelyard.domain.quality import QualityCheck, QualityPolicy, judge_quality
from modelyard.domain.relevance import relevance
from modelyard.domain.slices import compare_slices, measure_slices
from modelyard.domain.values import Contract, as_utc
from modelyard.domain.windows import Window
from modelyard.errors import InvalidInputError

FORMER = 10
"""Windows before, by which it is told how many rows are usual."""


@dataclass(frozen=True)
class JudgedRelease:
    """What windows of a release are held against."""

    version: str
    contract: Contract
    promised: Interval
    """The primary metric, as the gate measured it."""
    naive: float | None
    """Likewise of the naive model; None where it was not measured."""
    reference: Profile
    outcomes: OutcomeReference


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


def seen_columns(release: JudgedRelease) -> list[str]:
    """Return the inference log's columns that `see_rows` reads, but for the label."""
    layout = Layout(profiled_kinds(release.contract), OUTPUTS)
    return list(dict.fromkeys([*layout.names(), *_kept(release)]))


def see_rows(
    batches: pa.RecordBatchReader,
    release: JudgedRelease,
    window: Window,
    as_of: datetime,
    repeated_ids: int = 0,
) -> SeenWindow:
    """Go once through a window's predictions, with the labels that were known by `as_of`.

    Memory is bounded whatever the rows; only those with a label are kept. The batches have the
    columns of `seen_columns` and the label.
    """
    contract, outcomes = release.contract, release.outcomes
    reader = ArrowReader(Layout(profiled_kinds(contract), OUTPUTS))
    due_until = np.datetime64(_due_until(as_of, outcomes).replace(tzinfo=None))
    kept = [*_kept(release), LABEL]
    builder, served = ProfileBuilder(release.reference), Counter[str]()
    outputs, due = count_groups(np.empty(0), outcomes.expectation), 0
    labelled = [batches.schema.empty_table().select(kept)]
    arrived = np.zeros(SLOTS, dtype=int)
    for batch in batches:
        rows, answered_by = reader.read(batch), batch.column(RELEASE).to_pylist()
        times = batch.column(TIME).to_numpy(zero_copy_only=False)
        builder.add(rows)
        arrived += slots_of(window, times)
        served.update(answered_by)
        own = np.array([version == release.version for version in answered_by], dtype=bool)
        output = logged_output(rows, outcomes.output, contract)
        outputs += count_groups(output[own], outcomes.expectation)
        due += int((times[own] <= due_until).sum())
        known = batch.filter(batch.column(LABEL).is_valid()).select(kept)
        labelled.append(pa.Table.from_batches([known]))
    return SeenWindow(
        builder.profile(),
        dict(served.most_common()),
        tuple(arrived.tolist()),
        repeated_ids,
        pa.concat_tables(labelled).to_pandas(),
        outputs,
        due,
    )


def judge_window(
    config: ModelConfig,
    release: JudgedRelease,
    window: Window,
    seen: SeenWindow,
    as_of: datetime,
    *,
    before: Sequence[WindowShares],
    former: Sequence[WindowRecord],
    told: Sequence[PerformanceVerdict] = (),
) -> WindowRecord:
    """Judge quality, drift and performance of one window by the labels known at `as_of`.

    Args:
        before: what windows looked like while nothing was wrong, as `baseline.yardstick` has it.
        former: records of the last `FORMER` windows before this one, whoever answered them.
        told: what labels told of the windows that lead up to this one, as `leading_up` has it.
    """
    policy, metric = config.monitoring, find_metric(config.evaluation.primary_metric, config.task)
    reference, outcomes = release.reference, release.outcomes
    usual = _usual(window, former)
    due = seen.labelled[seen.labelled[TIME] <= _due_until(as_of, outcomes)]
    performance = _performance(config, release, metric, seen, due, told)
    likely = estimate(
        metric, outcomes.expectation, seen.outputs, release.promised, performance.limit
    )
    # An estimate of all rows is not held against the labels of the oldest ones.
    likely = likely.confronted(performance.realized if performance.mature else None)
    untold = performance.outcome is PerformanceOutcome.TOO_FEW_LABELS
    alarm = policy.performance.alert_on_estimate and untold and likely.beyond
    return WindowRecord(
        window=window,
        release=release.version,
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
            spreads=usual_spreads(before),
        ),
        drift=judge_drift(
            reference,
            seen.profile,
            DriftPolicy(false_alarms=policy.false_alarms.rate, min_rows=policy.min_rows),
            before=before,
            last=quiet_eve(window, release.version, former),
            relevance=relevance(reference),
        ),
        arrived=seen.arrived,
        shares=window_shares(reference, seen.profile),
        performance=performance,
        estimate=likely.model_copy(update={"alarm": alarm}),
        due_at=window.end + outcomes.label_delay,
        realized=_realized(metric, due, release.contract),
    )


def leading_up(window: Window, served: Sequence[WindowRecord]) -> tuple[PerformanceVerdict, ...]:
    """Return what labels told of the windows that lead up to one without a gap, oldest first.

    `served` are records of former windows that are judged by the same release, oldest first.
    """
    told, begins = list[PerformanceVerdict](), window.start
    for record in reversed(served[1 - TOGETHER :]):
        if record.window.end != begins:
            break
        told.append(record.performance)
        begins = record.window.start
    return tuple(reversed(told))


def _kept(release: JudgedRelease) -> list[str]:
    """Return the columns that are kept of rows with a label."""
    names = [TIME, RELEASE, PREDICTION, *_probability_names(release.contract)]
    return names + [name for name in release.outcomes.columns if name not in names]


def _due_until(as_of: datetime, outcomes: OutcomeReference) -> datetime:
    """Return up to which event time labels are due."""
    return as_utc(as_of) - outcomes.label_delay


def _performance(
    config: ModelConfig,
    release: JudgedRelease,
    metric: Metric,
    seen: SeenWindow,
    due: pd.DataFrame,
    told: Sequence[PerformanceVerdict],
) -> PerformanceVerdict:
    """Judge what labels say of a release's own rows; `due` are the labelled ones that count."""
    contract, version, outcomes = release.contract, release.version, release.outcomes
    own = due[due[RELEASE] == version]
    truth = as_truth(own[LABEL], contract)
    predicted = logged_outcomes(own, contract).for_metric(metric)
    asked = config.monitoring.performance
    policy = PerformancePolicy(
        min_labels=min(100, config.monitoring.min_rows),
        tolerance=tolerated(metric, release.promised, release.naive, asked.tolerance),
        confidence=config.evaluation.confidence,
        alert_on_slices=asked.alert_on_slices,
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
        promised=release.promised,
        policy=policy,
        due=seen.due,
        early=int((seen.labelled[RELEASE] == version).sum()) - len(own),
        slices=compare_slices(metric, slices, outcomes.slices, policy.tolerance),
        before=told,
    )


class _Usual(NamedTuple):
    """How many rows the windows before had."""

    rows: float | None
    """Their median; None where too few are known."""
    arrived: list[tuple[int, ...]]
    """In their parts, of those that are as long and had no gap."""


def _usual(window: Window, former: Iterable[WindowRecord]) -> _Usual:
    records = list(former)
    whole = [r for r in records if QualityCheck.GAP not in {f.check for f in r.quality.findings}]
    length = window.end - window.start
    alike = [r.arrived for r in whole if r.window.end - r.window.start == length and r.arrived]
    return _Usual(median(r.rows for r in records) if len(records) >= 3 else None, alike)


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
