"""How likely is a difference at least this large, when nothing changed?

On SciPy's special functions alone: `scipy.stats` takes longer to import than a window to judge.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

_MOST_UNSEEN = 1_000
"""Rows in unseen levels from which more do not make it less likely by any number that matters."""
_NEVER = 1e-300


def kolmogorov_tail(distance: float, n: int, m: int) -> float:
    """Return P(D >= distance) of the two-sample Kolmogorov-Smirnov statistic of n and m rows.

    The limit distribution with the small-sample term of Stephens (1970), "Use of the
    Kolmogorov-Smirnov, Cramér-von Mises and related statistics without extensive tables". On ties
    and on binned values the true probability is smaller, never larger.
    """
    root = math.sqrt(n * m / (n + m))
    return float(special.kolmogorov((root + 0.12 + 0.11 / root) * distance))


def harmonic_tail(tails: np.ndarray) -> float:
    """Return the chance that tails of tests which are not independent are this small together.

    Their harmonic mean (Wilson 2019, "The harmonic mean p-value for combining dependent tests"):
    what one of many says costs as much as by Bonferroni's correction, what all say costs nothing.
    It keeps its level where that is small, as a level is which many columns share.
    """
    if not tails.min() > 0:
        return 0.0
    return float(min(tails.size / np.sum(1 / tails), 1.0))


def beyond_tail(rows: int, n: int, reference_n: int) -> float:
    """Return the chance that `rows` window rows or more lie beyond all of the reference, one side.

    When window and reference are one population, each way to deal the pooled rows to the two is
    equally likely: the largest k all come from the window with a chance of n/(n+m) (n-1)/(n+m-1)
    and so on, k times.
    """
    k = np.arange(min(rows, n))
    return float(np.prod((n - k) / (n + reference_n - k)))


def share_difference_tail(count: int, n: int, other_count: int, other_n: int) -> float:
    """Return the two-sided p-value that two shares, count/n and other_count/other_n, are one.

    Fisher's exact test (the hypergeometric tail on the side of the deviation, doubled): its level
    holds at any count, where a normal approximation alarms on the first null ever seen.
    """
    marked, total = count + other_count, n + other_n
    if marked in (0, total):
        return 1.0
    expected = marked * n / total
    if count < expected:  # by symmetry, look at the rows that are not marked
        count, marked = n - count, total - marked
    last = min(marked, n)
    # Terms fall geometrically once past the mean: twenty deviations hold all that a float can.
    spread = math.sqrt(marked * n / total * (1 - n / total) * (1 - marked / total)) + 1.0
    k = np.arange(count, min(last, count + int(40 * spread) + 200) + 1)
    log_terms = _log_choose(marked, k) + _log_choose(total - marked, n - k)
    tail = np.exp(log_terms - _log_choose(total, np.array([n]))).sum()
    return float(min(2.0 * tail, 1.0))


def unseen_tail(rows_of_level: np.ndarray, unseen_rows: int, n: int, reference_n: int) -> float:
    """Return the chance that `unseen_rows` window rows or more hold levels the reference lacks.

    When window and reference are one population, every way to deal the pooled rows to the two is
    equally likely: a level with c pooled rows lies wholly in the window with probability q**c,
    q = n / (n + reference_n). So a city that appears once a year does not alarm, and a level that
    suddenly has ten rows does. Levels count as dealt one by one; that one of them took window rows
    makes it less likely for the others (Joag-Dev and Proschan 1983).

    Args:
        rows_of_level: pooled row count of every level, shape (levels,).
    """
    if unseen_rows == 0:
        return 1.0
    least = min(unseen_rows, _MOST_UNSEEN)
    fewer = np.zeros(least)  # chance of each number of unseen rows below `least`
    fewer[0] = 1.0
    q = n / (n + reference_n)
    sizes, counts = np.unique(rows_of_level.astype(int), return_counts=True)
    for size, levels in zip(sizes.tolist(), counts.tolist(), strict=True):
        chance = q**size
        if size < least and chance > _NEVER:
            times = np.arange((least - 1) // size + 1)
            dealt = np.zeros(least)
            dealt[times * size] = _binomial(times, levels, chance)
            fewer = np.convolve(fewer, dealt)[:least]
        else:  # one such level is enough, or there is none
            fewer *= np.exp(levels * np.log1p(-chance))
    return float(np.clip(1.0 - fewer.sum(), 0.0, 1.0))


def _binomial(times: np.ndarray, tries: int, chance: float) -> np.ndarray:
    """Return the chance of each number of successes."""
    logs = times * math.log(chance) + (tries - times) * math.log1p(-chance)
    return np.exp(_log_choose(tries, times) + logs)


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    """Return log(n over k) for integers k; minus infinity where k is outside 0..n."""
    inside = (k >= 0) & (k <= n)
    k = np.clip(k, 0, n)
    log = special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)
    return np.where(inside, log, -np.inf)
