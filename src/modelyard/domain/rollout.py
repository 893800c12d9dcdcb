"""What does a rollout do next?

A rollout is a plan of steps: the share of the traffic that the new release has, and for how long.
What happened so far is folded from its events; every look at it says successful, failed,
inconclusive, or that it could not be measured, and `decide` says what follows. Nobody has to stay
awake in between: whoever looks next, after whatever interruption, decides the same.

The four verdicts and what they lead to are those of Argo Rollouts (analysis runs: failed and error
abort, inconclusive pauses).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import Field

from modelyard.domain.observed import Seen
from modelyard.domain.rollout_plan import Plan, Step
from modelyard.domain.values import Fleet, ServiceStatus, Value


class Verdict(StrEnum):
    """What the analysis says of one measurement, or of one look."""

    SUCCESSFUL = "successful"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    """It could not be measured."""
    FAILED = "failed"


_WHILE_PAUSED = timedelta(minutes=10)
"""A person's answer is heard at once; only looks come no more often."""
_SEVERITY = {verdict: rank for rank, verdict in enumerate(Verdict)}


class Measurement(Value):
    """One thing that is looked at."""

    name: str
    verdict: Verdict
    value: float | None
    limit: str
    reason: str
    dry_run: bool = False
    """Shown, and of no consequence."""


class Look(Value):
    """What all measurements showed at one moment."""

    at: datetime
    measurements: tuple[Measurement, ...]
    seen: Seen | None = None
    """What was counted; None where that failed."""

    @property
    def verdict(self) -> Verdict:
        """The worst of those that count; a look at nothing is successful."""
        counting = (m.verdict for m in self.measurements if not m.dry_run)
        return max(counting, key=_SEVERITY.__getitem__, default=Verdict.SUCCESSFUL)

    @property
    def reasons(self) -> str:
        """Why the verdict is what it is."""
        return "; ".join(
            f"{m.name}: {m.reason}"
            for m in self.measurements
            if m.verdict is self.verdict and not m.dry_run
        )


class Phase(StrEnum):
    """Where a rollout is; each comment says what is true in the world from then on."""

    BAKING = "baking"
    """The new release has its step's share and is looked at."""
    PAUSED = "paused"
    """As baking, and nothing changes until a person says so."""
    PROMOTING = "promoting"
    """It was decided for: it gets all of the traffic and becomes champion."""
    ABORTING = "aborting"
    """It was decided against: the former release gets all of the traffic back."""
    ENDED = "ended"
    """One release has all of the traffic, and the other's fleet is gone."""


class EventKind(StrEnum):
    """What may happen in a rollout."""

    STARTED = "started"
    """With its plan."""
    ENTERED = "entered"
    """A step, by its number from 0."""
    LOOKED = "looked"
    PAUSED = "paused"
    RESUMED = "resumed"
    """A person approved the step that it waited in."""
    PROMOTED = "promoted"
    """Decided for, by the rules or by a person."""
    ABORTED = "aborted"
    """Decided against, likewise."""
    QUEUED = "queued"
    """A newer delivery waits for the end of this rollout."""
    ENDED = "ended"


class Answer(StrEnum):
    """What a person may say to a rollout."""

    APPROVE = "approve"
    """Go on, where it waits for that."""
    PROMOTE = "promote"
    """Give the release all of the traffic now, whatever is left."""
    ABORT = "abort"

    @property
    def event(self) -> EventKind:
        return {
            Answer.APPROVE: EventKind.RESUMED,
            Answer.PROMOTE: EventKind.PROMOTED,
            Answer.ABORT: EventKind.ABORTED,
        }[self]


class QueuedDelivery(Value):
    """A delivery that was asked for while another release was being rolled out."""

    reason: str
    bump: str | None
    as_of: datetime | None


class RolloutEvent(Value):
    """One line of a rollout's history."""

    kind: EventKind
    at: datetime
    by: str
    why: str
    payload: dict[str, Any] = Field(default_factory=dict)


