"""What does a config have the controller do, and do windows ask for a retraining?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from modelyard.config import ModelConfig
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.retraining import (
    RetrainingDecision,
    RetrainingPolicy,
    RetrainingState,
    RetrainingVerdict,
    decide_retraining,
)


def retraining_policy(config: ModelConfig) -> RetrainingPolicy:
    """Return what a config says of retraining, as the rules take it."""
    rules = config.retraining
    return RetrainingPolicy(
        on=frozenset(RetrainingCause(cause) for cause in rules.on),
        harmless_drift=rules.harmless_drift,
        k=rules.windows.k,
        n=rules.windows.n,
        cooldown=rules.cooldown,
        budget=rules.budget.count,
        budget_period=rules.budget.period,
        min_new_labels=rules.min_new_labels,
        max_kept=rules.max_kept,
        rows=rules.rows,
    )


def asks_for_retraining(
    records: Sequence[WindowRecord], config: ModelConfig, now: datetime
) -> bool:
    """Return whether windows of the champion, oldest first, ask for a retraining of it.

    What may speak against it is not looked at.
    """
    return _by_windows(records, config, now).cause is not None


def concerns_controller(
    records: Sequence[WindowRecord], config: ModelConfig, now: datetime
) -> bool:
    """Return likewise whether the controller has something to say of them: it may be too little
    for a retraining, or something that this model is not retrained for."""
    decision = _by_windows(records, config, now)
    shows = decision.verdict is RetrainingVerdict.ALERT_ONLY
    return decision.cause is not None or shows


def _by_windows(
    records: Sequence[WindowRecord], config: ModelConfig, now: datetime
) -> RetrainingDecision:
    state = RetrainingState(model=config.name, windows=tuple(r.judged() for r in records))
    return decide_retraining(state, retraining_policy(config), now)
