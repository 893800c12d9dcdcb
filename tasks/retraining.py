"""Is it right to retrain now?"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid5

import pandas as pd

from modelyard.adapters.controlling import asks_for_retraining, retraining_policy
from modelyard.adapters.data.selection import select_rows
from modelyard.adapters.data.sources import labelled, read_rows
from modelyard.adapters.notifications import send_waiting
from modelyard.adapters.pages import artifact_key, decision_page
from modelyard.adapters.prefect.events import emit_event
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.causes import RetrainingCause, drifts_since
from modelyard.domain.deliveries import DeliveryOutcome
from modelyard.domain.incidents import going_on_notice, stopped_notice
from modelyard.domain.learning_rows import change_to_learn_from, restrict_rows
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.releases import UNFINISHED, Release, ReleaseState
from modelyard.domain.retraining import (
    RetrainingDecision,
    RetrainingState,
    RetrainingVerdict,
    decide_retraining,
    kept_in_a_row,
)
from modelyard.errors import ConflictError, DataError, UnknownReleaseError
from modelyard.ledger import Description, Incident, RecordedDecision, acting_person


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
    decision = _decide(workspace, model, cause, as_of)
    key = decision.key if decision.verdict is RetrainingVerdict.RETRAIN else None
    workspace.ledger.decide(
        key or _passing_key(model, decision),
        model,
        decision.verdict,
        decision.model_dump(mode="json"),
        decision.as_of or datetime.now(UTC),
    )
    page = decision_page(model, decision)
    publish_page(artifact_key("retraining", model), page, f"Retraining: {decision.verdict}")
    return decision


@step("Look for a lost event")
def find_missed_retraining(model: str) -> RetrainingDecision | None:
    """Return the retraining that an event should have started and none has, if there is one.

    What is decided here is not recorded: whoever retrains asks again. It goes by the newest window
    and not by the clock, as its event would have.
    """
    workspace = Workspace.find()
    champion = workspace.ledger.champion(model)
    records = _records(workspace, champion) if champion is not None else []
    if not records:
        return None
    now = records[-1].window.end
    if not asks_for_retraining(records, workspace.project.model(model), now):
        return None  # in most hours: no row need be read
    decision = _decide(workspace, model, None, now)
    return decision if decision.verdict is RetrainingVerdict.RETRAIN else None


@step("Note outcome")
def note_outcome(decision: RetrainingDecision, outcome: DeliveryOutcome) -> None:
    """Link the decision with the delivery that came of it."""
    if decision.key is not None:
        Workspace.find().ledger.link_decision(decision.key, outcome.delivery_id)


@step("Look at the circuit breaker")
def watch_circuit(model: str) -> bool:
    """Open the incident about retrainings that keep the champion, or resolve it; say if it is open.

    Idempotent: there is one incident until a person lets the controller go on, or a release is
    promoted.
    """
    workspace, now, cause = Workspace.find(), datetime.now(UTC), IncidentCause.RETRAINING
    ledger, policy = workspace.ledger, retraining_policy(workspace.project.model(model))
    kept = _kept(workspace, model)
    is_open = [incident for incident in ledger.incidents(model) if incident.cause == cause]
    if kept >= policy.max_kept and not is_open:
        describe = partial(_describe_stop, model, kept)
        raised, _ = ledger.raise_incident(model, cause, now, describe, now=now)
        emit_event(cause.event, model, {"kept": kept}, str(uuid5(UUID(raised.id), "stopped")))
    elif kept < policy.max_kept and is_open:
        emit_event("modelyard.recovered", model, {}, str(uuid5(UUID(is_open[0].id), "recovered")))
        ledger.resolve_incident(model, cause, now, lambda _: going_on_notice(model), now=now)
    send_waiting(workspace, model)
    return kept >= policy.max_kept


def _describe_stop(model: str, kept: int, _was: Incident | None) -> Description:
    reasons = [f"{kept} retrainings in a row kept the champion"]
    return Description(details={"reasons": reasons}, notice=stopped_notice(model, kept))


def _decide(
    workspace: Workspace, model: str, cause: RetrainingCause | None, as_of: datetime | None
) -> RetrainingDecision:
    """Ask the controller about the state as it is; without a cause, what the windows say."""
    config, policy = (
        workspace.project.model(model),
        retraining_policy(workspace.project.model(model)),
    )
    champion = workspace.ledger.champion(config.name)
    if champion is None:
        raise UnknownReleaseError(
            f"{config.name} has no release to retrain. `modelyard deliver {config.name}` makes one."
        )
    records = _records(workspace, champion)
    if as_of is not None and records:
        # an event about a window that was measured again comes after newer ones
        as_of = max(as_of, records[-1].window.end)
    now = as_of or datetime.now(UTC)
    state = _state(workspace, config, champion, records, cause, now)
    decision = decide_retraining(state, policy, now).model_copy(update={"as_of": as_of})
    change = change_to_learn_from(state, policy, decision.cause)
    if change is None or decision.verdict is not RetrainingVerdict.RETRAIN:
        return decision
    rows = _training_rows(workspace, config, now, change)
    return restrict_rows(decision, change, rows, config.data.checks.min_rows)


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


def _state(
    workspace: Workspace,
    config: ModelConfig,
    champion: Release,
    records: list[WindowRecord],
    cause: RetrainingCause | None,
    now: datetime,
) -> RetrainingState:
    finished = [d for d in workspace.ledger.decisions(config.name) if d.release_id is not None]
    windows = tuple(record.judged() for record in records)
    rows = read_rows(config.data, root=workspace.project.root, until=now, task=config.task)
    rows = labelled(rows, config.data.target)
    since, time = drifts_since(windows), config.data.time
    return RetrainingState(
        model=config.name,
        windows=windows,
        requested_by=acting_person() if cause is RetrainingCause.PERSON else None,
        scheduled=cause is RetrainingCause.SCHEDULE and config.retraining.schedule is not None,
        retrainings=_trained_at(workspace, finished),
        new_labels=_new_labels(config, champion, rows),
        drift_labels=int((rows[time] >= since).sum()) if since and time else None,
        learnt_since=champion.delivery.since,
        delivery_running=_delivery_running(workspace, config.name),
        kept_in_a_row=_kept(workspace, config.name),
        decided=frozenset(d.key for d in finished),
    )


def _trained_at(workspace: Workspace, finished: list[RecordedDecision]) -> tuple[datetime, ...]:
    """Return when retrainings began that trained something: rows that may not be learnt cost none.

    One that was asked for twice, since it was interrupted, is one.
    """
    began = {d.release_id: d.at for d in finished if d.release_id is not None}
    return tuple(
        at
        for release_id, at in began.items()
        if workspace.ledger.release_by_id(release_id).payload(ReleaseState.TRAINED) is not None
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


def _new_labels(config: ModelConfig, champion: Release, rows: pd.DataFrame) -> int:
    """Count the labelled rows that are newer than those the champion learnt."""
    learnt_until = champion.learnt.span.end
    if config.data.time is None or learnt_until is None:
        known = champion.delivery.training.rows + champion.delivery.holdout.rows
        return max(0, len(rows) - known)
    return int((rows[config.data.time] > learnt_until).sum())


def _training_rows(
    workspace: Workspace, config: ModelConfig, now: datetime, since: datetime
) -> int:
    """Count the rows since a change that would be trained on, beside the holdout's."""
    if config.data.time is None:
        return 0
    try:
        selection = select_rows(config, workspace.project.root, now, since=since)
    except DataError:  # too few to split
        return 0
    return int(selection.training.sum())


def _kept(workspace: Workspace, model: str) -> int:
    """Count the retrainings that kept the champion since a person said to go on."""
    ledger = workspace.ledger
    made = [d for d in ledger.decisions(model) if d.release_id is not None]
    by_person = {d.release_id for d in made if d.decision["cause"] == RetrainingCause.PERSON}
    releases = ledger.releases(model)
    looked_at = [release.opened_at for release in releases if release.id in by_person]
    looked_at += [
        incident.resolved_at
        for incident in ledger.incidents(model, open_only=False)
        if incident.cause == IncidentCause.RETRAINING and incident.resolved_at is not None
    ]
    asked_by = {d.release_id for d in made} - by_person
    return kept_in_a_row(
        releases, {i for i in asked_by if i is not None}, max(looked_at, default=None)
    )
