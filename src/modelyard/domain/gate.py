"""Should the challenger replace the champion?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Literal

from pydantic import Field

from modelyard.domain.metrics import Interval
from modelyard.domain.values import Value


class GateVerdict(StrEnum):
    """What the gate says, from good to bad."""

    PROMOTE = "promote"
    INCONCLUSIVE = "inconclusive"
    """The rows do not tell."""
    KEEP = "keep"


_SEVERITY = {GateVerdict.PROMOTE: 0, GateVerdict.INCONCLUSIVE: 1, GateVerdict.KEEP: 2}


class Proof(StrEnum):
    """What the interval of a challenger's gain must show."""

    BETTER = "better"
    """All of it is above the least gain: the challenger is superior."""
    NO_WORSE = "no worse"
    """All of it is above minus the margin: the challenger is not inferior."""
    NOT_SHOWN_WORSE = "not shown worse"
    """Not all of it is below minus the margin: nothing speaks against what else is in favour."""


WhenInconclusive = Literal["keep", "promote"]
"""What a verdict that does not tell leads to."""


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
    inconclusive: WhenInconclusive = "keep"
    """What an inconclusive verdict leads to."""

    @property
    def promotes(self) -> bool:
        if self.verdict is GateVerdict.INCONCLUSIVE:
            return self.inconclusive == "promote" and bool(self.rules)
        return self.verdict is GateVerdict.PROMOTE

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
    gain: Interval | None = None
    """By how much the challenger is better there, so sure that all slices hold at once."""

    @property
    def name(self) -> str:
        return f"{self.column} = {self.level}"


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
    naive_metrics: dict[str, float] = Field(default_factory=dict)
    """The naive model's metrics on the same rows; empty in records from before they were kept."""
    gains: dict[str, Interval] = Field(default_factory=dict)
    """By how much each metric is better than the champion's, whichever way it is better."""
    slices: tuple[SliceMetric, ...] = ()

    @property
    def promotes(self) -> bool:
        return self.decision.promotes


def worst(verdicts: Iterable[GateVerdict]) -> GateVerdict:
    """Fold many verdicts into one; no rule at all cannot promote."""
    return max(verdicts, key=_SEVERITY.__getitem__, default=GateVerdict.INCONCLUSIVE)


def decide(rules: Iterable[Rule], inconclusive: WhenInconclusive = "keep") -> GateDecision:
    """Fold the rules' findings into the gate's decision."""
    found = tuple(rules)
    return GateDecision(
        verdict=worst(rule.verdict for rule in found), rules=found, inconclusive=inconclusive
    )


def refuse(reason: str) -> Rule:
    """Keep the champion, because the challenger cannot be measured."""
    return Rule(
        name="measurable", verdict=GateVerdict.KEEP, value=None, limit="finite", reason=reason
    )


def judge_rows(seen: int, left: int, least: int = 30) -> Rule:
    """Ask for enough holdout rows once those that a model was trained on are left out."""
    return Rule(
        name="unseen holdout rows",
        verdict=_passes(left >= least),
        value=float(left),
        limit=f"at least {least}",
        reason=f"{left:,} rows that neither model was trained on; {seen:,} left out",
    )


def judge_overlap(shared: Mapping[str, int]) -> Rule:
    """Refuse holdout rows that are training rows once more, by model that was trained on them."""
    count = sum(shared.values())
    found = " and ".join(f"{n:,} by {model}" for model, n in shared.items() if n)
    return Rule(
        name="no row on both sides",
        verdict=_passes(count == 0),
        value=float(count),
        limit="none",
        reason=(
            f"{count:,} holdout rows were learnt already ({found}), though the time or the id says "
            "otherwise: mend the source"
            if count
            else "no holdout row is among the training rows of either model"
        ),
    )


def judge_news(rows_are_new: bool, recipe_is_new: bool) -> Rule:
    """Refuse a challenger that is the champion once more."""
    facts = (("rows", rows_are_new), ("recipe", recipe_is_new))
    new = [what for what, is_new in facts if is_new]
    return Rule(
        name="something new",
        verdict=_passes(bool(new)),
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
                verdict=_passes(passed),
                value=_finite(value),
                limit=limit,
                reason=f"{value:.4g}, must be {limit}",
            )
        )
    return tuple(rules)


