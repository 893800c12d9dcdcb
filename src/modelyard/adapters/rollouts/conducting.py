"""How is a rollout carried on from where it is?

Whoever calls, after whatever interruption, finds the history in the ledger and goes on with it:
look, decide, record, and then act. What was recorded and not done is done by the next caller.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property

from modelyard.adapters.mirroring import mirror_releases
from modelyard.adapters.rollouts.looking import look_at
from modelyard.adapters.rollouts.rescoring import BothReleases
from modelyard.adapters.traffic import fleet_of, service_of
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.gate import Gated
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.rollout import (
    Action,
    Answer,
    Decision,
    EventKind,
    Phase,
    QueuedDelivery,
    Rollout,
    RolloutEvent,
    RolloutReport,
    decide,
    fold,
    is_due,
    wanted_fleets,
)
from modelyard.domain.rollout_plan import Plan, Step, Strategy, plan_steps
from modelyard.domain.values import Fleet, Value
from modelyard.errors import ConflictError, RefusedError, RolloutError, UnknownReleaseError
from modelyard.ledger import acting_person

_LOOKS_A_STEP = 20
_SHORTEST, _LONGEST = timedelta(seconds=10), timedelta(hours=1)


class Conductor:
    """One rollout of a release that the ledger has as rolling out."""

    def __init__(
        self,
        workspace: Workspace,
        release: Release,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._workspace, self._ledger, self._clock = workspace, workspace.ledger, clock
        self.release = release
        self._config: ModelConfig = workspace.project.model(release.model)
        self._target = workspace.target(self._config.service.target)
        gated = release.payload(ReleaseState.GATED)
        self._former_id = Gated.model_validate(gated).champion_id if gated else None
        self._history = list(self._ledger.rollout(release.id))

    @cached_property
    def state(self) -> Rollout:
        """What the history leads to, until something is added to it."""
        return fold(self._history)

    @cached_property
    def former(self) -> Release | None:
        """The champion that the gate compared it with."""
        return self._ledger.release_by_id(self._former_id) if self._former_id else None

    def start(self) -> None:
        """Record the plan by the model's config, once."""
        if not self._history:
            plan = self._plan()
            strategy = plan.strategy.value.replace("_", "-")
            self._record(EventKind.STARTED, strategy, plan)

    def advance(self) -> RolloutReport:
        """Carry the rollout on as far as it goes now.

        Idempotent. Raises RolloutError where the former release cannot be put back.
        """
        self.start()  # whoever was to record the plan may have been killed
        while True:
            try:
                decision = self._step()
            except ConflictError:
                history = list(self._ledger.rollout(self.release.id))
                if len(history) == len(self._history):
                    raise
                self._history = history  # a person, or another run, was faster
                self._forget_state()
                continue
            if decision is not None:
                return self._report(decision)

    def queue(self, delivery: QueuedDelivery) -> None:
        """Note a delivery that is to be made once this rollout has ended."""
        self._record(EventKind.QUEUED, delivery.reason, delivery)

    def tell(self, answer: Answer, why: str) -> None:
        """Record what a person says.

        Raises RefusedError where that is not asked or cannot be any more.
        """
        self.start()
        state = self.state
        if state.phase not in (Phase.BAKING, Phase.PAUSED):
            raise RefusedError(
                f"The rollout of {self.release.model} {self.release.version} is {state.phase} "
                "already."
            )
        if answer is Answer.APPROVE and state.phase is not Phase.PAUSED:
            raise RefusedError(
                f"The rollout of {self.release.model} {self.release.version} does not wait for a "
                "person. `modelyard promote --full` makes it champion at once, `modelyard abort` "
                "ends it."
            )
        self._record(answer.event, why)

    def _step(self) -> Decision | None:
        """Do the next thing; return a decision once there is nothing to do now."""
        state, release = self.state, self._ledger.release_by_id(self.release.id)
        rolls_out = release.state is ReleaseState.ROLLING_OUT
        match state.phase:
            case Phase.ENDED:
                return Decision(action=Action.WAIT, why=state.why)
            case Phase.ABORTING:
                self._abort(state.why)
            case Phase.PROMOTING if rolls_out:
                self._promote()
            case Phase.PROMOTING if release.state is ReleaseState.CHAMPION:
                self._end("champion")
            case _ if rolls_out:
                return self._watch(state)
            case _:  # given up elsewhere, or replaced before its end was recorded
                self._record(EventKind.ABORTED, release.events[-1].why)
        return None

    def _watch(self, state: Rollout) -> Decision | None:
        if not state.looks and not self._synced():
            return None
        now = self._clock()
        if is_due(state, now):
            both = None if state.plan.expected is None else self._both
            fleets = self._fleets(state)
            mine = sum(f.replicas for f in fleets if f.version == self.release.version)
            look = look_at(self._target, state, self.release, self.former, both, now, mine)
            self._record(EventKind.LOOKED, look.verdict.value, look)
        decision = decide(self.state, now)
        match decision.action:
            case Action.WAIT:
                with suppress(RolloutError):  # what cannot be replaced is missed at the next look
                    self._sync(self.state)
                return decision
            case Action.ENTER:
                self._record(EventKind.ENTERED, decision.why, _Entered(step=state.step + 1))
            case Action.PAUSE:
                asked = _Paused(asks_approval=decision.asks_approval)
                self._record(EventKind.PAUSED, decision.why, asked)
            case Action.PROMOTE:
                self._record(EventKind.PROMOTED, decision.why)
            case Action.ABORT:
                self._record(EventKind.ABORTED, decision.why)
        return None

    def _synced(self) -> bool:
        """Make the target have the fleets; where the new release does not start, give it up."""
        try:
            self._sync(self.state)
        except RolloutError as err:
            self._record(EventKind.ABORTED, str(err))
            return False
        return True

    def _promote(self) -> None:
        if not self._synced():
            return
        try:
            self._ledger.promote(
                self.release.id,
                expected=self._former_id,
                why=f"rolled out: {self.release.delivery.reason}",
            )
        except ConflictError as err:
            self._record(EventKind.ABORTED, str(err))
            return
        self._end("champion")

    def _abort(self, why: str) -> None:
        model = self.release.model
        champion = self._ledger.champion(model)
        if champion is None or not self._fits(champion):
            self._target.remove(model)  # what serves elsewhere goes on
        else:
            self._put((fleet_of(self._workspace, champion),))
        if self._ledger.release_by_id(self.release.id).state is ReleaseState.ROLLING_OUT:
            self._ledger.record(self.release.id, ReleaseState.ABORTED, self.release.build, why=why)
        self._end("aborted")

    def _end(self, why: str) -> None:
        """Leave one service and one registry that say what the ledger says; close the history."""
        model, target = self.release.model, self._config.service.target
        if self._target.status(model) is not None:
            self._workspace.leave_other_targets(model, target)
        mirror_releases(self._workspace, model)
        self._record(EventKind.ENDED, why)

    def _sync(self, state: Rollout) -> None:
        self._put(self._fleets(state))

    def _put(self, fleets: tuple[Fleet, ...]) -> None:
        self._target.sync(service_of(self._workspace, self.release.model, fleets))

    def _fits(self, release: Release) -> bool:
        """Whether the target can serve a release: containers need an image."""
        return self._config.service.target != "docker" or release.build.image is not None

    def _fleets(self, state: Rollout) -> tuple[Fleet, ...]:
        former = None
        # A local service has one fleet, and some releases are served elsewhere.
        if self.former and self._fits(self.former) and self._config.service.target != "local":
            former = fleet_of(self._workspace, self.former)
        return wanted_fleets(state, fleet_of(self._workspace, self.release), former)

    @cached_property
    def _both(self) -> BothReleases | None:
        return BothReleases.of(self._workspace, self.release, self.former)

    def _plan(self) -> Plan:
        wanted = self._config.service.rollout
        usual = min(max(wanted.bake / _LOOKS_A_STEP, _SHORTEST), _LONGEST)
        if self.former is None:  # nobody is there whom it could replace step by step
            return Plan(
                strategy=Strategy.BLUE_GREEN, steps=(Step(weight=100),), look_every=_SHORTEST
            )
        return Plan(
            strategy=wanted.strategy,
            steps=plan_steps(
                wanted.strategy,
                weights=wanted.steps,
                bake=wanted.bake,
                replicas=self._config.service.replicas,
            ),
            approval=wanted.approval,
            patience=wanted.patience,
            look_every=wanted.analysis.interval or usual,
            failure_limit=wanted.analysis.failures,
            rules=wanted.analysis.rules(),
            expected=self._both.expected() if wanted.bake and self._both else None,
        )

    def _record(self, kind: EventKind, why: str, payload: Value | None = None) -> None:
        event = RolloutEvent(
            kind=kind,
            at=self._clock(),
            by=acting_person(),
            why=why,
            payload={} if payload is None else payload.model_dump(mode="json"),
        )
        self._ledger.record_rollout(self.release.id, event, place=len(self._history))
        self._history.append(event)
        self._forget_state()

    def _forget_state(self) -> None:
        self.__dict__.pop("state", None)

    def _report(self, decision: Decision) -> RolloutReport:
        release = self._ledger.release_by_id(self.release.id)
        return RolloutReport(
            model=self.release.model,
            version=str(self.release.version),
            former=None if self.former is None else self.former.version,
            state=self.state,
            decision=decision,
            promoted=release.payload(ReleaseState.CHAMPION) is not None,
            service=self._target.status(self.release.model),
            events=tuple(self._history),
        )


class _Entered(Value):
    step: int


class _Paused(Value):
    asks_approval: bool


def rolling_out(workspace: Workspace, model: str) -> Release:
    """Return the release that is being rolled out. Raises UnknownReleaseError without one."""
    release = workspace.ledger.unfinished(model)
    if release is None or release.state is not ReleaseState.ROLLING_OUT:
        raise UnknownReleaseError(
            f"No release of {model} is being rolled out. `modelyard releases {model}` lists them."
        )
    return release
