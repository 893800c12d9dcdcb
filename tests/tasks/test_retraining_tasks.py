"""Is a retraining decided on once for one window and cause, and counted when it was killed?"""

from __future__ import annotations

from datetime import timedelta

import pytest

from modelyard.adapters.workspace import Workspace
from modelyard.domain.deliveries import DeliveryOutcome
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.releases import ReleaseState
from modelyard.domain.retraining import RetrainingCause, RetrainingDecision, RetrainingVerdict
from modelyard.errors import UnknownReleaseError
from tasks.monitoring import find_due_windows, measure_window, record_window
from tasks.retraining import decide_to_retrain, note_outcome
from tests.projects import FIRST, MODEL, SECOND, WEEK, build, load_labels

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
    champion = degraded.ledger.champion(MODEL)
    assert champion is not None
    trained_until = champion.learnt.span.end
    assert trained_until is not None
    decision = decide_to_retrain.fn(MODEL, CAUSE, trained_until + timedelta(hours=12))
    assert decision.verdict is RetrainingVerdict.WAIT
    assert failed_rules(decision) == {"new labels"}


def test_a_quiet_model_waits_and_a_person_may_insist(monitored: Workspace) -> None:
    assert decide_to_retrain.fn(MODEL, CAUSE, SECOND).verdict is RetrainingVerdict.WAIT
    person = decide_to_retrain.fn(MODEL, RetrainingCause.PERSON, SECOND)
    assert person.verdict is RetrainingVerdict.RETRAIN
    assert "@" in person.reasons[0].words


def test_a_model_that_was_never_released_cannot_be_retrained(workspace: Workspace) -> None:
    with pytest.raises(UnknownReleaseError, match="modelyard deliver rides"):
        decide_to_retrain.fn(MODEL, RetrainingCause.PERSON, SECOND)
    assert workspace.ledger.decisions(MODEL) == ()
