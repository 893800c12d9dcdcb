"""Has the traffic of this window moved away from the rows that the release was trained on?

Every column is asked one question by each of a few tests whose level holds at the window's actual
size; the answers are corrected for how many were asked, so that the stated rate of false alarms is
the rate for all columns together. What is significant must also be large enough to matter: at a
hundred thousand rows everything is significant.

The rate holds for rows that are independent draws. Days that differ from each other by themselves
(weather, season) count as drift here, because nothing in two profiles tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import numpy as np
from pydantic import Field

from modelyard.domain.profiles import PREDICTION, CategoricalProfile, NumericProfile, Profile
from modelyard.domain.statistics import (
    chi_square_tail,
    kolmogorov_tail,
    share_difference_tail,
    unseen_tail,
)
from modelyard.domain.values import Value

_MIN_EXPECTED = 10.0
"""Rows that each group of levels must expect in the smaller sample. The usual 5 (Cochran 1954) is
for a level of 5 %; far in the tail, where a corrected level lies, it alarms too often."""
_MIN_PRESENT = 20
"""Present values below which a column's distribution is not tested, only its nulls."""


class DriftOutcome(StrEnum):
    """What a window's drift verdict says."""

    STABLE = "stable"
    DRIFTED = "drifted"
    TOO_FEW_ROWS = "too few rows"


class DriftTest(StrEnum):
    """What was compared between reference and window."""

    DISTRIBUTION = "distribution"
    """Kolmogorov-Smirnov distance of a numeric column."""
    LEVELS = "levels"
    """Shares of the levels of a categorical column: chi-square, or Fisher's test of two groups."""
    NULLS = "nulls"
    UNSEEN = "unseen levels"


class DriftPolicy(Value):
    """When a difference is called drift."""

    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Accepted chance that a window in which nothing changed alarms, over all columns together."""
    min_rows: Annotated[int, Field(ge=1)] = 200
    min_effect: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Smallest share of rows that must have moved. On a bell-shaped column 0.02 is a shift of
    0.05 standard deviations."""
    min_unseen: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """Smallest share of rows in levels that the reference does not have."""


class DriftFinding(Value):
    """What one test says about one column."""

    column: str
    test: DriftTest
    statistic: float
    """Kolmogorov-Smirnov distance, chi-square, or difference of shares, by test."""
    p_value: float
    adjusted_p_value: float
    """p_value times the number of tests: drifted where it is at most the accepted rate of false
    alarms and the effect is large enough."""
    effect: float
    """Share of rows that moved, 0..1: the Kolmogorov-Smirnov or total variation distance, or the
    difference of the null rates, or the share of unseen levels."""
    drifted: bool
    words: str


class DriftVerdict(Value):
    """Whether a window drifted, and which columns are suspect, the largest effect first."""

    outcome: DriftOutcome
    rows: int
    reference_rows: int
    tests: int
    """How many tests the accepted rate of false alarms is shared by."""
    policy: DriftPolicy
    suspects: tuple[DriftFinding, ...] = ()
    findings: tuple[DriftFinding, ...] = ()
    """All tests of all columns, also the quiet ones, for reports."""
    reasons: tuple[str, ...]

    def strongest(self, column: str) -> DriftFinding | None:
        """Return the finding that speaks most for drift of a column, or None if it was untested."""
        of_column = [f for f in self.findings if f.column == column]
        return min(of_column, key=lambda f: (not f.drifted, f.p_value), default=None)


def judge_drift(reference: Profile, window: Profile, policy: DriftPolicy) -> DriftVerdict:
    """Judge whether a window's profile drifted from its reference's.

    Bonferroni's correction: for the question "any alarm at all" it equals Holm's, and it lets each
    column's threshold be stated. The model's output takes part as the column `prediction`.
    """
    if window.rows < policy.min_rows:
        return DriftVerdict(
            outcome=DriftOutcome.TOO_FEW_ROWS,
            rows=window.rows,
            reference_rows=reference.rows,
            tests=0,
            policy=policy,
            reasons=(
                f"{window.rows} rows in the window, {policy.min_rows} are needed to tell drift "
                "from chance",
            ),
        )
    raw = [
        finding
        for name, column in reference.columns.items()
        if name in window.columns
        for finding in _test_column(name, column, window.columns[name])
    ]
    findings = tuple(_correct(finding, len(raw), policy) for finding in raw)
    suspects = tuple(sorted((f for f in findings if f.drifted), key=lambda f: -f.effect))
    if suspects:
        outcome = DriftOutcome.DRIFTED
        reasons = tuple(finding.words for finding in suspects)
    else:
        outcome = DriftOutcome.STABLE
        reasons = (_quiet_words(findings, policy),)
    return DriftVerdict(
        outcome=outcome,
        rows=window.rows,
        reference_rows=reference.rows,
        tests=len(findings),
        policy=policy,
        suspects=suspects,
        findings=findings,
        reasons=reasons,
    )


