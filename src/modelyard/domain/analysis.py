"""Is a release that has a share of the traffic as sound as the one that it is to replace?

Each function makes one measurement of a rollout's look. Nothing is compared that only one of the
releases was asked: both answer at the same time, or the rows that one answered are given to the
other as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from modelyard.domain.metrics import Interval
from modelyard.domain.observed import (
    MEASUREMENTS,
    Allowance,
    AnalysisRules,
    Evidence,
    Expected,
    Rescored,
    Seen,
)
from modelyard.domain.rollout import Measurement, Verdict
from modelyard.domain.sequential import Trials, log_evidence, log_evidence_above, pooled

_CALLERS_FAULT = Allowance(margin=0.001, most=0.5)
"""Callers that are wrong are refused by any release: only the comparison tells."""
_NO_ANSWER = Allowance(margin=0.0, most=0.001)


def analyse(
    seen: Sequence[Seen], rules: AnalysisRules, expected: Expected | None
) -> tuple[Measurement, ...]:
    """Return what all looks together, oldest first, say of a release: all but its performance."""
    newest = seen[-1]
    ended = sum(look.ended for look in seen)
    found = [measure_replicas(newest.ready, newest.wanted, ended, most_restarts=rules.restarts)]
    if errors := [look.errors for look in seen if look.errors is not None]:
        found.append(measure_share("errors", errors, rules.errors, rules.evidence))
    if refused := [t for look in seen if (t := look.refused) is not None and t.former_count]:
        found.append(measure_share("refusals", refused, _CALLERS_FAULT, rules.evidence))
    if slow := [look.slow for look in seen if look.slow is not None]:
        name = f"slower than {rules.slow_after / timedelta(milliseconds=1):g} ms"
        found.append(measure_share(name, slow, rules.slow, rules.evidence))
    if expected is not None:
        both = _together([look.rescored for look in seen if look.rescored is not None])
        found += [
            measure_silence(both, rules.evidence),
            measure_disagreement(both, expected, rules.disagreement, rules.evidence),
            measure_variety(both, rules.evidence),
        ]
    return tuple(found)


def mark_dry_runs(found: Sequence[Measurement], rules: AnalysisRules) -> tuple[Measurement, ...]:
    """Return the measurements, marked where the rules want them to be of no consequence."""
    return tuple(m.model_copy(update={"dry_run": m.name in rules.dry_run}) for m in found)


def _together(parts: Sequence[Rescored]) -> Rescored:
    return Rescored(
        rows=sum(part.rows for part in parts),
        differing=sum(part.differing for part in parts),
        silent=sum(part.silent for part in parts),
        former_silent=sum(part.former_silent for part in parts),
        answers=tuple(dict.fromkeys(a for part in parts for a in part.answers))[:2],
        former_answers=tuple(dict.fromkeys(a for part in parts for a in part.former_answers))[:2],
    )


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
        limit=f"restarts: at most {most_restarts}",
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


def measure_silence(both: Rescored, evidence: Evidence) -> Measurement:
    """Ask whether it has no finite answer where the former release has one."""
    trials = Trials(
        hits=both.silent,
        count=both.rows,
        former_hits=both.former_silent,
        former_count=both.rows,
    )
    return measure_share("empty answers", [trials], _NO_ANSWER, evidence)


def measure_disagreement(
    both: Rescored, expected: Expected, margin: float, evidence: Evidence
) -> Measurement:
    """Ask whether it answers other than the former release on the same rows, more than it did then.

    A better model has to differ, and by how much is known from the gate's holdout. Far more of it
    in traffic means that it is fed or read wrongly.
    """
    limit = min(max(expected.share + margin, 1e-6), 1 - 1e-6)
    found = log_evidence_above(both.differing, both.rows, limit)
    share = both.differing / both.rows if both.rows else None
    if found >= evidence.proof:
        verdict, words = Verdict.FAILED, f"surely more (evidence {_times(found)})"
    elif both.rows < evidence.least:
        verdict, words = Verdict.INCONCLUSIVE, f"fewer than {evidence.least:,} rows to judge by"
    else:
        verdict, words = Verdict.SUCCESSFUL, "not shown to be more"
    shown = "no rows yet" if share is None else f"{share:.2%} of {both.rows:,} rows"
    return Measurement(
        name="disagreement",
        verdict=verdict,
        value=share,
        limit=f"at most {limit:.2%}: {expected.share:.2%} on the holdout, and {margin:.2%}",
        reason=f"{shown} are answered otherwise: {words}",
    )


def measure_variety(both: Rescored, evidence: Evidence) -> Measurement:
    """Ask whether it says the same of every row, where the former release does not."""
    distinct, former = len(both.answers), len(both.former_answers)
    if both.rows < evidence.least:
        verdict, words = Verdict.INCONCLUSIVE, f"fewer than {evidence.least:,} rows to judge by"
    elif distinct == 1 and former > 1:
        verdict, words = Verdict.FAILED, "it does not look at its rows"
    else:
        verdict, words = Verdict.SUCCESSFUL, "its answers vary as the former release's do"
    return Measurement(
        name="variety",
        verdict=verdict,
        value=None,
        limit="more than 1 answer, where the former release has more",
        reason=f"{'the same answer' if distinct == 1 else 'different answers'} on {both.rows:,} "
        f"rows: {words}",
    )


def measure_gain(
    metric: str, gain: Interval | None, rows: int, *, margin: float, wanted: int
) -> Measurement:
    """Ask what labels say of both releases on the same rows.

    Args:
        gain: of the new release over the former, positive is better, at the level that
            `look_confidence` gives for this look; None where the labels do not allow to say.
        rows: how many have a label.
        margin: loss that may be, in the metric's unit, 0 or more.
        wanted: rows with a label that are waited for.
    """
    told = "" if gain is None else f"gain in {metric} {gain.value:+.4g} "
    told += "" if gain is None else f"[{gain.low:+.4g}, {gain.high:+.4g}] on "
    if gain is not None and gain.high < -margin:
        verdict, words = Verdict.FAILED, "surely worse"
    elif rows < wanted:
        verdict, words = Verdict.INCONCLUSIVE, f"{wanted:,} are waited for"
    else:
        verdict, words = Verdict.SUCCESSFUL, "not shown to be worse"
    return Measurement(
        name="realized performance",
        verdict=verdict,
        value=None if gain is None else gain.value,
        limit=f"loss of at most {margin:.4g}",
        reason=f"{told}{rows:,} rows with labels: {words}",
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
