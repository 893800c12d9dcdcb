"""How likely is a difference at least this large, when nothing changed?

Tail probabilities in plain numpy: the monitoring path must import in a fraction of a second, and
SciPy alone takes longer than judging a window. Each is tested against SciPy.
"""

from __future__ import annotations

import math

import numpy as np


def kolmogorov_tail(distance: float, n: int, m: int) -> float:
    """Return P(D >= distance) of the two-sample Kolmogorov-Smirnov statistic of n and m rows.

    The limit distribution with the small-sample term of Stephens (1970), "Use of the
    Kolmogorov-Smirnov, Cramér-von Mises and related statistics without extensive tables". On ties
    and on binned values the true probability is smaller, never larger.
    """
    root = math.sqrt(n * m / (n + m))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.3:  # the alternating series converges slowly here, where the tail is 0.99999
        return 1.0
    terms = np.arange(1, 101)
    series = 2.0 * np.sum((-1.0) ** (terms - 1) * np.exp(-2.0 * (terms * scaled) ** 2))
    return float(np.clip(series, 0.0, 1.0))


def student_quantile(probability: float, degrees: int) -> float:
    """Return where Student's t distribution reaches `probability`, for 0.5 or more.

    By bisection on the distribution function, which for an even number of degrees of freedom is a
    short sum (Abramowitz and Stegun 1964, 26.7.4). Raises ValueError for an odd number.
    """
    if degrees < 2 or degrees % 2:
        raise ValueError(f"needs an even number of degrees of freedom, got {degrees}")

    def reached(t: float) -> float:
        cosine_square = degrees / (degrees + t * t)
        term = total = 1.0
        for k in range(1, degrees // 2):
            term *= cosine_square * (2 * k - 1) / (2 * k)
            total += term
        return 0.5 + 0.5 * t / math.sqrt(degrees + t * t) * total

    low, high = 0.0, 1.0
    while reached(high) < probability:
        low, high = high, 2.0 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < probability else (low, middle)
    return high


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return P(X >= statistic) of a chi-square variable with `degrees` degrees of freedom.

    The regularised upper incomplete gamma function, by its series below the mean and by Lentz's
    continued fraction above it (Press et al., "Numerical Recipes", 3rd edition, section 6.2).
    """
    shape, x = degrees / 2.0, statistic / 2.0
    if x <= 0.0:
        return 1.0
    log_scale = shape * math.log(x) - x - math.lgamma(shape)
    if x < shape + 1.0:
        term = total = 1.0 / shape
        k = shape
        while abs(term) > abs(total) * 1e-16:
            k += 1.0
            term *= x / k
            total += term
        return min(max(1.0 - total * math.exp(log_scale), 0.0), 1.0)
    tiny = 1e-300
    b = x + 1.0 - shape
    c, d = 1.0 / tiny, 1.0 / b
    fraction = d
    for i in range(1, 10_000):
        a = -i * (i - shape)
        b += 2.0
        d = 1.0 / (a * d + b or tiny)
        c = b + a / c or tiny
        fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return min(math.exp(log_scale) * fraction, 1.0)


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
    """Bound the chance that `unseen_rows` window rows or more hold levels the reference lacks.

    When window and reference are one population, every way to deal the pooled rows to the two is
    equally likely: a level with c pooled rows lies wholly in the window with probability q**c at
    most, q = n / (n + reference_n). The sum of the rows of such levels is bounded by Chernoff's
    method (Chernoff 1952); negative dependence between levels only lowers the tail
    (Joag-Dev and Proschan 1983). So a city that appears once a year does not alarm, and a level
    that suddenly has ten rows does.

    Args:
        rows_of_level: pooled row count of every level, shape (levels,).
    """
    if unseen_rows == 0:
        return 1.0
    q = n / (n + reference_n)
    sizes, levels = np.unique(rows_of_level, return_counts=True)
    s = q + (1.0 - q) * np.linspace(0.0, 1.0, 201)[:, None]
    log_bound = unseen_rows * np.log(q / s[:, 0]) + np.sum(
        levels * np.log1p(s**sizes - q**sizes), axis=1
    )
    return float(min(np.exp(log_bound.min()), 1.0))


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    """Return log(n over k) for integers k; minus infinity where k is outside 0..n."""
    inside = (k >= 0) & (k <= n)
    k = np.clip(k, 0, n)
    log = _log_gamma(np.array([n + 1.0])) - _log_gamma(k + 1.0) - _log_gamma(n - k + 1.0)
    return np.where(inside, log, -np.inf)


def _log_gamma(x: np.ndarray) -> np.ndarray:
    """Return log Gamma(x) for x >= 1: Stirling's series, after a shift to where it is exact."""
    shifted = x + 8.0
    stirling = (
        (shifted - 0.5) * np.log(shifted)
        - shifted
        + 0.5 * math.log(2.0 * math.pi)
        + 1.0 / (12.0 * shifted)
        - 1.0 / (360.0 * shifted**3)
        + 1.0 / (1260.0 * shifted**5)
    )
    return stirling - sum(np.log(x + i) for i in range(8))
