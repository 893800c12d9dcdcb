"""Should the challenger replace the champion?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum

from pydantic import Field

from modelyard.domain.metrics import Interval
from modelyard.domain.values import Value


class GateVerdict(StrEnum):
    """What the gate says, from good to bad."""

    PROMOTE = "promote"
    INCONCLUSIVE = "inconclusive"
    """The rows do not tell: the champion is kept."""
    KEEP = "keep"


_SEVERITY = {GateVerdict.PROMOTE: 0, GateVerdict.INCONCLUSIVE: 1, GateVerdict.KEEP: 2}


class Rule(Value):
    """One rule's finding."""

    name: str
    verdict: GateVerdict
    value: float | None
    low: float | None = None
    high: float | None = None
    limit: str
    reason: str


class GateDecision(Value):
    """The verdict of all rules together, with each rule's finding."""

    verdict: GateVerdict
    rules: tuple[Rule, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return one line a rule, those that decided first."""
        ordered = sorted(self.rules, key=lambda rule: rule.verdict is not self.verdict)
        return tuple(f"{rule.name}: {rule.reason}" for rule in ordered)


class SliceMetric(Value):
    """The primary metric on the holdout rows that share one value of a column."""

    column: str
    level: str
    rows: int
    challenger: float
    champion: float | None


class Gated(Value):
    """What the gate measured on the holdout and decided."""

    decision: GateDecision
    metrics: dict[str, Interval]
    """The challenger's metrics on the holdout."""
    champion_id: str | None
    """The release it was compared with; it must still be champion when this one takes over."""
    champion_version: str | None
    champion_metrics: dict[str, float]
    """The champion's metrics on the same rows."""
    gains: dict[str, Interval] = Field(default_factory=dict)
    """By how much each metric is better than the champion's, whichever way it is better."""
    slices: tuple[SliceMetric, ...] = ()
    """Shown to a person; no rule decides by them."""

    @property
    def promotes(self) -> bool:
        return self.decision.verdict is GateVerdict.PROMOTE


def worst(verdicts: Iterable[GateVerdict]) -> GateVerdict:
    """Fold many verdicts into one; no rule at all cannot promote."""
    return max(verdicts, key=_SEVERITY.__getitem__, default=GateVerdict.INCONCLUSIVE)


def decide(rules: Iterable[Rule]) -> GateDecision:
    """Fold the rules' findings into the gate's decision."""
    found = tuple(rules)
    return GateDecision(verdict=worst(rule.verdict for rule in found), rules=found)


def judge_rows(seen: int, left: int, least: int = 30) -> Rule:
    """Ask for enough holdout rows once those that a model was trained on are left out."""
    enough = left >= least
    return Rule(
        name="unseen holdout rows",
        verdict=GateVerdict.PROMOTE if enough else GateVerdict.KEEP,
        value=float(left),
        limit=f"at least {least}",
        reason=f"{left:,} rows that neither model was trained on; {seen:,} left out",
    )


def judge_news(rows_are_new: bool, recipe_is_new: bool) -> Rule:
    """Refuse a challenger that is the champion once more."""
    facts = (("rows", rows_are_new), ("recipe", recipe_is_new))
    new = [what for what, is_new in facts if is_new]
    return Rule(
        name="something new",
        verdict=GateVerdict.PROMOTE if new else GateVerdict.KEEP,
        value=float(len(new)),
        limit="new rows or a new recipe",
        reason=f"new {' and '.join(new)}" if new else "the champion's rows and recipe once more",
    )


def judge_thresholds(
    metrics: Mapping[str, float], limits: Mapping[str, tuple[float | None, float | None]]
) -> tuple[Rule, ...]:
    """Hold each metric against its absolute (minimum, maximum); NaN never passes."""
    rules = []
    for name, (low, high) in limits.items():
        value = metrics[name]
        passed = not math.isnan(value)
        passed = passed and (low is None or value >= low) and (high is None or value <= high)
        limit = " and ".join(
            text
            for text, bound in ((f"at least {low}", low), (f"at most {high}", high))
            if bound is not None
        )
        rules.append(
            Rule(
                name=f"{name} threshold",
                verdict=GateVerdict.PROMOTE if passed else GateVerdict.KEEP,
                value=_finite(value),
                limit=limit,
                reason=f"{value:.4g}, must be {limit}",
            )
        )
    return tuple(rules)


def judge_gain(other: str, metric: str, gain: Interval, required: float) -> Rule:
    """Ask for a gain over another model on the same rows that its interval puts past `required`.

    `gain` is oriented so that positive is better, in the metric's unit; a negative `required` is
    the loss that is accepted for newer rows. Promote where the whole interval is past it, keep
    where the gain itself is not positive or the whole interval is short of it, otherwise the rows
    do not tell.
    """
    if any(math.isnan(bound) for bound in (gain.value, gain.low, gain.high)):
        verdict, words = GateVerdict.KEEP, "cannot be computed"
    elif gain.low > required:
        verdict, words = GateVerdict.PROMOTE, "is past it"
    elif gain.value <= 0 or gain.high <= required:
        verdict, words = GateVerdict.KEEP, "is not past it"
    else:
        verdict, words = GateVerdict.INCONCLUSIVE, "does not tell"
    return Rule(
        name=f"better than {other}",
        verdict=verdict,
        value=_finite(gain.value),
        low=_finite(gain.low),
        high=_finite(gain.high),
        limit=f"gain in {metric} above {required:.4g}",
        reason=(
            f"gain in {metric} {gain.value:+.4g} [{gain.low:+.4g}, {gain.high:+.4g}], "
            f"required {required:.4g}: the interval {words}"
        ),
    )


def _finite(value: float) -> float | None:
    # JSON has no NaN: a ledger on PostgreSQL would refuse it.
    return value if math.isfinite(value) else None
