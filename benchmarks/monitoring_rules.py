"""What would other monitors say of the same window?

Each rule is given what it wants: the rows of reference and window, or the profiles of the windows
before. Evidently's tests are called as Evidently calls them; the others are a few lines each.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from modelyard.domain.profiles import CategoricalProfile, NumericProfile, Profile

Rows = Mapping[str, np.ndarray]


def is_numeric(values: np.ndarray) -> bool:
    return values.dtype != object


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


@dataclass(frozen=True)
class Figures:
    """What the others' rules go by in one window."""

    p_values: Sequence[float]
    indices: Sequence[float]
    drifted: Sequence[bool] | None
    """By Evidently's defaults; None where it was not asked."""

    @property
    def corrected(self) -> float:
        """The least p-value, corrected for the number of columns by Bonferroni."""
        return min(self.p_values) * len(self.p_values)

    def alarms(self) -> dict[str, bool]:
        """Return what each rule that can be asked says."""
        tests = {
            "KS / chi-square, p < 0.05": min(self.p_values) < 0.05,
            **{name: self.corrected < rate for rate, name in CORRECTED.items()},
        }
        largest = max(self.indices)
        indices = {f"PSI > {limit}, any column": largest > limit for limit in (0.1, 0.2)}
        if self.drifted is None:
            return tests | indices
        drifted = sum(self.drifted)
        return {
            EVIDENTLY_ANY: drifted > 0,
            EVIDENTLY_HALF: 2 * drifted >= len(self.drifted),
            **tests,
            **indices,
        }


CORRECTED = {rate: f"KS / chi-square, Bonferroni {rate:g}" for rate in (0.01, 0.001)}
EVIDENTLY_ANY = "Evidently, any column"
EVIDENTLY_HALF = "Evidently, half of the columns"
"""Evidently's data set counts as drifted where at least half of its columns do."""


class Others:
    """The others' rules, with the reference that they compare windows with."""

    def __init__(self, reference: Rows, profile: Profile) -> None:
        self._reference = reference
        self._profile = profile
        # What ks_2samp sorts by itself is sorted here once, which it is much faster with.
        self._present = {
            name: np.sort(values[~np.isnan(values)]) if is_numeric(values) else _counts(values)
            for name, values in reference.items()
        }

    def figures(self, window: Rows, profile: Profile, *, evidently: bool = True) -> Figures:
        """Return what they go by in a window.

        Evidently's tests take longer than all else together: `evidently` says whether to ask them.
        """
        return Figures(
            p_values=[self._p_value(name, values) for name, values in window.items()],
            indices=stability_indices(self._profile, profile),
            drifted=evidently_drifted(self._reference, window) if evidently else None,
        )

    def _p_value(self, name: str, values: np.ndarray) -> float:
        """Return that of Kolmogorov and Smirnov, or chi-square of homogeneity."""
        known = self._present[name]
        if isinstance(known, Counter):
            return _chi_square(known, _counts(values))
        present = values[~np.isnan(values)]
        return float(stats.ks_2samp(known, present, method="asymp").pvalue)


def _chi_square(was: Counter[str], now: Counter[str]) -> float:
    levels = sorted(was | now)
    table = [[counts[level] for level in levels] for counts in (was, now)]
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def _counts(values: np.ndarray) -> Counter[str]:
    return Counter(v for v in values.tolist() if v is not None)
