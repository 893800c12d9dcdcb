"""Which rows does a retraining learn?"""

from __future__ import annotations

from datetime import datetime

import numpy as np

from modelyard.domain.causes import RetrainingCause, harmless, locate_change
from modelyard.domain.retraining import (
    Reason,
    RetrainingDecision,
    RetrainingPolicy,
    RetrainingState,
    RetrainingVerdict,
)

DUE_SHARE = 0.90
"""Share of the labels that are known at the age from which on rows are learnt. Of the
bookings of its first winter, a model that learns all that is known says that 0.77 will be cancelled
where 0.27 are (docs/decisions/0026). Monitoring, which need not learn from what is left, waits for
more."""


def due_rows(times: np.ndarray, known: np.ndarray, moment: np.datetime64) -> np.ndarray:
    """Return which rows are old enough at a moment for their labels to be learnt, of shape (rows,).

    What is known sooner is not like the rest, and the newest rows have nothing but that. So rows
    count from the age on at which nearly all labels were known, by the rows whose label is known.

    Args:
        times: event times, datetime64 of shape (rows,).
        known: when each label became known; NaT where it never did.
    """
    is_known = known <= moment
    if not is_known.any():
        return is_known
    took = (known - times)[is_known].astype("timedelta64[us]").astype(np.int64)
    age = np.timedelta64(int(np.quantile(took, DUE_SHARE, method="higher")), "us")
    return is_known & (times <= moment - age)


def change_to_learn_from(
    state: RetrainingState, policy: RetrainingPolicy, cause: RetrainingCause | None
) -> datetime | None:
    """Return the change before which a retraining learns no row, or None where it learns them all.

    It is the one that the retraining answers. The schedule answers none, whatever the newest
    windows show: a drift that does no harm, or one bad day, is no reason to forget. Without a new
    change it is the one that the champion began with: what came before is as old as it was.
    """
    if policy.rows == "training window":
        return None
    located = (locate_change(state.windows, answered) for answered in _answered(state, cause))
    return next((at for at in located if at is not None), state.learnt_since)


def _answered(state: RetrainingState, cause: RetrainingCause | None) -> tuple[RetrainingCause, ...]:
    """Return what a retraining may be the answer to; a person's, to whatever is wrong."""
    if cause is not RetrainingCause.PERSON:
        return () if cause in (RetrainingCause.SCHEDULE, None) else (cause,)
    if harmless(state.windows) is not None:
        return (RetrainingCause.PERFORMANCE,)
    return (RetrainingCause.PERFORMANCE, RetrainingCause.DRIFT)


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
