"""A service lives day after day, and its faults come as scheduled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from benchmarks.claims import console
from benchmarks.faults_processes import Outcome, retrain
from benchmarks.faults_schedule import IN_PLATFORM, Fault, Way, is_to_learn
from benchmarks.faults_world import DAY, FIRST, Kind
from benchmarks.faults_yard import MODEL, Yard, full_disk
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.retraining import RetrainingDecision, RetrainingVerdict
from modelyard.errors import ModelYardError, RolloutError

SCHEDULED_DAYS = 7
"""A retraining is asked for by the schedule so often."""


@dataclass(frozen=True)
class Retrained:
    """One retraining that the controller began."""

    day: int
    decision: RetrainingDecision
    before: str
    after: str
    """The champion's version: the same where it was kept."""


@dataclass
class Life:
    """What was seen, decided and done, day by day."""

    records: dict[int, list[WindowRecord]] = field(default_factory=dict)
    """What monitoring measured at the end of a day: the day itself, and days before it again."""
    decisions: dict[int, list[RetrainingDecision]] = field(default_factory=dict)
    retrained: list[Retrained] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """Of the faults that are about processes, by the day of the fault."""


def live(made: Yard, faults: Sequence[Fault], days: int) -> Life:
    """Let so many days pass."""
    life = Life()
    begun = time.monotonic()
    for day in range(days):
        fault = next((f for f in reversed(faults) if f.change.day <= day), None)
        begins = fault if fault is not None and fault.change.day == day else None
        if begins is not None and begins.change.kind is Kind.DISK:
            life.outcomes[day] = _fill_disk(made, day)
        if begins is not None and begins.change.kind is Kind.BROKEN:
            life.outcomes[day] = _deliver_broken(made, day)
        made.send(day)
        now = FIRST + (day + 1) * DAY
        made.load_labels(now)
        life.records[day] = made.monitor(now)
        _retrain(made, life, day, fault)
        if begins is not None:
            seconds = time.monotonic() - begun
            console.print(f"day {day}: {begins.name} ({seconds:.0f} s so far)", style="dim")
    return life


def _retrain(made: Yard, life: Life, day: int, fault: Fault | None) -> None:
    """Ask the controller about a day, and do what it says in the way that the fault has."""
    untried = fault is not None and fault.way and fault.change.day not in life.outcomes
    way = fault.way if fault is not None and fault.way and untried else Way.FLOW
    missed = made.missed() if way in IN_PLATFORM else None
    if missed is not None:
        asked = [missed]  # the platform's own automations and reconciliation decide on it
    else:
        asked = life.decisions[day] = made.ask(life.records[day])
    for decision in asked:
        if decision.verdict is RetrainingVerdict.RETRAIN:
            _deliver(made, life, day, fault, way, decision)
    missed = made.missed()  # what an event asked for too early is due later, without one
    if missed is not None:
        _deliver(made, life, day, fault, way, missed)
    if day % SCHEDULED_DAYS == SCHEDULED_DAYS - 1:
        decision = made.ask_by_schedule(FIRST + (day + 1) * DAY)
        if decision.verdict is RetrainingVerdict.RETRAIN:
            _deliver(made, life, day, None, Way.FLOW, decision)


def _deliver(
    made: Yard, life: Life, day: int, fault: Fault | None, way: Way, decision: RetrainingDecision
) -> None:
    before = str(made.champion.version)
    with made.sending(day + 1):
        outcome = retrain(made, decision, way)
    life.retrained.append(Retrained(day, decision, before, str(made.champion.version)))
    if fault is not None and is_to_learn(fault):
        life.outcomes.setdefault(fault.change.day, outcome)


def _fill_disk(made: Yard, day: int) -> Outcome:
    """Let the disk be full for the middle of a day, and while its windows are to be measured."""
    if made.disk is None:
        return Outcome(None, "not tried: no file system may be mounted here")
    now = FIRST + (day + 1) * DAY
    made.send(day, 0.3)
    with full_disk(made.disk):
        made.send(day, 0.6)
        try:
            made.monitor(now)
            words = "monitoring ran"
        except (OSError, DBAPIError, ModelYardError) as err:
            words = f"monitoring failed: {str(err).splitlines()[0][:60]}"
    begun = time.monotonic()
    made.send(day)
    made.monitor(now)
    return Outcome(time.monotonic() - begun, words)


def _deliver_broken(made: Yard, day: int) -> Outcome:
    """Let a person deliver another recipe, which starts in no replica."""
    from flows.model_delivery import deliver_model

    before = str(made.champion.version)
    made.configure(broken=True)
    begun = time.monotonic()
    try:
        with made.sending(day):
            outcome = deliver_model(MODEL, reason="another recipe", as_of=FIRST + day * DAY)
        words = "promoted" if outcome.version else "not tried: the gate kept the champion"
    except RolloutError as err:
        words = f"aborted: {str(err).partition(';')[0]}"
    finally:
        made.configure()
    goes_on = str(made.champion.version) == before
    return Outcome(
        time.monotonic() - begun, f"{words}; {'the champion' if goes_on else 'it'} serves"
    )
