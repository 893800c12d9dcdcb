"""What still counts as promised?"""

from __future__ import annotations

import math

from modelyard.domain.metrics import Interval, Metric


def tolerated(metric: Metric, promised: Interval, naive: float | None, share: float) -> float:
    """Return how much worse than promised is still as promised, as a share of the promised value.

    It is `share` of the value, or of what the model gains over the naive one where that is less: a
    tenth of a ROC AUC of 0.8 is a quarter of all that such a model knows, and a tenth of an error
    that is a quarter of the naive model's is little (docs/decisions/0024).

    Args:
        naive: the naive model's metric on the rows of the promise; None where it is not known.
    """
    if naive is None or not promised.value:
        return share
    gain = promised.value - naive if metric.higher_is_better else naive - promised.value
    return share * min(1.0, max(0.0, gain) / abs(promised.value))


def promise_limit(
    metric: Metric, promised: Interval, tolerance: float, found: Interval | None = None
) -> float:
    """Return the metric's worst value that still counts as promised.

    Both sides were measured on samples. That the whole interval found is beyond this limit says
    that the interval of the difference is beyond what is tolerated: distances to the ends that face
    each other add up as the sides of a right triangle (MOVER; Zou and Donner 2008, "Construction of
    confidence limits about effect measures"). That two intervals do not overlap would ask for more
    than their confidence.

    Args:
        tolerance: how much worse than promised may be, as a share of the promised value.
        found: what was measured; without it, the limit of something measured without error.
    """
    slack = tolerance * abs(promised.value)
    if metric.higher_is_better:
        unsure = promised.value - promised.low
        facing = found.high - found.value if found else 0.0
        return promised.value - slack - (math.hypot(unsure, facing) - facing)
    unsure = promised.high - promised.value
    facing = found.value - found.low if found else 0.0
    return promised.value + slack + (math.hypot(unsure, facing) - facing)


def surely_beyond(metric: Metric, found: Interval, limit: float) -> bool:
    """Return whether all of an interval is worse than a limit.

    One that reaches both sides is chance, or too few rows to tell.
    """
    return found.high < limit if metric.higher_is_better else found.low > limit


def shortfall(metric: Metric, value: float, promised: Interval) -> float:
    """Return how much worse than promised a value is, as a share of the promised one."""
    worse = promised.value - value if metric.higher_is_better else value - promised.value
    return worse / (abs(promised.value) or 1.0)
