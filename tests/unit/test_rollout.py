"""A rollout goes on, waits, asks or gives up by its rules alone, whoever looks and whenever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.rollout import (
    Action,
    Decision,
    EventKind,
    Look,
    Measurement,
    Phase,
    QueuedDelivery,
    Rollout,
    RolloutEvent,
    Verdict,
    decide,
    fold,
    is_due,
    wanted_fleets,
)
from modelyard.domain.rollout_plan import Plan, Step, Strategy, plan_steps
from modelyard.domain.values import Fleet

BEGIN = datetime(2024, 5, 1, tzinfo=UTC)
BAKE = timedelta(minutes=10)
STEPS = tuple(Step(weight=w, bake=BAKE) for w in (5, 25, 50))


def at(minutes: float) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"strategy": Strategy.CANARY, "steps": STEPS} | changes)


def measured(verdict: Verdict, *, dry_run: bool = False) -> Measurement:
    return Measurement(
        name="errors",
        verdict=verdict,
        value=0.02,
        limit="at most 0.01",
        reason="2 % of 500 requests failed",
        dry_run=dry_run,
    )


def event(kind: EventKind, minutes: float, payload: Any = None, why: str = "") -> RolloutEvent:
    return RolloutEvent(kind=kind, at=at(minutes), by="ada", why=why, payload=payload or {})


def looked(minutes: float, *verdicts: Verdict) -> RolloutEvent:
    look = Look(at=at(minutes), measurements=tuple(map(measured, verdicts)))
    return event(EventKind.LOOKED, minutes, look.model_dump(mode="json"))


def state(*events: RolloutEvent, **changes: Any) -> Rollout:
    started = event(EventKind.STARTED, 0, plan(**changes).model_dump(mode="json"))
    return fold([started, *events])


def after(minutes: float, *events: RolloutEvent, **changes: Any) -> Decision:
    return decide(state(*events, **changes), at(minutes))


def test_a_step_bakes_whatever_is_seen_before_its_time() -> None:
    decision = after(3, looked(2.5, Verdict.SUCCESSFUL))
    assert decision.action is Action.WAIT
    assert decision.look_at == at(3.5)
    assert after(9.9).look_at == at(10)


def test_a_look_from_before_the_end_of_baking_does_not_end_it() -> None:
    assert after(10, looked(9.9, Verdict.SUCCESSFUL)).action is Action.WAIT


def test_a_baked_step_that_looks_good_leads_to_the_next_and_the_last_one_to_all() -> None:
    first = after(10, looked(10, Verdict.SUCCESSFUL, Verdict.SUCCESSFUL))
    assert first.action is Action.ENTER
    assert first.why == "step 1 of 3 (5 %) passed after 1 look"
    steps = [event(EventKind.ENTERED, 10 * n, {"step": n}) for n in (1, 2)]
    assert after(25, *steps).action is Action.WAIT
    assert after(30, *steps, looked(30, Verdict.SUCCESSFUL)).action is Action.PROMOTE


def test_what_fails_is_aborted_at_once_with_the_reason() -> None:
    decision = after(1, looked(1, Verdict.SUCCESSFUL, Verdict.FAILED))
    assert decision.action is Action.ABORT
    assert decision.why == "errors: 2 % of 500 requests failed"


def test_failures_are_forgiven_up_to_the_limit_in_each_step() -> None:
    twice = (looked(1, Verdict.FAILED), looked(2, Verdict.FAILED))
    assert after(2, *twice[:1], failure_limit=1).action is Action.WAIT
    assert after(2, *twice, failure_limit=1).action is Action.ABORT
    stepped = (twice[0], event(EventKind.ENTERED, 10, {"step": 1}), looked(11, Verdict.FAILED))
    assert after(11, *stepped, failure_limit=1).action is Action.WAIT


def test_what_cannot_be_measured_is_forgiven_some_times_in_a_row() -> None:
    errors = [looked(11 + n, Verdict.ERROR) for n in range(5)]
    assert after(15, *errors[:4]).action is Action.WAIT
    assert after(15, *errors[:3], looked(14, Verdict.SUCCESSFUL), errors[4]).action is Action.WAIT
    given_up = after(16, *errors)
    assert given_up.action is Action.ABORT
    assert given_up.why.startswith("could not be measured 5 times in a row")


def test_what_does_not_tell_waits_and_then_a_person_is_asked() -> None:
    unsure = looked(20, Verdict.INCONCLUSIVE)
    assert after(20, unsure).action is Action.WAIT
    assert after(20, unsure, patience=timedelta(minutes=10)).action is Action.PAUSE


def test_a_dry_run_measurement_has_no_consequence() -> None:
    look = Look(at=at(10), measurements=(measured(Verdict.FAILED, dry_run=True),))
    seen = event(EventKind.LOOKED, 10, look.model_dump(mode="json"))
    assert after(10, seen).action is Action.ENTER


def test_a_person_is_waited_for_before_all_of_the_traffic() -> None:
    good = looked(10, Verdict.SUCCESSFUL)
    steps = (Step(weight=50, bake=BAKE), Step(weight=100))
    asked = after(10, good, steps=steps, approval=True)
    assert asked.action is Action.PAUSE
    paused = event(EventKind.PAUSED, 10, {"asks_approval": asked.asks_approval}, why=asked.why)
    waiting = after(500, good, paused, steps=steps, approval=True)
    assert (waiting.action, waiting.why) == (Action.WAIT, asked.why)
    resumed = event(EventKind.RESUMED, 600)
    assert after(600, good, paused, resumed, steps=steps, approval=True).action is Action.ENTER
    last = (event(EventKind.ENTERED, 600, {"step": 1}), looked(601, Verdict.SUCCESSFUL))
    done = after(601, good, paused, resumed, *last, steps=steps, approval=True)
    assert done.action is Action.PROMOTE


def test_a_paused_rollout_that_fails_is_aborted_all_the_same() -> None:
    paused = event(EventKind.PAUSED, 10, why="waits for approval")
    assert after(12, paused, looked(12, Verdict.FAILED)).action is Action.ABORT


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        (EventKind.PROMOTED, Phase.PROMOTING),
        (EventKind.ABORTED, Phase.ABORTING),
        (EventKind.ENDED, Phase.ENDED),
        (EventKind.PAUSED, Phase.PAUSED),
    ],
)
def test_the_phase_is_what_the_last_decision_made_it(kind: EventKind, phase: Phase) -> None:
    assert state(event(kind, 1)).phase is phase


def test_a_history_without_a_beginning_or_with_two_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with its plan"):
        fold([looked(1, Verdict.SUCCESSFUL)])
    with pytest.raises(ValueError, match="twice"):
        state(event(EventKind.STARTED, 1, plan().model_dump(mode="json")))


def test_each_strategy_is_a_list_of_steps() -> None:
    def weights(strategy: Strategy) -> list[int]:
        steps = plan_steps(strategy, weights=(5, 25), bake=BAKE, replicas=3)
        assert {step.bake for step in steps} == {BAKE}
        return [step.weight for step in steps]

    assert weights(Strategy.CANARY) == [5, 25]
    assert weights(Strategy.BLUE_GREEN) == [100]
    assert weights(Strategy.SHADOW) == [0, 100]
    assert weights(Strategy.ROLLING) == [33, 67, 100]


@given(st.lists(st.sampled_from(list(Verdict)), min_size=1, max_size=60), st.floats(0.01, 30.0))
def test_a_rollout_looked_at_by_its_decisions_only_goes_forward(
    verdicts: list[Verdict], late_minutes: float
) -> None:
    events, now = [event(EventKind.STARTED, 0, plan().model_dump(mode="json"))], 0.0
    shares = [5]
    for verdict in verdicts:
        events.append(looked(now, verdict))
        decision = decide(fold(events), at(now))
        if decision.action is Action.ENTER:
            step = fold(events).step + 1
            events.append(event(EventKind.ENTERED, now, {"step": step}))
            shares.append(STEPS[step].weight)
            assert verdict is Verdict.SUCCESSFUL
        elif decision.action is not Action.WAIT:
            failed = verdict in (Verdict.FAILED, Verdict.ERROR)
            assert failed == (decision.action is Action.ABORT)
            break
        now += late_minutes
    assert shares == [5, 25, 50][: len(shares)]


NEW = Fleet(version="2.0.0", bundle="b", digest="d", replicas=4)
FORMER = Fleet(version="1.0.0", bundle="b", digest="d", replicas=4)


def shares(state: Rollout, former: Fleet | None = FORMER) -> list[tuple[str, int, int]]:
    return [(f.version, f.weight, f.replicas) for f in wanted_fleets(state, NEW, former)]


def test_a_canary_has_its_share_and_the_former_release_the_rest() -> None:
    assert shares(state()) == [("1.0.0", 95, 4), ("2.0.0", 5, 4)]
    entered = state(event(EventKind.ENTERED, 11, {"step": 1}))
    assert shares(entered) == [("1.0.0", 75, 4), ("2.0.0", 25, 4)]
    assert shares(state(event(EventKind.PROMOTED, 30))) == [("2.0.0", 100, 4)]
    assert shares(state(event(EventKind.ABORTED, 30))) == [("1.0.0", 100, 4)]


def test_the_former_fleet_stays_ready_while_blue_green_bakes() -> None:
    steps = plan_steps(Strategy.BLUE_GREEN, weights=(), bake=BAKE, replicas=4)
    assert shares(state(steps=steps)) == [("1.0.0", 0, 4), ("2.0.0", 100, 4)]


def test_a_rolling_release_takes_over_replica_by_replica() -> None:
    steps = plan_steps(Strategy.ROLLING, weights=(), bake=BAKE, replicas=4)
    walked = [state(event(EventKind.ENTERED, 11, {"step": n}), steps=steps) for n in range(4)]
    assert [shares(found) for found in walked] == [
        [("1.0.0", 75, 3), ("2.0.0", 25, 1)],
        [("1.0.0", 50, 2), ("2.0.0", 50, 2)],
        [("1.0.0", 25, 1), ("2.0.0", 75, 3)],
        [("2.0.0", 100, 4)],
    ]


def test_a_first_release_has_all_of_the_traffic_and_none_once_it_is_aborted() -> None:
    assert shares(state(), None) == [("2.0.0", 100, 4)]
    assert shares(state(event(EventKind.ABORTED, 1)), None) == []


def test_what_a_person_waves_on_passes_its_step_alone() -> None:
    long_after = 10 + 24 * 60 + 1
    open_yet = looked(long_after, Verdict.INCONCLUSIVE)
    paused = (open_yet, event(EventKind.PAUSED, long_after))
    assert after(long_after, open_yet).action is Action.PAUSE
    assert after(long_after + 1, *paused).action is Action.WAIT
    waved = (*paused, event(EventKind.RESUMED, long_after + 2))
    assert after(long_after + 2, *waved).action is Action.ENTER
    again = long_after + 15
    entered = (*waved, event(EventKind.ENTERED, long_after + 3, {"step": 1}))
    assert after(again, *entered, looked(again, Verdict.INCONCLUSIVE)).action is Action.WAIT


def test_a_look_is_due_when_the_last_one_said_and_no_sooner() -> None:
    assert is_due(state(), at(0))
    seen_once = state(looked(9.8, Verdict.SUCCESSFUL))
    assert not is_due(seen_once, at(9.9))
    assert is_due(seen_once, at(10))  # it has baked
    decided = state(looked(10, Verdict.SUCCESSFUL))
    assert not is_due(decided, at(60))  # who was killed before acting on it, acts on it
    paused = state(looked(10, Verdict.SUCCESSFUL), event(EventKind.PAUSED, 10))
    assert not is_due(paused, at(19))
    assert is_due(paused, at(20))


def test_a_delivery_that_waits_is_remembered() -> None:
    asked = QueuedDelivery(reason="newer rows", bump=None, as_of=None)
    queued = state(event(EventKind.QUEUED, 3, asked.model_dump(mode="json")))
    assert queued.queued == asked
    assert queued.phase is Phase.BAKING
