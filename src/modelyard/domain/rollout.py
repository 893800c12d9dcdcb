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

from modelyard.domain.values import Value


class Strategy(StrEnum):
    """How a release takes over from the former one."""

    ROLLING = "rolling"
    """Replica by replica: never more than one beside those that were there."""
    BLUE_GREEN = "blue_green"
    """The whole fleet at once; the former one stays ready until the new one has proven itself."""
    CANARY = "canary"
    """A growing share of the traffic."""
    SHADOW = "shadow"
    """First a copy of the traffic, whose answers nobody gets; then as blue_green."""


class Step(Value):
    """One stretch of a rollout."""

    weight: int
    """Percent of the traffic that the new release has."""
    bake: timedelta = timedelta(0)
    """How long it has to prove itself before the next step."""
    mirrored: bool = False
    """Whether it gets a copy of the former release's requests."""
    replicas: int | None = None
    """Replicas of the new release, where these are the step's measure; None: all of them."""


class Plan(Value):
    """What a rollout was started with; a config that changes meanwhile changes the next one."""

    strategy: Strategy
    steps: tuple[Step, ...]
    approval: bool = False
    """Whether a person is waited for before the release has all of the traffic."""
    patience: timedelta = timedelta(days=1)
    """How long a step may go on that has baked and does not tell, before a person is asked."""
    look_every: timedelta = timedelta(seconds=30)
    failure_limit: int = 0
    """Failed looks in one step that are forgiven."""
    error_limit: int = 4
    """Looks in a row that could not be measured and are forgiven."""


class Verdict(StrEnum):
    """What the analysis says of one measurement, or of one look."""

    SUCCESSFUL = "successful"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    """It could not be measured."""
    FAILED = "failed"


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
    ENDED = "ended"


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
    looks: tuple[Look, ...] = ()
    """Of this step, oldest first."""
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
    """None where there is nothing to wait for but a person."""


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
            return {"step": step, "entered_at": event.at, "looks": (), "why": event.why}
        case EventKind.LOOKED:
            return {"looks": (*state.looks, Look.model_validate(event.payload))}
        case EventKind.PAUSED:
            return {"phase": Phase.PAUSED, "why": event.why}
        case EventKind.RESUMED:
            return {"phase": Phase.BAKING, "approved": True, "why": event.why}
        case EventKind.PROMOTED:
            return {"phase": Phase.PROMOTING, "why": event.why}
        case EventKind.ABORTED:
            return {"phase": Phase.ABORTING, "why": event.why}
        case EventKind.ENDED:
            return {"phase": Phase.ENDED}
    raise ValueError(f"a rollout does not {event.kind} twice")


def decide(state: Rollout, now: datetime) -> Decision:
    """Say what follows from what was seen by `now`; the newest look is the one that counts."""
    newest = state.looks[-1] if state.looks else None
    if newest is not None and (why := _gives_up(state, newest)):
        return Decision(action=Action.ABORT, why=why)
    if state.phase is Phase.PAUSED:
        return Decision(action=Action.WAIT, why=state.why, look_at=now + state.plan.look_every)
    if now < state.baked_at:
        return _wait(state, now, f"bakes until {state.baked_at:%Y-%m-%d %H:%M:%S} UTC")
    if newest is None or newest.at < state.baked_at:
        return _wait(state, now, "baked; to be looked at")
    if newest.verdict is not Verdict.SUCCESSFUL:
        return _not_told(state, newest, now)
    if not state.is_last:
        following = state.plan.steps[state.step + 1]
        if state.plan.approval and not state.approved and following.weight == 100:
            return Decision(action=Action.PAUSE, why="waits for approval before all of the traffic")
        return Decision(action=Action.ENTER, why=_passed(state))
    if state.plan.approval and not state.approved:
        return Decision(action=Action.PAUSE, why="waits for approval before it becomes champion")
    return Decision(action=Action.PROMOTE, why=_passed(state))


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
    return f"{step} ({state.current.weight} %) passed after {len(state.looks)} looks"


def _last_in_a_row(looks: Iterable[Look], verdict: Verdict) -> int:
    count = 0
    for look in looks:
        count = count + 1 if look.verdict is verdict else 0
    return count


def plan_steps(
    strategy: Strategy, *, weights: Sequence[int], bake: timedelta, replicas: int
) -> tuple[Step, ...]:
    """Return the steps of a strategy.

    Args:
        weights: percents of a canary, rising, each below 100.
        bake: of each step.
        replicas: how many the fleet will have.
    """
    match strategy:
        case Strategy.ROLLING:
            return tuple(
                Step(weight=round(100 * n / replicas), bake=bake, replicas=n)
                for n in range(1, replicas + 1)
            )
        case Strategy.CANARY:
            return tuple(Step(weight=weight, bake=bake) for weight in weights)
        case Strategy.SHADOW:
            return Step(weight=0, bake=bake, mirrored=True), Step(weight=100, bake=bake)
        case Strategy.BLUE_GREEN:
            return (Step(weight=100, bake=bake),)
