"""By which tests do the rows of a window differ from those of the reference?

Each test takes all rows for independent draws from one population, and then holds its level at the
window's actual size. Whether a test takes part depends on the pooled rows alone, never on how they
fall to reference and window: otherwise no correction for their number would hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np
from scipy.special import chdtrc

from modelyard.domain.profiles import (
    PREDICTION,
    SCORE,
    CategoricalProfile,
    ColumnProfile,
    NumericProfile,
)
from modelyard.domain.statistics import (
    beyond_tail,
    kolmogorov_tail,
    share_difference_tail,
    unseen_tail,
)
from modelyard.domain.values import Value

MIN_PRESENT = 20
"""Present values below which a column's distribution is not tested, only its nulls."""
_MIN_EXPECTED = 10.0
"""Rows that each group must expect in the smaller sample. The usual 5 (Cochran 1954) is for a level
of 5 %; far in the tail, where a corrected level lies, it alarms too often."""
_SHAPE_GROUPS = 16


class DriftTest(StrEnum):
    """What was compared between reference and window."""

    DISTRIBUTION = "distribution"
    """Where the values of a numeric column lie: Kolmogorov-Smirnov distance, or, with a history,
    the shares of rows below each decile."""
    LEVELS = "levels"
    """Shares of the levels of a categorical column: chi-square, or Fisher's test of two groups."""
    SHAPE = "shape"
    """Shares of sixteen ranges of a numeric column: sees spread where the distance is blind."""
    NULLS = "nulls"
    UNSEEN = "unseen levels"
    FAR = "far values"
    """Values beyond the reference's by more than its whole range, as after a change of unit."""


class DriftFinding(Value):
    """What one test says about one column."""

    column: str
    test: DriftTest
    statistic: float
    """Kolmogorov-Smirnov distance, chi-square, difference of shares, or Student's t, by test."""
    p_value: float
    adjusted_p_value: float
    """p_value times what the number of tests and the test's share of the accepted false alarms
    cost: drifted where it is at most the accepted rate and the effect is large enough."""
    effect: float
    """Share of rows that moved, 0..1: the Kolmogorov-Smirnov or total variation distance, or the
    difference of the null rates, or the share of unseen levels or of far values."""
    drifted: bool
    words: str


def compare_column(
    name: str, reference: ColumnProfile, window: ColumnProfile
) -> Iterator[DriftFinding]:
    """Yield what each test says about one column, before correction."""
    yield from compare_nulls(name, reference, window)
    if min(reference.present, window.present) < MIN_PRESENT:
        return
    if isinstance(reference, NumericProfile) and isinstance(window, NumericProfile):
        yield _test_distribution(name, reference, window)
        yield from _test_shape(name, reference, window)
    elif isinstance(reference, CategoricalProfile) and isinstance(window, CategoricalProfile):
        yield _test_levels(name, reference, window)
    yield from compare_news(name, reference, window)


def compare_news(
    name: str, reference: ColumnProfile, window: ColumnProfile
) -> Iterator[DriftFinding]:
    """Yield what is said of values that the reference does not have at all."""
    if min(reference.present, window.present) < MIN_PRESENT:
        return
    if isinstance(reference, NumericProfile) and isinstance(window, NumericProfile):
        yield _test_far(name, reference, window)
    elif (
        isinstance(reference, CategoricalProfile)
        and isinstance(window, CategoricalProfile)
        and not reference.other
    ):
        yield _test_unseen(name, reference, window)


def compare_nulls(
    name: str, reference: ColumnProfile, window: ColumnProfile
) -> Iterator[DriftFinding]:
    """Yield what is said of the null rate, where there is a null at all."""
    if not reference.nulls + window.nulls:
        return
    n = reference.nulls + reference.present
    m = window.nulls + window.present
    change = window.nulls / m - reference.nulls / n
    yield found(
        name,
        DriftTest.NULLS,
        statistic=change,
        p_value=share_difference_tail(window.nulls, m, reference.nulls, n),
        effect=abs(change),
        words=f"nulls {reference.nulls / n:.2%} to {window.nulls / m:.2%} of the rows",
    )


def _test_distribution(
    name: str, reference: NumericProfile, window: NumericProfile
) -> DriftFinding:
    n, m = reference.present, window.present
    gaps = np.cumsum(window.counts) / m - np.cumsum(reference.counts) / n
    distance = float(np.abs(gaps).max())
    return found(
        name,
        DriftTest.DISTRIBUTION,
        statistic=distance,
        p_value=kolmogorov_tail(distance, n, m),
        effect=distance,
        words=f"mean {reference.mean:.4g} to {window.mean:.4g}, {distance:.1%} of the rows moved",
    )


def _test_shape(
    name: str, reference: NumericProfile, window: NumericProfile
) -> Iterator[DriftFinding]:
    """Yield the chi-square test of equal-mass ranges of the pooled rows (Mann and Wald 1942)."""
    was, now = np.array(reference.counts, dtype=float), np.array(window.counts, dtype=float)
    n, m = was.sum(), now.sum()
    groups = min(_SHAPE_GROUPS, int(min(n, m) / _MIN_EXPECTED))
    middle = np.cumsum(was + now) - (was + now) / 2
    group = np.minimum((middle / (n + m) * groups).astype(int), groups - 1)
    was, now = (np.bincount(group, counts, minlength=groups) for counts in (was, now))
    filled = (was + now) * min(n, m) / (n + m) >= _MIN_EXPECTED / 2
    if filled.sum() < 3 or not filled.all():
        return  # a coarse column: its few values are seen by the distance
    statistic, p_value, effect = _homogeneity(was, now)
    yield found(
        name,
        DriftTest.SHAPE,
        statistic=statistic,
        p_value=p_value,
        effect=effect,
        words=f"standard deviation {reference.sd:.4g} to {window.sd:.4g}, {effect:.1%} of the rows "
        "moved",
    )


