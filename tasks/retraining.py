"""Is it right to retrain now?"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from modelyard.adapters.data.sources import labelled, read_rows
from modelyard.adapters.pages import artifact_key, decision_page
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.deliveries import DeliveryOutcome
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.releases import UNFINISHED, Release, ReleaseState
from modelyard.domain.retraining import (
    RetrainingCause,
    RetrainingDecision,
    RetrainingPolicy,
    RetrainingState,
    RetrainingVerdict,
    decide_retraining,
)
from modelyard.errors import ConflictError, UnknownReleaseError
from modelyard.ledger import acting_person


@step("Decide")
def decide_to_retrain(
    model: str, cause: RetrainingCause, as_of: datetime | None = None
) -> RetrainingDecision:
    """Ask the controller, and store what it decided under the decision's key.

    Idempotent by model, window and cause. A retraining that was decided on and interrupted before
    its delivery ended is decided on again, and its delivery goes on; one that was interrupted
    after its delivery ended counts as done.
    """
    workspace = Workspace.find()
    _link_ended(workspace, model)
    config = workspace.project.model(model)
    now = as_of or datetime.now(UTC)
    state = _state(workspace, config, cause, now)
    decision = decide_retraining(state, _policy(config), now)
    key = decision.key if decision.verdict is RetrainingVerdict.RETRAIN else None
    workspace.ledger.decide(
        key or _passing_key(model, decision),
        model,
        decision.verdict,
        decision.model_dump(mode="json"),
        now,
    )
    page = decision_page(model, decision)
    publish_page(artifact_key("retraining", model), page, f"Retraining: {decision.verdict}")
    return decision


@step("Note outcome")
def note_outcome(decision: RetrainingDecision, outcome: DeliveryOutcome) -> None:
    """Link the decision with the delivery that came of it."""
    if decision.key is not None:
        Workspace.find().ledger.link_decision(decision.key, outcome.delivery_id)


def _link_ended(workspace: Workspace, model: str) -> None:
    """Link the decisions whose run was killed after its delivery ended and before it was noted."""
    ended = {
        release.delivery.reason: release.id
        for release in workspace.ledger.releases(model)
        if release.state not in UNFINISHED
    }
    for made in workspace.ledger.decisions(model):
        if made.verdict == RetrainingVerdict.RETRAIN and made.release_id is None:
            reason = RetrainingDecision.model_validate(made.decision).delivery_reason
            if reason in ended:
                workspace.ledger.link_decision(made.key, ended[reason])


def _passing_key(model: str, decision: RetrainingDecision) -> str:
    """Return the key of a decision that started nothing: kept once a window and verdict."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{model}|{decision.window_id}|{decision.verdict}"))


def _policy(config: ModelConfig) -> RetrainingPolicy:
    rules = config.retraining
    return RetrainingPolicy(
        on=frozenset(RetrainingCause(cause) for cause in rules.on),
        k=rules.windows.k,
        n=rules.windows.n,
        cooldown=rules.cooldown,
        budget=rules.budget.count,
        budget_period=rules.budget.period,
        min_new_labels=rules.min_new_labels,
    )


def _state(
    workspace: Workspace, config: ModelConfig, cause: RetrainingCause, now: datetime
) -> RetrainingState:
    champion = workspace.ledger.champion(config.name)
    if champion is None:
        raise UnknownReleaseError(
            f"{config.name} has no release to retrain. `modelyard deliver {config.name}` makes one."
        )
    decisions = workspace.ledger.decisions(config.name)
    finished = [d for d in decisions if d.release_id is not None]
    return RetrainingState(
        model=config.name,
        windows=tuple(record.judged() for record in _records(workspace, champion)),
        requested_by=acting_person() if cause is RetrainingCause.PERSON else None,
        scheduled=cause is RetrainingCause.SCHEDULE and config.retraining.schedule is not None,
        # A retraining that was asked for twice, since it was interrupted, is one.
        retrainings=tuple({d.release_id: d.at for d in finished}.values()),
        new_labels=_new_labels(workspace, config, champion, now),
        delivery_running=_delivery_running(workspace, config.name),
        kept_in_a_row=_kept_in_a_row(workspace.ledger.releases(config.name)),
        decided=frozenset(d.key for d in finished),
    )


def _delivery_running(workspace: Workspace, model: str) -> str | None:
    """Return the id of a delivery that somebody holds; an interrupted one is held by nobody."""
    unfinished = workspace.ledger.unfinished(model)
    if unfinished is None:
        return None
    try:
        with workspace.ledger.lock(model):
            return None
    except ConflictError:
        return unfinished.id


def _records(workspace: Workspace, champion: Release) -> list[WindowRecord]:
    records = [
        WindowRecord.model_validate(w.record)
        for w in workspace.ledger.windows(champion.model, last=200)
    ]
    return [record for record in records if record.release == champion.version]


def _new_labels(workspace: Workspace, config: ModelConfig, champion: Release, now: datetime) -> int:
    """Count the labelled rows that are newer than those the champion learnt."""
    rows = read_rows(config.data, root=workspace.project.root, until=now, task=config.task)
    rows = labelled(rows, config.data.target)
    learnt_until = champion.learnt.span.end
    if config.data.time is None or learnt_until is None:
        known = champion.delivery.training.rows + champion.delivery.holdout.rows
        return max(0, len(rows) - known)
    return int((rows[config.data.time] > learnt_until).sum())


def _kept_in_a_row(releases: tuple[Release, ...]) -> int:
    kept = 0
    for release in reversed(releases):
        if release.state is ReleaseState.KEPT_CHAMPION:
            kept += 1
        elif release.state is not ReleaseState.ABORTED:
            break
    return kept