def judge_gain(
    other: str,
    metric: str,
    gain: Interval,
    proof: Proof,
    *,
    least: float = 0.0,
    margin: float = 0.0,
) -> Rule:
    """Ask what the interval of a gain over another model on the same rows must show.

    Superiority and non-inferiority are the two ways to put the question (ICH E9, 1998, section
    3.3.2); both are answered by where the whole interval lies. `Proof.NOT_SHOWN_WORSE` turns the
    burden of proof round.

    Args:
        gain: oriented so that positive is better, in the metric's unit.
        least: gain to be exceeded, in that unit, for `Proof.BETTER`.
        margin: loss that may be, in that unit, 0 or more, for the two others.
    """
    required = least if proof is Proof.BETTER else 0.0 - margin  # no minus before a zero
    if not all(map(math.isfinite, (gain.value, gain.low, gain.high))):
        verdict, words = GateVerdict.KEEP, "it cannot be computed"
    elif gain.high < required or (proof is Proof.BETTER and gain.value <= required):
        verdict, words = GateVerdict.KEEP, "it is not above it"
    elif gain.low > required:
        verdict, words = GateVerdict.PROMOTE, "the whole interval is above it"
    elif proof is Proof.NOT_SHOWN_WORSE:
        verdict, words = GateVerdict.PROMOTE, "nothing speaks against it"
    else:
        verdict, words = GateVerdict.INCONCLUSIVE, "the rows do not tell"
    return Rule(
        name=f"{proof} than {other}",
        verdict=verdict,
        value=_finite(gain.value),
        low=_finite(gain.low),
        high=_finite(gain.high),
        limit=f"gain in {metric} above {required:.4g}",
        reason=(f"gain in {metric} {_signed(gain)}, asked is above {required:.4g}: {words}"),
    )


def judge_slices(slices: Sequence[SliceMetric], margin: float, skipped: int = 0) -> Rule:
    """Refuse a challenger that is surely worse on some slice.

    Worse is a gain whose whole interval lies below minus `margin` times the champion's metric
    there. The intervals are those of all slices together (`simultaneous`), so that many slices do
    not find a loser by chance.

    Args:
        margin: loss that may be, as a share of the champion's metric on the slice.
        skipped: slices with too few rows to say anything.
    """
    measured = [(slice_, slice_.gain) for slice_ in slices if slice_.gain is not None]
    few = f"; too small to be judged: {skipped:,}" if skipped else ""
    if not measured:
        return Rule(
            name="worst slice",
            verdict=GateVerdict.PROMOTE,
            value=None,
            limit=f"loss of at most {margin:.1%}",
            reason=f"no slice can be compared{few}",
        )
    losers = [
        slice_ for slice_, gain in measured if gain.high < -margin * abs(slice_.champion or 0.0)
    ]
    # The worst is the one that comes out worst at best, not the one with the most noise.
    worst_, gain = min(measured, key=lambda found: _relative(found[1].high, found[0].champion))
    others = f", as are {len(losers) - 1:,} more" if len(losers) > 1 else ""
    words = f"surely worse by more than {margin:.1%}{others}" if losers else "not surely worse"
    return Rule(
        name="worst slice",
        verdict=_passes(not losers),
        value=gain.value,
        low=gain.low,
        high=gain.high,
        limit=f"loss of at most {margin:.1%}",
        reason=(
            f"the worst of {len(measured):,} is {worst_.name} ({worst_.rows:,} rows), gain "
            f"{_signed(gain)}: {words}{few}"
        ),
    )


def simultaneous(confidence: float, intervals: int) -> float:
    """Return the confidence of each of many intervals that together have `confidence`.

    Bonferroni's inequality (Dunn 1961), which holds however the slices depend on each other.
    """
    return 1.0 - (1.0 - confidence) / max(intervals, 1)


def judge_calibration(gain: Interval, challenger: float, champion: float, margin: float) -> Rule:
    """Refuse a classifier whose probabilities are surely less honest than the champion's.

    Args:
        gain: decrease of the expected calibration error.
        margin: increase that may be, absolute, 0..1.
    """
    worse = gain.high < -margin
    return Rule(
        name="calibration",
        verdict=_passes(not worse),
        value=challenger,
        low=gain.low,
        high=gain.high,
        limit=f"at most {margin:.4g} more than the champion's {champion:.4g}",
        reason=(
            f"expected calibration error {challenger:.4g}, the champion's {champion:.4g}, gain "
            f"{_signed(gain)}: "
            f"{'surely' if worse else 'not surely'} worse by more than {margin:.4g}"
        ),
    )


def judge_budget(name: str, value: float, most: float, unit: str) -> Rule:
    """Hold a cost against its budget; NaN never passes."""
    return Rule(
        name=name,
        verdict=_passes(value <= most),
        value=_finite(value),
        limit=f"at most {most:,.4g} {unit}",
        reason=f"{value:,.4g} {unit}, must be at most {most:,.4g} {unit}",
    )


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.4g} [{gain.low:+.4g}, {gain.high:+.4g}]"


def _passes(passed: bool) -> GateVerdict:
    return GateVerdict.PROMOTE if passed else GateVerdict.KEEP


def _relative(gain: float, metric: float | None) -> float:
    return gain / abs(metric) if metric else gain


def _finite(value: float) -> float | None:
    # JSON has no NaN: a ledger on PostgreSQL would refuse it.
    return value if math.isfinite(value) else None