def _homogeneity(was: np.ndarray, now: np.ndarray) -> tuple[float, float, float]:
    """Return chi-square, p-value and total variation of the counts of the same groups."""
    n, m = was.sum(), now.sum()
    pooled = (was + now) / (n + m)
    statistic = float(
        np.sum((was - n * pooled) ** 2 / (n * pooled))
        + np.sum((now - m * pooled) ** 2 / (m * pooled))
    )
    effect = float(0.5 * np.abs(was / n - now / m).sum())
    return statistic, float(chdtrc(was.size - 1, statistic)), effect


def _test_levels(
    name: str, reference: CategoricalProfile, window: CategoricalProfile
) -> DriftFinding:
    was, now, biggest = _grouped_levels(reference, window)
    n, m = was.sum(), now.sum()
    statistic, p_value, effect = 0.0, 1.0, float(0.5 * np.abs(was / n - now / m).sum())
    if was.size == 2:
        statistic = float(abs(was[0] / n - now[0] / m))
        p_value = share_difference_tail(int(now[0]), int(m), int(was[0]), int(n))
    elif was.size > 2:
        statistic, p_value, effect = _homogeneity(was, now)
    changed = int(np.argmax(np.abs(was / n - now / m)))
    return found(
        name,
        DriftTest.LEVELS,
        statistic=statistic,
        p_value=p_value,
        effect=effect,
        words=f"{effect:.1%} of the rows moved, most in {biggest[changed]} "
        f"({was[changed] / n:.1%} to {now[changed] / m:.1%})",
    )


def _grouped_levels(
    reference: CategoricalProfile, window: CategoricalProfile
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return rows of the frequent levels and of the rest together, in reference and window.

    Levels are grouped by their pooled rows, which do not tell who drew them.
    """
    smaller = min(reference.present, window.present) / (reference.present + window.present)
    groups: list[tuple[int, int, str]] = []
    rest = [reference.other, window.other + window.unseen_other]
    names = sorted(reference.levels.keys() | window.levels.keys() | window.unseen.keys())
    for level in names:
        was = reference.levels.get(level, 0)
        now = window.levels.get(level, 0) + window.unseen.get(level, 0)
        if (was + now) * smaller >= _MIN_EXPECTED:
            groups.append((was, now, repr(level)))
        else:
            rest[0] += was
            rest[1] += now
    if sum(rest) * smaller >= _MIN_EXPECTED or (groups and sum(rest) and len(groups) < 2):
        groups.append((rest[0], rest[1], "rare levels"))
    elif sum(rest) and groups:  # too few for a group of their own: count with the smallest
        was, now, level = groups.pop(min(range(len(groups)), key=lambda i: sum(groups[i][:2])))
        groups.append((was + rest[0], now + rest[1], f"{level} and rare levels"))
    if not groups:
        groups = [(reference.present, window.present, "rare levels")]
    return (
        np.array([g[0] for g in groups], dtype=float),
        np.array([g[1] for g in groups], dtype=float),
        [g[2] for g in groups],
    )


def _test_unseen(
    name: str, reference: CategoricalProfile, window: CategoricalProfile
) -> DriftFinding:
    unseen = window.unseen_rows
    share = unseen / window.present
    pooled = [was + window.levels.get(level, 0) for level, was in reference.levels.items()]
    # Levels that are not listed one by one count as single rows, the least surprising way.
    pooled += [*window.unseen.values(), *([1] * window.unseen_other)]
    examples = ", ".join(repr(level) for level in list(window.unseen)[:3])
    return found(
        name,
        DriftTest.UNSEEN,
        statistic=share,
        p_value=unseen_tail(np.array(pooled), unseen, window.present, reference.present),
        effect=share,
        words=f"{share:.2%} of the rows ({unseen}) in levels never seen in training: {examples}"
        if unseen
        else "no level that was not seen in training",
    )


def _test_far(name: str, reference: NumericProfile, window: NumericProfile) -> DriftFinding:
    """Judge rows far beyond the reference's, which are all among the pooled rows' extremes.

    k of them are a from above and b from below, a + b = k, in one of k + 1 ways.
    """
    far, n = window.far_outside, window.present
    tail = (far + 1) * beyond_tail(far, n, reference.present)
    limits = f"{reference.min:.4g} to {reference.max:.4g}"
    return found(
        name,
        DriftTest.FAR,
        statistic=far / n,
        p_value=min(tail, 1.0),
        effect=far / n,
        words=f"{far / n:.2%} of the rows ({far}) far beyond {limits}: "
        f"{window.min:.4g} to {window.max:.4g}"
        if far
        else f"no value far beyond {limits}",
    )


def found(
    column: str, test: DriftTest, *, statistic: float, p_value: float, effect: float, words: str
) -> DriftFinding:
    """Return a finding that is not yet corrected for how many there are."""
    shown = {PREDICTION: "the predictions", SCORE: "their scores"}.get(column, column)
    return DriftFinding(
        column=column,
        test=test,
        statistic=float(statistic),
        p_value=float(p_value),
        adjusted_p_value=float(p_value),
        effect=float(effect),
        drifted=False,
        words=f"{shown}: {words}",
    )
