"""Should this model be retrained now?

A controller and not a trigger: something must ask for a retraining, and nothing may speak against
it. Each question is one rule, each rule leaves its answer with the figure behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID, uuid5

from pydantic import Field

from modelyard.domain.causes import (
    JudgedWindow,
    RetrainingCause,
    Signal,
    drift_signal,
    performance_signal,
)
from modelyard.domain.quality import QualityOutcome
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.values import Value

_NAMESPACE = UUID("7b1d3c52-3a35-5c52-8e0b-7d0a4b8de9f1")


class RetrainingVerdict(StrEnum):
    """What the controller decided."""

    RETRAIN = "retrain"
    WAIT = "wait"
    """Nothing asks for it, or it may be decided again later, at `wait_until` if that is known."""
    ALERT_ONLY = "alert only"
    """Something is wrong that retraining was not told to mend, or not often enough yet."""
    BLOCKED = "blocked"
    """It will not go on by itself: a person must mend the data or look at the kept champions."""


class RetrainingPolicy(Value):
    """What may start a retraining, and what holds it back."""

    on: frozenset[RetrainingCause] = frozenset({RetrainingCause.PERFORMANCE, RetrainingCause.DRIFT})
    """Which findings of monitoring start one. A schedule or a person always may."""
    harmless_drift: Literal["alert", "retrain"] = "alert"
    """What a drift leads to whose labels show the performance that was promised."""
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
    rows: Literal["training window", "since change"] = "training window"
    """Which rows a retraining learns: those of `training.window`, or of them those since the change
    that it answers."""


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
    """Labelled rows that are newer than those the champion learnt."""
    drift_labels: int | None = None
    """Labelled rows since the present drift began; None where rows have no time, or none drifts."""
    learnt_since: datetime | None = None
    """The change before which the champion learnt no row."""
    delivery_running: str | None = None
    """Id of a delivery of this model that is under way."""
    kept_in_a_row: int = 0
    """Newest retrainings in a row that kept the champion, since a person looked."""
    decided: frozenset[str] = frozenset()
    """Keys of the causes that a retraining was started for already."""


class Reason(Value):
    """One rule's answer."""

    rule: str
    passed: bool
    """Whether the rule speaks for retraining, or at least not against it."""
    words: str
    figure: str = ""
    """What it was decided by."""
    limit: str = ""
    """What the figure was held against."""


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
    as_of: datetime | None = None
    """The moment that its delivery takes for now; None: when it starts."""
    rows_since: datetime | None = None
    """Rows before this moment are not learnt: the change that the retraining answers."""
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
    cause = _cause(state, signals)
    window_id = state.windows[-1].id if state.windows else None
    if cause is None:
        newest_shows = any(signal.newest for signal in signals)
        return RetrainingDecision(
            verdict=RetrainingVerdict.ALERT_ONLY if newest_shows else RetrainingVerdict.WAIT,
            cause=None,
            window_id=window_id,
            key=None,
            reasons=tuple(_signal_reason(signal) for signal in signals)
            or (Reason(rule="cause", passed=False, words="no window was judged yet"),),
        )
    by_window = {signal.cause: signal.window_id for signal in signals}
    # Without a window, and where a person asks again on the same window, time tells requests apart.
    key = retraining_key(state.model, by_window.get(cause) or now.isoformat(), cause)
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
        reasons=(_cause_reason(state, cause, signals), *(guard.reason for guard in guards)),
    )


def kept_in_a_row(
    releases: Sequence[Release], asked_by: Collection[str], looked_at: datetime | None
) -> int:
    """Count the newest retrainings in a row that kept the champion.

    `asked_by` are the deliveries that the controller began without a person; others neither count
    nor end the row, unless one became champion. `looked_at` is when a person last said to go on:
    what was before does not count.
    """
    kept = 0
    for release in reversed(releases):
        if looked_at is not None and release.opened_at <= looked_at:
            break
        if release.state is ReleaseState.KEPT_CHAMPION:
            kept += release.id in asked_by
        elif release.state is not ReleaseState.ABORTED:
            break
    return kept


def retraining_key(model: str, window_id: str | None, cause: RetrainingCause) -> str:
    """Return the idempotency key of a retraining for one cause in one window."""
    return str(uuid5(_NAMESPACE, f"{model}|{window_id or '-'}|{cause}"))


class _Guard(Value):
    """What may hold a retraining back."""

    reason: Reason
    blocks: bool = False
    """Whether only a person can lift it."""
    until: datetime | None = None


def _ask_signals(state: RetrainingState, policy: RetrainingPolicy) -> Iterator[Signal]:
    """Apply the k-of-n rule to each finding of monitoring: one bad window may be chance."""
    if not state.windows:
        return
    found = (
        performance_signal(state.windows, policy.k, policy.n),
        drift_signal(
            state.windows,
            policy.k,
            policy.n,
            harmless_counts=policy.harmless_drift == "retrain",
        ),
    )
    for signal in found:
        if signal.cause in policy.on:
            yield signal
        else:
            words = f"{signal.words}; {signal.cause} does not start a retraining of this model"
            yield signal.model_copy(update={"passed": False, "words": words})


def _cause(state: RetrainingState, signals: Sequence[Signal]) -> RetrainingCause | None:
    if state.requested_by:
        return RetrainingCause.PERSON
    for signal in signals:
        if signal.passed:
            return signal.cause
    return RetrainingCause.SCHEDULE if state.scheduled else None


def _cause_reason(
    state: RetrainingState, cause: RetrainingCause, signals: Sequence[Signal]
) -> Reason:
    for signal in signals:
        if signal.cause is cause:
            return _signal_reason(signal).model_copy(update={"rule": "cause"})
    words = (
        f"asked for by {state.requested_by}"
        if cause is RetrainingCause.PERSON
        else "it is time by the schedule"
    )
    return Reason(rule="cause", passed=True, words=words)


def _signal_reason(signal: Signal) -> Reason:
    return Reason(
        rule=str(signal.cause),
        passed=signal.passed,
        words=signal.words,
        figure=signal.figure,
        limit=signal.limit,
    )


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
        figure=str(state.kept_in_a_row),
        limit=f"fewer than {policy.max_kept}",
        blocks=True,
    )
    yield _cooldown(state, policy, now)
    yield _budget(state, policy, now)
    yield _labels("new labels", state.new_labels, policy, "matured since the champion was trained")
    if cause is RetrainingCause.DRIFT and state.drift_labels is not None:
        # what has drifted can only be learnt from rows that have
        yield _labels("labels of the drift", state.drift_labels, policy, "since the drift began")


def _labels(rule: str, labels: int, policy: RetrainingPolicy, since: str) -> _Guard:
    least = policy.min_new_labels
    return _guard(
        rule,
        labels >= least,
        f"{labels} labels {since}, {least} are needed",
        figure=f"{labels:,}",
        limit=f"at least {least:,}",
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
        figure=str(newest.quality),
        limit=f"not {QualityOutcome.BROKEN}",
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
        figure=str(now - last),
        limit=f"at least {policy.cooldown}",
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
        figure=str(len(spent)),
        limit=f"fewer than {policy.budget}",
        until=free_again,
    )


def _guard(
    rule: str,
    passed: bool,
    words: str,
    *,
    figure: str = "",
    limit: str = "",
    blocks: bool = False,
    until: datetime | None = None,
) -> _Guard:
    reason = Reason(rule=rule, passed=passed, words=words, figure=figure, limit=limit)
    return _Guard(reason=reason, blocks=blocks, until=until)
