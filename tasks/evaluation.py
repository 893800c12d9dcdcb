"""Should the challenger replace the champion?"""

from __future__ import annotations

from modelyard.adapters.learning.judging import (
    Comparison,
    Judged,
    compare,
    measure_gain,
    measure_gains,
    measure_slices,
)
from modelyard.adapters.pages import artifact_key, gate_page
from modelyard.adapters.pictures.gate_plots import gate_figures
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.workspace import Workspace
from modelyard.config import Evaluation
from modelyard.domain.gate import (
    Gated,
    GateVerdict,
    Rule,
    decide,
    judge_gain,
    judge_news,
    judge_rows,
    judge_thresholds,
)
from modelyard.domain.metrics import get_metric
from modelyard.domain.releases import Candidate, Delivery, Release, ReleaseState
from modelyard.errors import DataError, InvalidInputError


@step("Gate")
def gate_candidate(delivery: Delivery, candidate: Candidate, dry_run: bool = False) -> Gated:
    """Compare challenger and champion on the newest rows, and record what the gate decided.

    Idempotent by the delivery. A dry run measures and shows, and ends the delivery there.
    """
    workspace = Workspace.find()
    done = _recorded(workspace.ledger.release_by_id(delivery.id))
    if done is not None:
        return done
    champion = workspace.ledger.champion(delivery.model)
    config = workspace.project.model(delivery.model)
    try:
        comparison = compare(workspace, delivery, candidate, champion, config.evaluation.confidence)
        gated = judge(delivery, candidate, champion, comparison, config.evaluation)
    except DataError:  # the rows are gone or were changed: that says nothing about the challenger
        raise
    except InvalidInputError as err:
        gated = _refused(str(err), champion)
    else:
        _show(workspace, delivery, candidate, comparison, gated, config.evaluation)
    state, why = ReleaseState.KEPT_CHAMPION, "; ".join(gated.decision.reasons)
    if dry_run:
        state, why = ReleaseState.ABORTED, f"dry run; {why}"
    elif gated.promotes:
        state = ReleaseState.GATED
    workspace.ledger.record(delivery.id, state, gated, why=why)
    return gated


def judge(
    delivery: Delivery,
    candidate: Candidate,
    champion: Release | None,
    comparison: Comparison,
    evaluation: Evaluation,
) -> Gated:
    """Fold all rules over one comparison."""
    metric = get_metric(evaluation.primary_metric)
    rival = comparison.champion or comparison.baseline
    challenger = comparison.challenger
    limits = {name: (bound.min, bound.max) for name, bound in evaluation.thresholds.items()}
    values = {name: interval.value for name, interval in challenger.metrics.items()}
    rules = [
        *([] if champion is None else [_rule_of_news(delivery, candidate, champion)]),
        judge_rows(comparison.seen, len(comparison.truth)),
        *judge_thresholds({name: values.get(name, float("nan")) for name in limits}, limits),
        _rule_of_gain(comparison, rival, evaluation, metric.name),
    ]
    former = {} if comparison.champion is None else comparison.champion.metrics
    return Gated(
        decision=decide(rules),
        metrics=challenger.metrics,
        champion_id=champion.id if champion else None,
        champion_version=champion.version if champion else None,
        champion_metrics={name: interval.value for name, interval in former.items()},
        gains=measure_gains(comparison, evaluation.confidence),
        slices=measure_slices(comparison, metric, evaluation.slices),
    )


def _rule_of_news(delivery: Delivery, candidate: Candidate, champion: Release) -> Rule:
    return judge_news(
        delivery.training.fingerprint != champion.delivery.training.fingerprint,
        candidate.recipe != champion.candidate.recipe,
    )


def _rule_of_gain(
    comparison: Comparison, rival: Judged, evaluation: Evaluation, metric_name: str
) -> Rule:
    gain = measure_gain(comparison, rival, get_metric(metric_name), evaluation.confidence)
    if comparison.champion is None:
        return judge_gain(rival.name, metric_name, gain, 0.0)
    before = rival.metrics[metric_name].value if metric_name in rival.metrics else 0.0
    return judge_gain(rival.name, metric_name, gain, 0.0 - evaluation.margin * abs(before))


def _refused(reason: str, champion: Release | None) -> Gated:
    rule = Rule(
        name="measurable", verdict=GateVerdict.KEEP, value=None, limit="finite", reason=reason
    )
    return Gated(
        decision=decide([rule]),
        metrics={},
        champion_id=champion.id if champion else None,
        champion_version=champion.version if champion else None,
        champion_metrics={},
    )


def _recorded(release: Release) -> Gated | None:
    for state in (ReleaseState.GATED, ReleaseState.KEPT_CHAMPION):
        done = release.payload(state)
        if done is not None:
            return Gated.model_validate(done)
    return None


def _show(
    workspace: Workspace,
    delivery: Delivery,
    candidate: Candidate,
    comparison: Comparison,
    gated: Gated,
    evaluation: Evaluation,
) -> None:
    tracking = workspace.tracking
    run = candidate.mlflow_run_id
    figures = gate_figures(comparison, delivery.contract, evaluation.primary_metric)
    tracking.log_metrics(run, {f"holdout_{n}": m.value for n, m in gated.metrics.items()})
    tracking.log_figures(run, figures)
    tracking.log_json(run, gated.model_dump(mode="json"), "gate.json")
    page = gate_page(delivery, gated, figures, tracking.run_page(workspace.tracking_page, run))
    publish_page(artifact_key("gate", delivery.model), page, f"Gate: {gated.decision.verdict}")
