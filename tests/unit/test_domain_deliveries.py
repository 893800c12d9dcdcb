"""Is it said in a few words what came of a retraining?"""

from __future__ import annotations

import pytest

from modelyard.domain.causes import RetrainingCause
from modelyard.domain.deliveries import DeliveryOutcome, Retraining
from modelyard.domain.gate import Gated, GateVerdict, Rule, decide
from modelyard.domain.retraining import RetrainingDecision, RetrainingVerdict


def decided(verdict: RetrainingVerdict) -> RetrainingDecision:
    return RetrainingDecision(
        verdict=verdict, cause=RetrainingCause.DRIFT, window_id="w", key="k", reasons=()
    )


def gated(verdict: GateVerdict) -> Gated:
    rule = Rule(name="better", verdict=verdict, value=1.0, limit="0", reason="so it is")
    return Gated(
        decision=decide([rule]),
        metrics={},
        champion_id=None,
        champion_version=None,
        champion_metrics={},
        gains={},
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({}, "blocked by its training data"),
        ({"gated": gated(GateVerdict.KEEP)}, "retrained, champion kept"),
        ({"gated": gated(GateVerdict.PROMOTE), "version": "1.0.1"}, "retrained as 1.0.1"),
    ],
)
def test_a_retraining_that_brought_nothing_does_not_read_like_one_that_did(
    outcome: dict, words: str
) -> None:
    delivery = DeliveryOutcome(delivery_id="d", model="bikes", **outcome)
    decision = decided(RetrainingVerdict.RETRAIN)
    assert Retraining(decision=decision, delivery=delivery).words == words


def test_without_a_delivery_the_verdict_is_what_happened() -> None:
    assert Retraining(decision=decided(RetrainingVerdict.ALERT_ONLY)).words == "alert only"
