"""Is a retraining decided on once for one window and cause, and counted when it was killed?"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from modelyard.adapters.workspace import Workspace
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.deliveries import DeliveryOutcome
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.releases import ReleaseState
from modelyard.domain.retraining import RetrainingDecision, RetrainingVerdict
from modelyard.errors import UnknownReleaseError
from tasks.data import open_delivery
from tasks.monitoring import find_due_windows, measure_window, record_window
from tasks.retraining import (
    decide_to_retrain,
    find_missed_retraining,
    note_outcome,
    watch_circuit,
)
from tests.projects import FIRST, MODEL, SECOND, WEEK, build, load_labels, write_config

CAUSE = RetrainingCause.PERFORMANCE


@pytest.fixture
def degraded(monitored: Workspace) -> Workspace:
    """A project whose newest window shows that the champion is worse than promised."""
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    for window in find_due_windows.fn(MODEL, FIRST + 2 * WEEK):
        record: WindowRecord = measure_window.fn(MODEL, window, FIRST + 2 * WEEK)
        record_window.fn(MODEL, record.model_copy(update={"told": True}))
    return monitored


def ended(decision: RetrainingDecision) -> DeliveryOutcome:
    """Deliver as far as the ledger needs it and end there, as a kept champion."""
    built = build(SECOND, decision.delivery_reason)
    return DeliveryOutcome.kept(built.delivery, built.gated)


def failed_rules(decision: RetrainingDecision) -> set[str]:
    return {reason.rule for reason in decision.reasons if not reason.passed}


def test_a_degraded_window_is_retrained_for_and_the_decision_kept_once(degraded: Workspace) -> None:
    decision = decide_to_retrain.fn(MODEL, CAUSE, SECOND)
    assert (decision.verdict, decision.cause) == (RetrainingVerdict.RETRAIN, CAUSE)
    assert decide_to_retrain.fn(MODEL, CAUSE, SECOND) == decision
    (recorded,) = degraded.ledger.decisions(MODEL)
    assert recorded.key == decision.key
    assert RetrainingDecision.model_validate(recorded.decision) == decision


def test_a_retraining_that_ended_is_not_started_again(degraded: Workspace) -> None:
    decision = decide_to_retrain.fn(MODEL, CAUSE, SECOND)
    note_outcome.fn(decision, ended(decision))
    again = decide_to_retrain.fn(MODEL, CAUSE, SECOND)
    assert again.verdict is RetrainingVerdict.WAIT
    assert "once a cause" in failed_rules(again)


def test_a_retraining_killed_before_its_outcome_was_noted_counts_as_ended(
    degraded: Workspace,
) -> None:
    decision = decide_to_retrain.fn(MODEL, CAUSE, SECOND)
    outcome = ended(decision)
    assert decide_to_retrain.fn(MODEL, CAUSE, SECOND).verdict is RetrainingVerdict.RETRAIN
    release = degraded.ledger.release_by_id(outcome.delivery_id)
    degraded.ledger.record(release.id, ReleaseState.ABORTED, release.delivery, why="test")
    assert decide_to_retrain.fn(MODEL, CAUSE, SECOND).verdict is RetrainingVerdict.WAIT
    (noted,) = [d for d in degraded.ledger.decisions(MODEL) if d.verdict == "retrain"]
    assert noted.release_id == outcome.delivery_id


def test_with_too_few_new_labels_it_waits_and_says_so(degraded: Workspace) -> None:
    write_config(degraded.project.root, retraining="min_new_labels: 1000")
    decision = decide_to_retrain.fn(MODEL, CAUSE, SECOND)
    assert decision.verdict is RetrainingVerdict.WAIT
    assert failed_rules(decision) == {"new labels"}


def test_a_quiet_model_waits_and_a_person_may_insist(monitored: Workspace) -> None:
    assert decide_to_retrain.fn(MODEL, CAUSE, SECOND).verdict is RetrainingVerdict.WAIT
    person = decide_to_retrain.fn(MODEL, RetrainingCause.PERSON, SECOND)
    assert person.verdict is RetrainingVerdict.RETRAIN
    assert "@" in person.reasons[0].words


def test_an_estimate_alerts_and_retrains_nothing_until_labels_say_the_same(
    monitored: Workspace,
) -> None:
    moment = FIRST + 2 * WEEK
    for window in find_due_windows.fn(MODEL, moment):
        record: WindowRecord = measure_window.fn(MODEL, window, moment)
        assert record.estimate is not None
        alarmed = record.estimate.model_copy(update={"beyond": True, "alarm": True})
        record = record_window.fn(
            MODEL, record.model_copy(update={"estimate": alarmed, "told": True})
        )
        assert record.causes == (IncidentCause.PERFORMANCE,)
        assert not record.judged().is_labelled

    guessed = decide_to_retrain.fn(MODEL, CAUSE, SECOND)

    assert guessed.verdict is not RetrainingVerdict.RETRAIN
    assert "no window has the labels that tell of performance" in guessed.reasons[0].words
    assert find_missed_retraining.fn(MODEL) is None
    load_labels(monitored, FIRST, moment)
    for window in find_due_windows.fn(MODEL, moment):
        record_window.fn(MODEL, measure_window.fn(MODEL, window, moment))
    assert decide_to_retrain.fn(MODEL, CAUSE, SECOND).verdict is RetrainingVerdict.RETRAIN


def test_a_model_that_was_never_released_cannot_be_retrained(workspace: Workspace) -> None:
    with pytest.raises(UnknownReleaseError, match="modelyard deliver rides"):
        decide_to_retrain.fn(MODEL, RetrainingCause.PERSON, SECOND)
    assert workspace.ledger.decisions(MODEL) == ()


def again(workspace: Workspace, count: int) -> None:
    """Have `count` retrainings that the controller asked for keep the champion."""
    champion = workspace.ledger.champion(MODEL)
    assert champion is not None
    for _ in range(count):
        delivery = champion.delivery.model_copy(update={"id": str(uuid.uuid4())})
        workspace.ledger.open_release(delivery, why="retrain: performance")
        candidate = champion.judged
        workspace.ledger.record(delivery.id, ReleaseState.TRAINED, candidate, why="fitted")
        workspace.ledger.record(delivery.id, ReleaseState.KEPT_CHAMPION, candidate, why="worse")
        key = str(uuid.uuid4())
        record = {"cause": "performance", "verdict": "retrain"}
        workspace.ledger.decide(key, MODEL, "retrain", record, SECOND - timedelta(days=30))
        workspace.ledger.link_decision(key, delivery.id)


def test_champions_kept_again_and_again_open_one_incident_and_wait_for_a_person(
    degraded: Workspace, prefect_server: str
) -> None:
    ledger = degraded.ledger
    again(degraded, 2)
    assert not watch_circuit.fn(MODEL)
    again(degraded, 1)
    assert watch_circuit.fn(MODEL)
    assert watch_circuit.fn(MODEL)
    (incident,) = ledger.incidents(MODEL, open_only=False)
    assert incident.cause == IncidentCause.RETRAINING
    assert incident.resolved_at is None
    decision = decide_to_retrain.fn(MODEL, CAUSE, SECOND)
    assert decision.verdict is RetrainingVerdict.BLOCKED
    assert failed_rules(decision) == {"circuit breaker"}

    now = datetime.now(UTC)
    assert ledger.resolve_incident(MODEL, IncidentCause.RETRAINING, now, now=now)
    assert decide_to_retrain.fn(MODEL, CAUSE, SECOND).verdict is RetrainingVerdict.RETRAIN
    assert not watch_circuit.fn(MODEL)
    again(degraded, 3)
    assert watch_circuit.fn(MODEL)
    assert len(ledger.incidents(MODEL, open_only=False)) == 2


def test_a_retraining_that_its_rows_blocked_costs_neither_cooldown_nor_budget(
    degraded: Workspace,
) -> None:
    write_config(degraded.project.root, retraining="cooldown: 30d, budget: 1 per 30d")
    decision = decide_to_retrain.fn(MODEL, CAUSE, SECOND)
    blocked = open_delivery.fn(MODEL, decision.delivery_reason, SECOND)
    degraded.ledger.record(blocked.id, ReleaseState.ABORTED, blocked, why="rows are not sound")
    assert failed_rules(decide_to_retrain.fn(MODEL, CAUSE, SECOND)) == {"once a cause"}

    person = decide_to_retrain.fn(MODEL, RetrainingCause.PERSON, SECOND)
    trained = build(SECOND, person.delivery_reason).delivery
    degraded.ledger.record(trained.id, ReleaseState.ABORTED, trained, why="test")
    rules = failed_rules(decide_to_retrain.fn(MODEL, CAUSE, SECOND))
    assert rules == {"once a cause", "cooldown", "budget"}


def test_a_retraining_that_a_lost_event_should_have_started_is_found_until_it_ended(
    degraded: Workspace,
) -> None:
    missed = find_missed_retraining.fn(MODEL)
    assert missed is not None
    assert (missed.cause, missed.as_of) == (CAUSE, FIRST + 2 * WEEK)
    assert degraded.ledger.decisions(MODEL) == ()

    decision = decide_to_retrain.fn(MODEL, CAUSE, missed.as_of)
    assert decision.key == missed.key
    note_outcome.fn(decision, ended(decision))
    assert find_missed_retraining.fn(MODEL) is None


def test_nothing_is_missed_of_a_model_without_windows(workspace: Workspace) -> None:
    assert find_missed_retraining.fn(MODEL) is None


def test_an_event_about_an_older_window_is_decided_by_what_is_known_since(
    degraded: Workspace,
) -> None:
    decision = decide_to_retrain.fn(MODEL, CAUSE, FIRST + WEEK)
    assert decision.as_of == FIRST + 2 * WEEK


def test_rows_since_the_located_change_are_what_a_retraining_learns(degraded: Workspace) -> None:
    write_config(degraded.project.root, retraining="rows: since change")
    decision = decide_to_retrain.fn(MODEL, CAUSE, SECOND)
    assert decision.rows_since == FIRST + WEEK

    delivery = open_delivery.fn(MODEL, decision.delivery_reason, SECOND, None, decision.rows_since)
    assert delivery.since == decision.rows_since
    assert delivery.training.span.start == decision.rows_since
    assert delivery.training.rows == 144
