"""What still counts as promised?"""

from __future__ import annotations

from modelyard.domain.metrics import Interval, Metric


def promise_limit(metric: Metric, promised: Interval, tolerance: float) -> float:
    """Return the metric's worst value that still counts as promised.

    Args:
        tolerance: how much worse than the bad end of the promise may be, as a share of the promised
            value.
    """
    slack = tolerance * abs(promised.value)
    return promised.low - slack if metric.higher_is_better else promised.high + slack


def surely_beyond(metric: Metric, found: Interval, limit: float) -> bool:
    """Return whether all of an interval is worse than a limit.

    One that reaches both sides is chance, or too few rows to tell.
    """
    return found.high < limit if metric.higher_is_better else found.low > limit


def shortfall(metric: Metric, value: float, promised: Interval) -> float:
    """Return how much worse than promised a value is, as a share of the promised one."""
    worse = promised.value - value if metric.higher_is_better else value - promised.value
    return worse / (abs(promised.value) or 1.0)
