"""What do all rules of the gate say about one comparison?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from modelyard.adapters.learning.judging import Comparison, Judged
from modelyard.adapters.learning.measuring import (
    Slices,
    measure,
    measure_gain,
    measure_gains,
    measure_slices,
)
from modelyard.adapters.learning.scorers import find_metrics
from modelyard.config import Evaluation
from modelyard.domain.gate import (
    Gated,
    Proof,
    Rule,
    decide,
    judge_budget,
    judge_calibration,
    judge_gain,
    judge_news,
    judge_overlap,
    judge_rows,
    judge_slices,
    judge_thresholds,
    refuse,
)
from modelyard.domain.metrics import Interval, Metric, metrics_for
from modelyard.errors import InvalidInputError

_CALIBRATION = "calibration_error"


class Named(Protocol):
    """A release, as the gate's decision names it."""

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> str | None: ...


def judge(comparison: Comparison, champion: Named | None, evaluation: Evaluation) -> Gated:
    """Measure everything that the rules ask for, and fold them into the gate's decision."""
    task, truth = comparison.contract.task, comparison.truth
    metrics = {metric.name: metric for metric in metrics_for(task)}
    metrics |= find_metrics(evaluation, task)
    primary = metrics[evaluation.primary_metric]
    level = evaluation.confidence
    measured = measure(comparison.challenger.outcomes, truth, list(metrics.values()), level)
    former = {} if comparison.champion is None else _values(comparison, comparison.rival, metrics)
    gains = measure_gains(comparison, metrics, level)
    slices = measure_slices(comparison, primary, evaluation.slices, level)
    rules = [
        *([judge_news(comparison.rows_are_new, comparison.recipe_is_new)] if champion else []),
        judge_rows(comparison.seen, len(truth), evaluation.min_rows),
        judge_overlap(comparison.shared),
        *_thresholds(measured, evaluation),
        _comparison(comparison, primary, gains, evaluation),
        *_slices(comparison, slices, evaluation),
        *_calibration(measured, former, gains, evaluation),
        *_budgets(comparison, evaluation),
    ]
    return Gated(
        decision=decide(rules, evaluation.inconclusive),
        metrics=measured,
        champion_id=champion.id if champion else None,
        champion_version=champion.version if champion else None,
        champion_metrics=former,
        naive_metrics=_values(comparison, comparison.baseline, metrics),
        gains=gains,
        slices=slices.measured,
    )


def refused(reason: str, champion: Named | None) -> Gated:
    """Return the gate's decision on a challenger that cannot be measured."""
    return Gated(
        decision=decide([refuse(reason)]),
        metrics={},
        champion_id=champion.id if champion else None,
        champion_version=champion.version if champion else None,
        champion_metrics={},
    )


def _values(comparison: Comparison, model: Judged, metrics: dict[str, Metric]) -> dict[str, float]:
    """Return a model's metrics; those undefined on these rows are left out."""
    values = {}
    for name, metric in metrics.items():
        if metric.needs_score and model.outcomes.scores is None:
            continue
        try:
            value = metric(comparison.truth, model.outcomes.for_metric(metric))
        except InvalidInputError:
            continue
        if math.isfinite(value):
            values[name] = value
    return values


def _thresholds(measured: dict[str, Interval], evaluation: Evaluation) -> tuple[Rule, ...]:
    limits = {name: (bound.min, bound.max) for name, bound in evaluation.thresholds.items()}
    values = {name: measured[name].value if name in measured else float("nan") for name in limits}
    return judge_thresholds(values, limits)


def _comparison(
    comparison: Comparison,
    metric: Metric,
    gains: dict[str, Interval],
    evaluation: Evaluation,
) -> Rule:
    rival = comparison.rival
    # What could not be measured beside the champion says why when it is asked for again.
    gain = gains.get(metric.name) or measure_gain(comparison, rival, metric, evaluation.confidence)
    if comparison.champion is None:
        rule = judge_gain(rival.name, metric.name, gain, Proof.BETTER)
        note = comparison.champion_note
        return rule.model_copy(update={"reason": f"{note}; {rule.reason}"}) if note else rule
    proof = evaluation.new_recipe if comparison.recipe_is_new else evaluation.refit
    size = abs(metric(comparison.truth, rival.outcomes.for_metric(metric)))
    return judge_gain(
        rival.name,
        metric.name,
        gain,
        proof,
        least=evaluation.min_gain * size,
        margin=evaluation.margin * size,
    )


def _slices(comparison: Comparison, slices: Slices, evaluation: Evaluation) -> Iterator[Rule]:
    if evaluation.slices and comparison.champion is not None:
        yield judge_slices(slices.measured, evaluation.slice_margin, slices.skipped)


def _calibration(
    measured: dict[str, Interval],
    former: dict[str, float],
    gains: dict[str, Interval],
    evaluation: Evaluation,
) -> Iterator[Rule]:
    margin = evaluation.calibration_margin
    if margin is not None and _CALIBRATION in gains and _CALIBRATION in measured:
        yield judge_calibration(
            gains[_CALIBRATION], measured[_CALIBRATION].value, former[_CALIBRATION], margin
        )


def _budgets(comparison: Comparison, evaluation: Evaluation) -> Iterator[Rule]:
    if evaluation.max_latency_ms is not None:
        taken = float("nan") if comparison.latency_ms is None else comparison.latency_ms
        yield judge_budget("prediction latency", taken, evaluation.max_latency_ms, "ms a row")
    if evaluation.max_model_size is not None:
        yield judge_budget(
            "model size", comparison.model_bytes / 2**20, evaluation.max_model_size / 2**20, "MiB"
        )
