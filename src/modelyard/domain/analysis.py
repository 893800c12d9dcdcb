"""Is a release that has a share of the traffic as sound as the one that it is to replace?

Each function makes one measurement of a rollout's look. Nothing is compared that only one of the
releases was asked: both answer at the same time, or the rows that one answered are given to the
other as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelyard.domain.metrics import Interval
from modelyard.domain.rollout import Measurement, Verdict
from modelyard.domain.sequential import Trials, log_evidence, log_evidence_above, pooled
from modelyard.domain.values import Value

MEASUREMENTS = 6
"""That may each err: errors, slow answers, empty answers, disagreement, constant, performance."""


class Allowance(Value):
    """What is forgiven in one kind of failure."""

    margin: float
    """How much higher the new release's share may be than the former's."""
    most: float
    """The share that it may have where there is no former release to compare with; above 0."""


class Evidence(Value):
    """How much it takes to be sure, and to have seen enough."""

    false_aborts: float
    """Share of the rollouts of releases that are no worse that may be aborted, at most."""
    least: int
    """Requests or rows below which nothing is said in a release's favour."""

    @property
    def proof(self) -> float:
        """Natural logarithm of the evidence that convicts; all measurements share the errors."""
        return math.log(MEASUREMENTS / self.false_aborts)


def measure_replicas(ready: int, wanted: int, restarts: int, *, most_restarts: int) -> Measurement:
    """Ask whether the new fleet stays up; one that is killed from outside may come back."""
    if restarts > most_restarts:
        verdict, reason = Verdict.FAILED, f"its replicas ended {restarts} times by themselves"
    elif ready < wanted:
        verdict, reason = Verdict.INCONCLUSIVE, f"{ready} of {wanted} replicas are ready"
    else:
        verdict, reason = Verdict.SUCCESSFUL, f"all {wanted} replicas are ready"
    return Measurement(
        name="replicas",
        verdict=verdict,
        value=float(restarts),
        limit=f"at most {most_restarts} restarts",
        reason=reason,
    )


def measure_share(
    name: str, stretches: Sequence[Trials], allowed: Allowance, evidence: Evidence
) -> Measurement:
    """Ask whether something goes wrong more often than with the former release.

    Where the former release is asked too little to compare with, a fixed share counts instead.
    """
    total = pooled(stretches)
    share = total.hits / total.count if total.count else None
    shown = "nothing yet" if share is None else f"{share:.2%} of {total.count:,}"
    if total.former_count >= evidence.least:
        found = log_evidence(stretches)
        worse = found >= evidence.proof and total.excess > allowed.margin
        limit = f"at most {allowed.margin:.2%} more than the former release"
        shown += f", the former {total.former_hits / total.former_count:.2%}"
    else:
        found = log_evidence_above(total.hits, total.count, allowed.most)
        worse = found >= evidence.proof
        limit = f"at most {allowed.most:.2%}"
    if worse:
        verdict, words = Verdict.FAILED, f"surely more (evidence {_times(found)})"
    elif total.count < evidence.least:
        verdict, words = Verdict.INCONCLUSIVE, f"fewer than {evidence.least:,} to judge by"
    else:
        verdict, words = Verdict.SUCCESSFUL, "not shown to be more"
    return Measurement(
        name=name, verdict=verdict, value=share, limit=limit, reason=f"{shown}: {words}"
    )


def measure_disagreement(
    differing: int, rows: int, *, expected: float, margin: float, evidence: Evidence
) -> Measurement:
    """Ask whether it answers other than the former release on the same rows, more than it did then.

    A better model has to differ, and by how much is known: `expected` is the share of the gate's
    holdout on which both differed. Far more of it in traffic means that it is fed or read wrongly.
    """
    limit = min(max(expected + margin, 1e-6), 1 - 1e-6)
    found = log_evidence_above(differing, rows, limit)
    share = differing / rows if rows else None
    if found >= evidence.proof:
        verdict, words = Verdict.FAILED, f"surely more (evidence {_times(found)})"
    elif rows < evidence.least:
        verdict, words = Verdict.INCONCLUSIVE, f"fewer than {evidence.least:,} rows to judge by"
    else:
        verdict, words = Verdict.SUCCESSFUL, "not shown to be more"
    shown = "no rows yet" if share is None else f"{share:.2%} of {rows:,} rows"
    return Measurement(
        name="disagreement",
        verdict=verdict,
        value=share,
        limit=f"at most {limit:.2%}: {expected:.2%} on the holdout, and {margin:.2%}",
        reason=f"{shown} are answered otherwise: {words}",
    )


def measure_variety(
    distinct: int, former_distinct: int, rows: int, evidence: Evidence
) -> Measurement:
    """Ask whether it says the same of every row, where the former release does not."""
    constant = distinct == 1 and former_distinct > 1
    if constant and rows >= evidence.least:
        verdict, words = Verdict.FAILED, "it does not look at its rows"
    elif rows < evidence.least:
        verdict, words = Verdict.INCONCLUSIVE, f"fewer than {evidence.least:,} rows to judge by"
    else:
        verdict, words = Verdict.SUCCESSFUL, "answers vary"
    return Measurement(
        name="variety",
        verdict=verdict,
        value=float(distinct),
        limit="more than 1 answer",
        reason=f"{distinct:,} different answers on {rows:,} rows, the former {former_distinct:,}: "
        f"{words}",
    )


def measure_gain(
    metric: str, gain: Interval | None, rows: int, *, margin: float, evidence: Evidence
) -> Measurement:
    """Ask what labels say of both releases on the same rows, once there are some.

    Args:
        gain: of the new release over the former, positive is better, at the level that
            `look_confidence` gives for this look; None where there are too few labels.
        margin: loss that may be, in the metric's unit, 0 or more.
    """
    if gain is None or rows < evidence.least:
        verdict, reason = Verdict.INCONCLUSIVE, f"{rows:,} rows have labels"
    else:
        interval = f"{gain.value:+.4g} [{gain.low:+.4g}, {gain.high:+.4g}]"
        worse = gain.high < -margin
        verdict = Verdict.FAILED if worse else Verdict.SUCCESSFUL
        words = "surely worse" if worse else "not shown to be worse"
        reason = f"gain in {metric} {interval} on {rows:,} rows: {words}"
    return Measurement(
        name=f"realized {metric}",
        verdict=verdict,
        value=None if gain is None else gain.value,
        limit=f"loss of at most {margin:.4g}",
        reason=reason,
    )


def look_confidence(look: int, evidence: Evidence) -> float:
    """Return the level of the interval of the n-th look at labels, counted from 1.

    The errors of all looks together stay below this measurement's part, since 1/n^2 sums up to
    pi^2/6: an interval has no evidence that could be multiplied (a union bound over looks; spending
    functions: Lan and DeMets 1983).
    """
    part = evidence.false_aborts / MEASUREMENTS
    # one of the two sides is looked at
    return 1 - 2 * part * 6 / (math.pi * look) ** 2


def _times(logarithm: float) -> str:
    return (
        "above a million to 1" if logarithm > math.log(1e6) else f"{math.exp(logarithm):,.0f} to 1"
    )
