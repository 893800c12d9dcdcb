"""Which rows does a retraining learn?"""

from __future__ import annotations

from datetime import datetime

from modelyard.domain.causes import RetrainingCause, locate_change
from modelyard.domain.retraining import (
    Reason,
    RetrainingDecision,
    RetrainingPolicy,
    RetrainingState,
    RetrainingVerdict,
)


def change_to_learn_from(state: RetrainingState, policy: RetrainingPolicy) -> datetime | None:
    """Return the change before which a retraining learns no row, or None where it learns them all.

    Without a new change it is the one that the champion began with: what came before is as old as
    it was.
    """
    if policy.rows == "training window":
        return None
    located = (
        locate_change(state.windows, cause)
        for cause in (RetrainingCause.PERFORMANCE, RetrainingCause.DRIFT)
    )
    return next((at for at in located if at is not None), state.learnt_since)


def restrict_rows(
    decision: RetrainingDecision, change: datetime | None, rows: int, least: int
) -> RetrainingDecision:
    """Have a retraining learn the rows since a change alone, where they are enough to learn from.

    `rows` are those that it would train on, beside the holdout; `least` is what it takes.
    """
    if change is None or decision.verdict is not RetrainingVerdict.RETRAIN:
        return decision
    enough = rows >= least
    learns = "only these are learnt" if enough else "older rows are learnt as well"
    reason = Reason(
        rule="rows since the change",
        passed=True,
        words=f"{rows:,} training rows since the change of {change:%Y-%m-%d %H:%M}: {learns}",
        figure=f"{rows:,}",
        limit=f"at least {least:,}",
    )
    return decision.model_copy(
        update={
            "rows_since": change if enough else None,
            "reasons": (*decision.reasons, reason),
        }
    )
