"""Should this model be retrained now?

A controller and not a trigger: something must ask for a retraining, and nothing may speak against
it. Each question is one rule, each rule leaves its answer with the figure behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID, uuid5

from pydantic import Field

from modelyard.domain.drift import DriftOutcome
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.quality import QualityOutcome
from modelyard.domain.values import Value

_NAMESPACE = UUID("7b1d3c52-3a35-5c52-8e0b-7d0a4b8de9f1")


class RetrainingCause(StrEnum):
    """What asks for a retraining, the strongest first."""

    PERSON = "person"
    PERFORMANCE = "performance"
    DRIFT = "drift"
    SCHEDULE = "schedule"


class RetrainingVerdict(StrEnum):
    """What the controller decided."""

    RETRAIN = "retrain"
    WAIT = "wait"
    """Nothing asks for it, or it may be decided again later, at `wait_until` if that is known."""
    ALERT_ONLY = "alert only"
    """Something is wrong that retraining was not told to mend, or not often enough yet."""
    BLOCKED = "blocked"
    """It will not go on by itself: a person must mend the data or look at the kept champions."""


class JudgedWindow(Value):
    """What monitoring said about one window."""

    id: str
    start: datetime
    end: datetime
    drift: DriftOutcome
    performance: PerformanceOutcome
    quality: QualityOutcome


class RetrainingPolicy(Value):
    """What may start a retraining, and what holds it back."""

    on: frozenset[RetrainingCause] = frozenset({RetrainingCause.PERFORMANCE, RetrainingCause.DRIFT})
    """Which findings of monitoring start one. A schedule or a person always may."""
    k: Annotated[int, Field(ge=1)] = 1
    """At least k of the last n windows must show the cause, the newest among them."""
    n: Annotated[int, Field(ge=1)] = 1
    cooldown: timedelta = timedelta(days=1)
    """Least time between the starts of two retrainings."""
    budget: Annotated[int, Field(ge=1)] = 3
    """Most retrainings within `budget_period`."""
    budget_period: timedelta = timedelta(days=7)
    min_new_labels: Annotated[int, Field(ge=0)] = 500
    """Labels that must have matured since the champion was trained."""
    max_kept: Annotated[int, Field(ge=1)] = 3
    """Retrainings in a row that ended with the champion kept, after which a person must look."""


class RetrainingState(Value):
    """All that the controller knows about a model when it decides."""

    model: str
    windows: tuple[JudgedWindow, ...] = ()
    """Judged windows of the release that serves, oldest first; the last n are enough."""
    requested_by: str | None = None
    """Who asked for a retraining by hand."""
    scheduled: bool = False
    """Whether this decision was asked for by the schedule."""
    retrainings: tuple[datetime, ...] = ()
    """When former retrainings started, in any order."""
    new_labels: int = 0
    delivery_running: str | None = None
    """Id of a delivery of this model that is under way."""
    kept_in_a_row: int = 0
    """Newest deliveries in a row that kept the champion."""
    decided: frozenset[str] = frozenset()
    """Keys of the causes that a retraining was started for already."""


class Reason(Value):
    """One rule's answer."""

    rule: str
    passed: bool
    """Whether the rule speaks for retraining, or at least not against it."""
    words: str


class RetrainingDecision(Value):
    """What was decided, and everything it was decided by."""

    verdict: RetrainingVerdict
    cause: RetrainingCause | None
    window_id: str | None
    """The newest window when it was decided."""
    key: str | None
    """The same for the same model, window and cause: at most one retraining starts under it."""
    wait_until: datetime | None = None
    """When nothing of what holds it back now will hold it back any more, where that is known."""
    reasons: tuple[Reason, ...]

    @property
    def delivery_reason(self) -> str:
        """What the delivery that comes of it is opened with: it leads back to this decision."""
        return f"retrain: {self.cause} (decision {(self.key or '-')[:8]})"


def decide_retraining(
    state: RetrainingState, policy: RetrainingPolicy, now: datetime
) -> RetrainingDecision:
    """Decide by all rules; every rule is asked, so that a person sees all that stands in the way.

    A person's request passes cooldown, budget, least labels and the circuit breaker, but neither
    broken data nor a delivery under way.
    """
    signals = tuple(_ask_signals(state, policy))
    cause = _cause(state, policy, signals)
    window = state.windows[-1] if state.windows else None
    window_id = window.id if window else None
    if cause is None:
        newest_shows = any(signal.newest for signal in signals)
        return RetrainingDecision(
            verdict=RetrainingVerdict.ALERT_ONLY if newest_shows else RetrainingVerdict.WAIT,
            cause=None,
            window_id=window_id,
            key=None,
            reasons=tuple(signal.reason for signal in signals)
            or (Reason(rule="cause", passed=False, words="no window was judged yet"),),
        )
    # Without a window, and where a person asks again on the same window, time tells requests apart.
    on_window = cause in (RetrainingCause.PERFORMANCE, RetrainingCause.DRIFT)
    key = retraining_key(state.model, window_id if on_window else now.isoformat(), cause)
    guards = tuple(_ask_guards(state, policy, now, cause, key))
    against = [guard for guard in guards if not guard.reason.passed]
    if any(guard.blocks for guard in against):
        verdict = RetrainingVerdict.BLOCKED
    else:
        verdict = RetrainingVerdict.WAIT if against else RetrainingVerdict.RETRAIN
    known = [guard.until for guard in against if guard.until]
    return RetrainingDecision(
        verdict=verdict,
        cause=cause,
        window_id=window_id,
        key=key,
        wait_until=max(known) if known and len(known) == len(against) else None,
        reasons=(
            Reason(rule="cause", passed=True, words=_cause_words(state, cause, signals)),
            *(guard.reason for guard in guards),
        ),
    )