class Rollout(Value):
    """What is true of a rollout after all of its events."""

    plan: Plan
    started_at: datetime
    phase: Phase = Phase.BAKING
    step: int = 0
    entered_at: datetime
    approved: bool = False
    waved_on: int | None = None
    """The step in which a person said that what is not told does not matter."""
    asks_approval: bool = False
    """Whether it waits for approval, and not for a person's word on what the looks leave open."""
    looks: tuple[Look, ...] = ()
    """Of this step, oldest first."""
    earlier: tuple[Look, ...] = ()
    """Of the steps before: what they counted is evidence, too."""
    queued: QueuedDelivery | None = None
    """The newest delivery that waits for the end."""
    why: str = ""
    """Of the phase that it is in."""

    @property
    def current(self) -> Step:
        return self.plan.steps[self.step]

    @property
    def is_last(self) -> bool:
        return self.step == len(self.plan.steps) - 1

    @property
    def baked_at(self) -> datetime:
        return self.entered_at + self.current.bake

    @property
    def seen(self) -> tuple[Seen, ...]:
        """What all looks counted, of this step and of those before."""
        return tuple(look.seen for look in (*self.earlier, *self.looks) if look.seen is not None)


class Action(StrEnum):
    """What to do next."""

    WAIT = "wait"
    ENTER = "enter"
    PAUSE = "pause"
    PROMOTE = "promote"
    ABORT = "abort"


class Decision(Value):
    """What to do next, why, and when to look again."""

    action: Action
    why: str
    look_at: datetime | None = None
    """When to look again; None where there is nothing to wait for."""
    asks_approval: bool = False
    """Of a pause: whether the config asks for it, and not what was seen."""


class RolloutReport(Value):
    """Where a rollout is, for those who are shown it."""

    model: str
    version: str
    former: str | None
    """Version of the release that it is to replace."""
    state: Rollout
    decision: Decision
    promoted: bool
    service: ServiceStatus | None
    events: tuple[RolloutEvent, ...]

    @property
    def ended(self) -> bool:
        return self.state.phase is Phase.ENDED

    @property
    def words(self) -> str:
        """Say in a line where it is."""
        if self.ended:
            return f"{self.version}: {'champion' if self.promoted else 'aborted'}"
        step = f"step {self.state.step + 1} of {len(self.state.plan.steps)}"
        return f"{self.version}: {self.state.phase}, {self.state.current.weight} %, {step}"


def fold(events: Sequence[RolloutEvent]) -> Rollout:
    """Return the state that a history leads to. Raises ValueError for one without a start."""
    if not events or events[0].kind is not EventKind.STARTED:
        raise ValueError("a rollout begins with its plan")
    first = events[0]
    state = Rollout(
        plan=Plan.model_validate(first.payload), started_at=first.at, entered_at=first.at
    )
    for event in events[1:]:
        state = state.model_copy(update=_changes(state, event))
    return state


def _changes(state: Rollout, event: RolloutEvent) -> dict[str, Any]:
    match event.kind:
        case EventKind.ENTERED:
            step = int(event.payload["step"])
            earlier = (*state.earlier, *state.looks)
            entered = {"step": step, "entered_at": event.at, "why": event.why}
            return {**entered, "looks": (), "earlier": earlier}
        case EventKind.LOOKED:
            return {"looks": (*state.looks, Look.model_validate(event.payload))}
        case EventKind.PAUSED:
            asks_approval = bool(event.payload.get("asks_approval"))
            return {"phase": Phase.PAUSED, "why": event.why, "asks_approval": asks_approval}
        case EventKind.RESUMED:
            answered = {"approved": True} if state.asks_approval else {"waved_on": state.step}
            return {"phase": Phase.BAKING, "why": event.why, **answered}
        case EventKind.PROMOTED:
            return {"phase": Phase.PROMOTING, "why": event.why}
        case EventKind.ABORTED:
            return {"phase": Phase.ABORTING, "why": event.why}
        case EventKind.QUEUED:
            return {"queued": QueuedDelivery.model_validate(event.payload)}
        case EventKind.ENDED:
            return {"phase": Phase.ENDED}
    raise ValueError(f"a rollout does not {event.kind} twice")


