"""Has the traffic of this window moved away from the rows that the release was trained on?

Every column is asked one question by each of a few tests whose level holds at the window's actual
size; the answers are corrected for how many were asked, so that the stated rate of false alarms is
the rate for all columns together. What is significant must also be large enough to matter: at a
hundred thousand rows everything is significant.

Where the windows before are known, a column has moved when it is further off than they were from
each other (`drift_history`): days differ by themselves. Where they are not, rows are taken for
independent draws (`drift_tests`), and a verdict says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelyard.domain.drift_history import MIN_WINDOWS, History, WindowShares
from modelyard.domain.drift_tests import (
    DriftFinding,
    DriftTest,
    compare_column,
    compare_news,
    compare_nulls,
)
from modelyard.domain.profiles import PREDICTION, SCORE, Profile
from modelyard.domain.values import Value

_FAMILIES = {
    (DriftTest.DISTRIBUTION, DriftTest.LEVELS): 0.8,
    (DriftTest.UNSEEN,): 0.07,
    (DriftTest.NULLS,): 0.07,
    (DriftTest.SHAPE, DriftTest.FAR): 0.06,
}
"""How the accepted false alarms are spent: most on where values lie, the rest on what that is blind
to. Unequal parts keep the correction's promise (Genovese, Roeder and Wasserman 2006, "False
discovery control with p-value weighting")."""
_LEAST_WEIGHT = 0.05
"""What a column counts in the order of suspects that the prediction does not depend on."""


class DriftOutcome(StrEnum):
    """What a window's drift verdict says."""

    STABLE = "stable"
    DRIFTED = "drifted"
    TOO_FEW_ROWS = "too few rows"


class DriftPolicy(Value):
    """When a difference is called drift."""

    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Accepted chance that a window in which nothing changed alarms, over all columns together."""
    min_rows: Annotated[int, Field(ge=1)] = 200
    min_effect: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Smallest share of rows that must have moved. On a bell-shaped column 0.02 is a shift of
    0.05 standard deviations."""
    min_unseen: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """Smallest share of rows with values that the reference has nothing like: new levels, far
    values."""

    def floor(self, test: DriftTest) -> float:
        """Return the smallest effect of a test that counts."""
        is_news = test in (DriftTest.UNSEEN, DriftTest.FAR)
        return self.min_unseen if is_news else self.min_effect


class DriftVerdict(Value):
    """Whether a window drifted, and which columns are suspect, what matters most first."""

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
    history: int = 0
    """Windows before that the columns were measured against; 0: rows count as independent."""

    def strongest(self, column: str) -> DriftFinding | None:
        """Return the finding that speaks most for drift of a column, or None if it was untested."""
        of_column = [f for f in self.findings if f.column == column]
        return min(of_column, key=lambda f: (not f.drifted, f.adjusted_p_value), default=None)


def judge_drift(
    reference: Profile,
    window: Profile,
    policy: DriftPolicy,
    *,
    before: Sequence[WindowShares] = (),
    last: WindowShares | None = None,
    relevance: Mapping[str, float] | None = None,
) -> DriftVerdict:
    """Judge whether a window's profile drifted from its reference's.

    Bonferroni's correction: for the question "any alarm at all" it equals Holm's, and it lets each
    column's threshold be stated. The model's output takes part as the columns `prediction` and
    `prediction score`.

    Args:
        before: what windows of the same length looked like while nothing was wrong, oldest first.
            From 20 on they are the yardstick.
        last: what the window just before looked like, where nothing was wrong in it.
        relevance: how much the prediction depends on a column, 0..1: ranks suspects, hides none.
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
    history = History(reference, before, last) if len(before) >= MIN_WINDOWS else None
    raw = list(_compare(reference, window, history))
    costs = _costs(raw)
    findings = tuple(_correct(finding, costs[finding.test], len(raw), policy) for finding in raw)
    weights = {**(relevance or {}), PREDICTION: 1.0, SCORE: 1.0}

    def weight(finding: DriftFinding) -> float:
        return finding.effect * max(weights.get(finding.column, 1.0), _LEAST_WEIGHT)

    suspects = tuple(sorted((f for f in findings if f.drifted), key=weight, reverse=True))
    return DriftVerdict(
        outcome=DriftOutcome.DRIFTED if suspects else DriftOutcome.STABLE,
        rows=window.rows,
        reference_rows=reference.rows,
        tests=len(findings),
        policy=policy,
        suspects=suspects,
        findings=findings,
        reasons=tuple(finding.words for finding in suspects) or (_quiet_words(findings, policy),),
        history=0 if history is None else len(history),
    )


def _compare(
    reference: Profile, window: Profile, history: History | None
) -> Iterator[DriftFinding]:
    """Yield what each test says about each column, before correction.

    A column of which too little history is known is judged by its nulls and its news alone.
    """
    for name, known in reference.columns.items():
        seen = window.columns.get(name)
        if seen is None:
            continue
        if history is None:
            yield from compare_column(name, known, seen)
            continue
        moved, nulls = history.compare(name, seen), history.compare_nulls(name, seen)
        if moved is not None:
            yield moved
        yield from compare_nulls(name, known, seen) if nulls is None else (nulls,)
        yield from compare_news(name, known, seen)


def _costs(findings: Sequence[DriftFinding]) -> dict[DriftTest, float]:
    """Return the factor by which each test's p-values are corrected."""
    asked = Counter(finding.test for finding in findings)
    counts = {family: sum(asked[test] for test in family) for family in _FAMILIES}
    spent = sum(_FAMILIES[family] for family, count in counts.items() if count)
    return {
        test: count * spent / _FAMILIES[family]
        for family, count in counts.items()
        for test in family
    }


def _correct(finding: DriftFinding, cost: float, tests: int, policy: DriftPolicy) -> DriftFinding:
    adjusted = min(finding.p_value * cost, 1.0)
    drifted = adjusted <= policy.false_alarms and finding.effect >= policy.floor(finding.test)
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
    nearest = min(findings, key=lambda f: f.adjusted_p_value)
    small = nearest.adjusted_p_value <= policy.false_alarms
    why = "certain but smaller than the least effect that counts" if small else "within chance"
    return f"nothing beyond chance and least effect; nearest: {nearest.words}, {why}"