def retraining_key(model: str, window_id: str | None, cause: RetrainingCause) -> str:
    """Return the idempotency key of a retraining for one cause in one window."""
    return str(uuid5(_NAMESPACE, f"{model}|{window_id or '-'}|{cause}"))


class _Signal(Value):
    """Whether monitoring shows one cause."""

    cause: RetrainingCause
    newest: bool
    reason: Reason


class _Guard(Value):
    """What may hold a retraining back."""

    reason: Reason
    blocks: bool = False
    """Whether only a person can lift it."""
    until: datetime | None = None


def _ask_signals(state: RetrainingState, policy: RetrainingPolicy) -> Iterator[_Signal]:
    """Apply the k-of-n rule to each finding of monitoring: one bad window may be chance."""
    if not state.windows:
        return
    last = state.windows[-policy.n :]
    shown = {
        RetrainingCause.PERFORMANCE: [w.performance is PerformanceOutcome.DEGRADED for w in last],
        RetrainingCause.DRIFT: [w.drift is DriftOutcome.DRIFTED for w in last],
    }
    for cause, flags in shown.items():
        words = (
            f"{cause} in {sum(flags)} of the last {len(flags)} windows, {policy.k} of {policy.n} "
            f"are needed; the newest window {'shows it' if flags[-1] else 'does not show it'}"
        )
        if cause not in policy.on:
            words += f"; {cause} alone does not start a retraining of this model"
        passed = cause in policy.on and flags[-1] and sum(flags) >= policy.k
        yield _Signal(
            cause=cause,
            newest=flags[-1],
            reason=Reason(rule=str(cause), passed=passed, words=words),
        )


def _cause(
    state: RetrainingState, policy: RetrainingPolicy, signals: tuple[_Signal, ...]
) -> RetrainingCause | None:
    if state.requested_by:
        return RetrainingCause.PERSON
    for signal in signals:
        if signal.reason.passed:
            return signal.cause
    return RetrainingCause.SCHEDULE if state.scheduled else None


def _cause_words(
    state: RetrainingState, cause: RetrainingCause, signals: tuple[_Signal, ...]
) -> str:
    if cause is RetrainingCause.PERSON:
        return f"asked for by {state.requested_by}"
    if cause is RetrainingCause.SCHEDULE:
        return "it is time by the schedule"
    return next(signal.reason.words for signal in signals if signal.cause is cause)


def _ask_guards(
    state: RetrainingState,
    policy: RetrainingPolicy,
    now: datetime,
    cause: RetrainingCause,
    key: str,
) -> Iterator[_Guard]:
    yield _data_quality(state)
    yield _guard(
        "one delivery at a time",
        state.delivery_running is None,
        "no delivery is under way"
        if state.delivery_running is None
        else f"delivery {state.delivery_running} is under way",
    )
    yield _guard(
        "once a cause",
        key not in state.decided,
        "no retraining was started for this window and cause yet"
        if key not in state.decided
        else "a retraining was started for this window and cause already",
    )
    if cause is RetrainingCause.PERSON:
        return
    yield _guard(
        "circuit breaker",
        state.kept_in_a_row < policy.max_kept,
        f"{state.kept_in_a_row} retrainings in a row kept the champion, stops at {policy.max_kept}",
        blocks=True,
    )
    yield _cooldown(state, policy, now)
    yield _budget(state, policy, now)
    yield _guard(
        "new labels",
        state.new_labels >= policy.min_new_labels,
        f"{state.new_labels} labels matured since the champion was trained, "
        f"{policy.min_new_labels} are needed",
    )


def _data_quality(state: RetrainingState) -> _Guard:
    if not state.windows:
        return _guard("data quality", True, "no window was judged yet")
    newest = state.windows[-1]
    return _guard(
        "data quality",
        newest.quality is not QualityOutcome.BROKEN,
        f"data of the newest window ({newest.start:%Y-%m-%d %H:%M} to "
        f"{newest.end:%Y-%m-%d %H:%M}): {newest.quality}",
        blocks=True,
    )


def _cooldown(state: RetrainingState, policy: RetrainingPolicy, now: datetime) -> _Guard:
    if not state.retrainings:
        return _guard("cooldown", True, "never retrained before")
    last = max(state.retrainings)
    return _guard(
        "cooldown",
        now - last >= policy.cooldown,
        f"last retraining {now - last} ago, the cooldown is {policy.cooldown}",
        until=last + policy.cooldown,
    )


def _budget(state: RetrainingState, policy: RetrainingPolicy, now: datetime) -> _Guard:
    spent = sorted(t for t in state.retrainings if now - t < policy.budget_period)
    free_again = (
        spent[-policy.budget] + policy.budget_period if len(spent) >= policy.budget else None
    )
    return _guard(
        "budget",
        free_again is None,
        f"{len(spent)} of {policy.budget} retrainings spent in the last {policy.budget_period}",
        until=free_again,
    )


def _guard(
    rule: str, passed: bool, words: str, *, blocks: bool = False, until: datetime | None = None
) -> _Guard:
    return _Guard(reason=Reason(rule=rule, passed=passed, words=words), blocks=blocks, until=until)