def _test_column(
    name: str,
    reference: NumericProfile | CategoricalProfile,
    window: NumericProfile | CategoricalProfile,
) -> Iterator[DriftFinding]:
    """Yield what each test says about one column, before correction.

    Whether a test takes part may depend on the pooled rows only, never on how they fall to
    reference and window: otherwise the correction would not hold.
    """
    if reference.nulls + window.nulls:
        yield _test_nulls(name, reference, window)
    if min(reference.present, window.present) < _MIN_PRESENT:
        return
    if isinstance(reference, NumericProfile) and isinstance(window, NumericProfile):
        yield _test_distribution(name, reference, window)
    elif isinstance(reference, CategoricalProfile) and isinstance(window, CategoricalProfile):
        yield _test_levels(name, reference, window)
        if not reference.other:
            yield _test_unseen(name, reference, window)


def _test_distribution(name: str, reference: NumericProfile, window: NumericProfile):
    n, m = reference.present, window.present
    gaps = np.cumsum(window.counts) / m - np.cumsum(reference.counts) / n
    distance = float(np.abs(gaps).max())
    return _finding(
        name,
        DriftTest.DISTRIBUTION,
        statistic=distance,
        p_value=kolmogorov_tail(distance, n, m),
        effect=distance,
        words=f"mean {reference.mean:.4g} to {window.mean:.4g}, {distance:.1%} of the rows moved",
    )


def _test_levels(name: str, reference: CategoricalProfile, window: CategoricalProfile):
    was, now, biggest = _grouped_levels(reference, window)
    n, m = was.sum(), now.sum()
    pooled = (was + now) / (n + m)
    effect = float(0.5 * np.abs(was / n - now / m).sum())
    if was.size == 2:
        statistic = float(abs(was[0] / n - now[0] / m))
        p_value = share_difference_tail(int(now[0]), int(m), int(was[0]), int(n))
    elif was.size > 2:
        statistic = float(
            np.sum((was - n * pooled) ** 2 / (n * pooled))
            + np.sum((now - m * pooled) ** 2 / (m * pooled))
        )
        p_value = chi_square_tail(statistic, was.size - 1)
    else:
        statistic, p_value = 0.0, 1.0
    changed = int(np.argmax(np.abs(was / n - now / m)))
    return _finding(
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


def _test_nulls(
    name: str,
    reference: NumericProfile | CategoricalProfile,
    window: NumericProfile | CategoricalProfile,
):
    n = reference.nulls + reference.present
    m = window.nulls + window.present
    change = window.nulls / m - reference.nulls / n
    return _finding(
        name,
        DriftTest.NULLS,
        statistic=change,
        p_value=share_difference_tail(window.nulls, m, reference.nulls, n),
        effect=abs(change),
        words=f"nulls {reference.nulls / n:.2%} to {window.nulls / m:.2%} of the rows",
    )


def _test_unseen(name: str, reference: CategoricalProfile, window: CategoricalProfile):
    unseen = window.unseen_rows
    share = unseen / window.present
    pooled = [was + window.levels.get(level, 0) for level, was in reference.levels.items()]
    # Levels that are not listed one by one count as single rows, the least surprising way.
    pooled += [*window.unseen.values(), *([1] * window.unseen_other)]
    examples = ", ".join(repr(level) for level in list(window.unseen)[:3])
    return _finding(
        name,
        DriftTest.UNSEEN,
        statistic=share,
        p_value=unseen_tail(np.array(pooled), unseen, window.present, reference.present),
        effect=share,
        words=f"{share:.2%} of the rows ({unseen}) in levels never seen in training: {examples}"
        if unseen
        else "no level that was not seen in training",
    )


def _finding(
    column: str, test: DriftTest, *, statistic: float, p_value: float, effect: float, words: str
) -> DriftFinding:
    shown = "the predictions" if column == PREDICTION else column
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


def _correct(finding: DriftFinding, tests: int, policy: DriftPolicy) -> DriftFinding:
    adjusted = min(finding.p_value * tests, 1.0)
    floor = policy.min_unseen if finding.test is DriftTest.UNSEEN else policy.min_effect
    drifted = adjusted <= policy.false_alarms and finding.effect >= floor
    return finding.model_copy(
        update={
            "adjusted_p_value": adjusted,
            "drifted": drifted,
            "words": f"{finding.words} ({_p_words(adjusted)} over all {tests} tests)",
        }
    )


def _p_words(p_value: float) -> str:
    return f"p = {p_value:.2g}" if p_value > 1e-12 else "p < 1e-12"


def _quiet_words(findings: tuple[DriftFinding, ...], policy: DriftPolicy) -> str:
    if not findings:
        return "no column could be tested"
    nearest = min(findings, key=lambda f: f.p_value)
    small = nearest.adjusted_p_value <= policy.false_alarms
    why = "certain but smaller than the least effect that counts" if small else "within chance"
    return f"nothing beyond chance and least effect; nearest: {nearest.words}, {why}"
