"""What would other monitors say of the same window?

Each rule is given what it wants: the rows of reference and window, or the profiles of the windows
before. Evidently's tests are called as Evidently calls them; the others are a few lines each.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from modelyard.domain.profiles import CategoricalProfile, NumericProfile, Profile

Rows = Mapping[str, np.ndarray]


def is_numeric(values: np.ndarray) -> bool:
    return values.dtype != object


def two_sample_p_values(reference: Rows, window: Rows) -> list[float]:
    """Return the p-value of each column: Kolmogorov-Smirnov, or chi-square of homogeneity."""
    return [
        _ks(reference[name], window[name]) if is_numeric(values) else _chi_square(values, other)
        for name, values in reference.items()
        for other in (window[name],)
    ]


def _ks(was: np.ndarray, now: np.ndarray) -> float:
    was, now = was[~np.isnan(was)], now[~np.isnan(now)]
    return float(stats.ks_2samp(was, now, method="asymp").pvalue)


def _chi_square(was: np.ndarray, now: np.ndarray) -> float:
    a, b = _counts(was), _counts(now)
    levels = sorted(a | b)
    table = [[counts[level] for level in levels] for counts in (a, b)]
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def _counts(values: np.ndarray) -> Counter[str]:
    return Counter(v for v in values.tolist() if v is not None)


def evidently_drifted(reference: Rows, window: Rows) -> list[bool]:
    """Return what Evidently's default test of each column says, by Evidently's own code."""
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    drifted = []
    for name, values in reference.items():
        was, now = pd.Series(values).dropna(), pd.Series(window[name]).dropna()
        kind = ColumnType.Numerical if is_numeric(values) else ColumnType.Categorical
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = get_stattest(was, now, kind, None)(was, now, kind, None)
        drifted.append(bool(said.drifted))
    return drifted


def stability_indices(reference: Profile, window: Profile) -> list[float]:
    """Return the population stability index of each column: ten quantile bins, or the levels."""
    found = []
    for name, known in reference.columns.items():
        seen = window.columns[name]
        if isinstance(known, NumericProfile) and isinstance(seen, NumericProfile):
            was, now = _tenths(known, known.counts), _tenths(known, seen.counts)
        elif isinstance(known, CategoricalProfile) and isinstance(seen, CategoricalProfile):
            was = np.array([*known.levels.values(), known.other + 0.0])
            now = np.array(
                [*(seen.levels.get(v, 0) for v in known.levels), seen.other + seen.unseen_rows]
            )
        else:
            raise TypeError(f"{name} has two kinds")
        was, now = np.maximum(was / was.sum(), 1e-4), np.maximum(now / now.sum(), 1e-4)
        found.append(float(np.sum((now - was) * np.log(now / was))))
    return found


def _tenths(known: NumericProfile, counts: Sequence[int]) -> np.ndarray:
    below = np.cumsum(known.counts) / known.present
    tenth = np.minimum((np.concatenate([[0.0], below[:-1]]) * 10).astype(int), 9)
    return np.bincount(tenth, counts, minlength=10)


def distances(reference: Profile, window: Profile) -> np.ndarray:
    """Return each column's distance as NannyML's univariate drift has it.

    Jensen-Shannon for levels and Wasserstein for numbers, here over the reference's bins.
    """
    found = []
    for name, known in reference.columns.items():
        seen = window.columns[name]
        if isinstance(known, NumericProfile) and isinstance(seen, NumericProfile):
            gaps = np.cumsum(known.counts) / known.present - np.cumsum(seen.counts) / seen.present
            widths = np.diff(known.edges, prepend=known.min, append=known.max)
            found.append(float(np.sum(np.abs(gaps) * np.maximum(widths, 0.0))))
        elif isinstance(known, CategoricalProfile) and isinstance(seen, CategoricalProfile):
            was = np.array(list(known.levels.values())) / known.present
            now = np.array([seen.levels.get(v, 0) for v in known.levels]) / seen.present
            found.append(_jensen_shannon(was, now))
    return np.array(found)


def _jensen_shannon(was: np.ndarray, now: np.ndarray) -> float:
    middle = (was + now) / 2
    return float(np.sqrt((_relative_entropy(was, middle) + _relative_entropy(now, middle)) / 2))


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))


def beyond_three_sd(history: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return NannyML's rule: further than three standard deviations from the history's mean.

    Args:
        history: distances, shape (windows, columns).
    """
    mean, spread = history.mean(axis=0), history.std(axis=0)
    return (now > mean + 3 * spread) | (now < mean - 3 * spread)


RULES: Mapping[str, Callable[[Rows, Rows, Profile, Profile], bool]] = {
    "Evidently, any column": lambda r, w, *_: any(evidently_drifted(r, w)),
    "Evidently, half of the columns": lambda r, w, *_: 2 * sum(evidently_drifted(r, w)) >= len(r),
    "KS / chi-square, p < 0.05": lambda r, w, *_: min(two_sample_p_values(r, w)) < 0.05,
    "KS / chi-square, Bonferroni 0.01": lambda r, w, *_: (
        min(two_sample_p_values(r, w)) < 0.01 / len(r)
    ),
    "KS / chi-square, Bonferroni 0.001": lambda r, w, *_: (
        min(two_sample_p_values(r, w)) < 0.001 / len(r)
    ),
    "PSI > 0.1, any column": lambda r, w, known, seen: max(stability_indices(known, seen)) > 0.1,
    "PSI > 0.2, any column": lambda r, w, known, seen: max(stability_indices(known, seen)) > 0.2,
}