def decide(state: Rollout, now: datetime) -> Decision:
    """Say what follows from what was seen by `now`; the newest look is the one that counts."""
    newest = state.looks[-1] if state.looks else None
    if newest is not None and (why := _gives_up(state, newest)):
        return Decision(action=Action.ABORT, why=why)
    if state.phase is Phase.PAUSED:
        look_at = now + max(state.plan.look_every, _WHILE_PAUSED)
        return Decision(action=Action.WAIT, why=state.why, look_at=look_at)
    if now < state.baked_at:
        return _wait(state, now, f"bakes until {state.baked_at:%Y-%m-%d %H:%M:%S} UTC")
    if newest is None or newest.at < state.baked_at:
        return _wait(state, now, "baked; to be looked at")
    waved_on = newest.verdict is Verdict.INCONCLUSIVE and state.waved_on == state.step
    if newest.verdict is not Verdict.SUCCESSFUL and not waved_on:
        return _not_told(state, newest, now)
    if not state.is_last:
        following = state.plan.steps[state.step + 1]
        if state.plan.approval and not state.approved and following.weight == 100:
            return _ask("waits for approval before all of the traffic")
        return Decision(action=Action.ENTER, why=_passed(state))
    if state.plan.approval and not state.approved:
        return _ask("waits for approval before it becomes champion")
    return Decision(action=Action.PROMOTE, why=_passed(state))


def is_due(state: Rollout, now: datetime) -> bool:
    """Return whether it is time for a look: whoever only passes by in between takes none."""
    if not state.looks:
        return True
    last = state.looks[-1].at
    look_at = decide(state, last).look_at
    return look_at is not None and now >= look_at


def wanted_fleets(state: Rollout, new: Fleet, former: Fleet | None) -> tuple[Fleet, ...]:
    """Return the fleets that a rollout asks its target for, the former release's first.

    `new` and `former` are both with all replicas. None are wanted of a first release that was
    aborted.
    """
    if state.phase is Phase.PROMOTING or (former is None and state.phase is not Phase.ABORTING):
        return (_sized(new, 100, new.replicas),)
    if state.phase is Phase.ABORTING:
        return () if former is None else (_sized(former, 100, former.replicas),)
    assert former is not None
    step = state.current
    replicas = new.replicas if step.replicas is None else step.replicas
    left = former.replicas if step.former_replicas is None else step.former_replicas
    fleets = (_sized(former, 100 - step.weight, left), _sized(new, step.weight, replicas))
    return tuple(fleet for fleet in fleets if fleet.replicas)


def _sized(fleet: Fleet, weight: int, replicas: int) -> Fleet:
    return fleet.model_copy(update={"weight": weight, "replicas": replicas})


def _ask(why: str) -> Decision:
    return Decision(action=Action.PAUSE, why=why, asks_approval=True)


def _gives_up(state: Rollout, newest: Look) -> str:
    """Return why the newest look is one too many of its kind; empty where it is not."""
    if newest.verdict is Verdict.FAILED:
        failed = sum(look.verdict is Verdict.FAILED for look in state.looks)
        if failed > state.plan.failure_limit:
            return newest.reasons
    if newest.verdict is Verdict.ERROR:
        in_a_row = _last_in_a_row(state.looks, Verdict.ERROR)
        if in_a_row > state.plan.error_limit:
            return f"could not be measured {in_a_row} times in a row: {newest.reasons}"
    return ""


def _not_told(state: Rollout, newest: Look, now: datetime) -> Decision:
    if newest.verdict is Verdict.INCONCLUSIVE and now >= state.baked_at + state.plan.patience:
        why = f"does not tell after {state.plan.patience} more: {newest.reasons}"
        return Decision(action=Action.PAUSE, why=why)
    return _wait(state, now, newest.reasons)


def _wait(state: Rollout, now: datetime, why: str) -> Decision:
    next_look = now + state.plan.look_every
    at = min(next_look, state.baked_at) if now < state.baked_at else next_look
    return Decision(action=Action.WAIT, why=why, look_at=at)


def _passed(state: Rollout) -> str:
    step = f"step {state.step + 1} of {len(state.plan.steps)}"
    looks = "1 look" if len(state.looks) == 1 else f"{len(state.looks)} looks"
    return f"{step} ({state.current.weight} %) passed after {looks}"


def _last_in_a_row(looks: Iterable[Look], verdict: Verdict) -> int:
    count = 0
    for look in looks:
        count = count + 1 if look.verdict is verdict else 0
    return count
