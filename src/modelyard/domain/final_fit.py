"""May the fit that learnt the holdout be released in place of the one that was judged?"""

from __future__ import annotations

import math

from modelyard.domain.gate import GateVerdict, Rule
from modelyard.domain.metrics import Interval, Metric


def judge_final_fit(
    metric: Metric, *, judged: float, learnt: float, interval: Interval, silent: int
) -> Rule:
    """Refuse a fit that knows the holdout and says less about it than the one that did not.

    `judged` and `learnt` are the metric of both fits on the same holdout rows, `interval` is what
    the gate promised of the first, `silent` counts rows without a finite prediction of the second.
    The second has learnt these rows, so its figure says nothing about how good it is; but one that
    is worse by more than the interval's bad half has gone wrong.
    """
    worst = interval.low if metric.higher_is_better else interval.high
    limit = judged + (worst - interval.value)
    past = learnt >= limit if metric.higher_is_better else learnt <= limit
    known = math.isfinite(learnt) and math.isfinite(limit)
    if silent:
        reason = f"no finite prediction for {silent:,} holdout rows that it has learnt"
    elif not known:
        reason = f"{metric.name} on the holdout that it has learnt cannot be computed"
    else:
        words = "not worse than" if past else "worse than"
        reason = (
            f"{metric.name} {learnt:.4g} on the holdout that it has learnt, {words} {limit:.4g}, "
            f"the bad end for the judged fit, which had not seen it ({judged:.4g})"
        )
    return Rule(
        name="final fit",
        verdict=GateVerdict.PROMOTE if known and past and not silent else GateVerdict.KEEP,
        value=learnt if math.isfinite(learnt) else None,
        limit=f"{'at least' if metric.higher_is_better else 'at most'} {limit:.4g}",
        reason=reason,
    )
