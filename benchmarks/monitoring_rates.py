"""How often does a monitor alarm while nothing changed, and how often when something did?

On rows that are independent draws, at every size of window; and on days that differ from each
other by themselves and remember the day before, with sixty days of history. Others' rules see the
same windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from joblib import Parallel, delayed
from rich.progress import track
from scipy import stats

from benchmarks.claims import Claim, claim, show
from benchmarks.monitoring_rules import RULES, beyond_three_sd, distances
from benchmarks.monitoring_streams import CHANGES, KINDS, days, draw
from modelyard.domain.drift import DriftOutcome, DriftPolicy, judge_drift
from modelyard.domain.drift_history import window_shares
from modelyard.domain.profiles import profile_reference, profile_window

STATED = (0.01, 0.001)
OURS = {rate: f"ModelYard, {rate:g}" for rate in STATED}
HISTORY = 60
_RATES_ONLY = {
    rate: DriftPolicy(false_alarms=rate, min_rows=50, min_effect=0, min_unseen=0) for rate in STATED
}
"""No least effect, which could only hide false alarms."""
_AS_SHIPPED = {rate: DriftPolicy(false_alarms=rate, min_rows=50) for rate in STATED}

Alarms = Mapping[str, float]
"""Share of windows that each rule alarmed in."""


def measure_rates(quick: bool) -> list[Claim]:
    """Run all parts."""
    return [*_quiet(quick), *_power(quick), *_quiet_days(quick), *_power_days(quick)]


def _quiet(quick: bool) -> list[Claim]:
    sizes = (
        {200: 200, 1_000: 100}
        if quick
        else dict.fromkeys((100, 200, 1_000, 10_000, 100_000), 1_000)
    )
    rows, claims = [], []
    for size, windows in sizes.items():
        found = _over_references(size, windows, _RATES_ONLY, "none")
        rows.append((f"{size:,}", windows, *(found[rule] for rule in (*OURS.values(), *RULES))))
        claims += [
            _within_band(
                f"quiet windows of {size:,} rows at {rate:g}", found[OURS[rate]], windows, rate
            )
            for rate in STATED
        ]
    show(
        "False alarms, independent rows (share of windows)",
        ("rows", "windows", *OURS.values(), *RULES),
        rows,
    )
    return claims


def _within_band(name: str, found: float, windows: int, rate: float) -> Claim:
    """Return whether no more windows alarmed than the upper end of the binomial 99 % band."""
    return claim(name, found, "<=", float(stats.binom.ppf(0.995, windows, rate)) / windows)


def _over_references(
    size: int, windows: int, policies: Mapping[float, DriftPolicy], change: str
) -> Alarms:
    """Return each rule's share of alarms over windows, a new reference every twenty-five of them.

    Windows that are compared with one unlucky reference share its luck.
    """
    each = 25
    seeds = range(-(-windows // each))
    parts = Parallel(n_jobs=-1)(
        delayed(_against_one_reference)(
            seed, size, min(each, windows - each * seed), policies, change
        )
        for seed in track(seeds, f"{change}, {size:,} rows", transient=True)
    )
    return _averaged(parts)


def _against_one_reference(
    seed: int, size: int, windows: int, policies: Mapping[float, DriftPolicy], change: str
) -> list[dict[str, bool]]:
    rng = np.random.default_rng([size, seed])
    known = draw(rng, max(20_000, size))
    reference = profile_reference(known, KINDS)
    found = []
    for _ in range(windows):
        rows = draw(rng, size)
        CHANGES[change](rows, rng)
        seen = profile_window(rows, reference)
        said = {
            OURS[rate]: judge_drift(reference, seen, policy).outcome is DriftOutcome.DRIFTED
            for rate, policy in policies.items()
        }
        peers = RULES if size <= 10_000 or not seed else {}
        found.append(
            said | {rule: bool(ask(known, rows, reference, seen)) for rule, ask in peers.items()}
        )
    return found


def _averaged(parts: Sequence[Sequence[Mapping[str, bool]]]) -> Alarms:
    found = [said for part in parts for said in part]
    names = {name: None for said in found for name in said}
    return {name: float(np.mean([said[name] for said in found if name in said])) for name in names}


def _power(quick: bool) -> list[Claim]:
    windows = 100 if quick else 500
    claims = []
    for size in (200, 1_000):
        found = {change: _over_references(size, windows, _AS_SHIPPED, change) for change in CHANGES}
        names = (*OURS.values(), *RULES)
        show(
            f"Windows alarmed, independent rows, {size:,} a window (share of {windows} windows)",
            ("rule", *CHANGES),
            [(rule, *(found[change][rule] for change in CHANGES)) for rule in names],
        )
        for change in list(CHANGES)[1:]:
            for rate in STATED:
                ours, theirs = found[change][OURS[rate]], found[change][_CORRECTED[rate]]
                claims.append(
                    _at_least(
                        f"{change}, {size:,} rows, at {rate:g}: beside corrected tests",
                        ours,
                        theirs,
                        windows,
                    )
                )
    return claims


def _at_least(name: str, ours: float, theirs: float, windows: int) -> Claim:
    """Return whether a share of windows is as large as another, beyond the 99 % band of both."""
    error = np.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / windows)
    return claim(name, ours - theirs, ">=", -float(2.576 * error))


_CORRECTED = {rate: f"KS / chi-square, Bonferroni {rate:g}" for rate in STATED}
_DAYS = {"days alike": 0.0, "days differ by 0.1 sd": 0.1, "days differ by 0.3 sd": 0.3}
_ROWS_A_DAY = 1_000
_JUDGED = 5
"""Days of each stream, a week apart."""
NANNY = "mean ± 3 sd of the history, any column"
"""NannyML's rule."""


def _quiet_days(quick: bool) -> list[Claim]:
    streams = 12 if quick else 200
    claims, rows = [], []
    for words, size in _DAYS.items():
        found = _over_streams(streams, size, _RATES_ONLY, "none")
        rows.append(
            (
                words,
                streams * _JUDGED,
                *(found[rule] for rule in (*OURS.values(), *_DAY_RULES, NANNY)),
            )
        )
        claims += [
            _within_band(
                f"quiet days, {words}, at {rate:g}", found[OURS[rate]], streams * _JUDGED, 2 * rate
            )
            for rate in STATED
        ]
    show(
        f"False alarms, {_ROWS_A_DAY:,} rows a day with a daily cycle, days that remember the last "
        f"(0.7), {HISTORY} days of history (share of days)",
        ("", "days", *OURS.values(), *_DAY_RULES, NANNY),
        rows,
    )
    return claims


def _power_days(quick: bool) -> list[Claim]:
    streams = 6 if quick else 60
    changes = (
        "none",
        "0.3 sd in one",
        "category + 5 %",
        "new level 1 %",
        "nulls 10 to 13 %",
        "1 % of one column x 1000",
    )
    claims = []
    for words, size in _DAYS.items():
        found = {change: _over_streams(streams, size, _AS_SHIPPED, change) for change in changes}
        names = (*OURS.values(), *_DAY_RULES, NANNY)
        show(
            f"Days alarmed, {words} (share of {streams * _JUDGED} days)",
            ("rule", *changes),
            [(rule, *(found[change][rule] for change in changes)) for rule in names],
        )
    return claims


_DAY_RULES = {
    rule: ask for rule, ask in RULES.items() if "Bonferroni" in rule or "any column" in rule
}


def _over_streams(
    streams: int, size: float, policies: Mapping[float, DriftPolicy], change: str
) -> Alarms:
    parts = Parallel(n_jobs=-1)(
        delayed(_one_stream)(seed, size, policies, change)
        for seed in track(range(streams), f"{change}, days differ by {size:g} sd", transient=True)
    )
    return _averaged(parts)


def _one_stream(
    seed: int, size: float, policies: Mapping[float, DriftPolicy], change: str
) -> list[dict[str, bool]]:
    rng = np.random.default_rng([int(100 * size), seed])
    stream = days(rng, HISTORY + 7 * _JUDGED, size)
    past = [draw(rng, _ROWS_A_DAY, day) for day in stream[:HISTORY]]
    known = {name: np.concatenate([rows[name] for rows in past]) for name in KINDS}
    reference = profile_reference(known, KINDS)
    profiles = [profile_window(rows, reference) for rows in past]
    before = [window_shares(reference, profile) for profile in profiles]
    usual = np.array([distances(reference, profile) for profile in profiles])
    found = []
    for day in stream[HISTORY + 6 :: 7]:
        rows = draw(rng, _ROWS_A_DAY, day)
        CHANGES[change](rows, rng)
        seen = profile_window(rows, reference)
        said = {
            OURS[rate]: judge_drift(reference, seen, policy, before=before).outcome
            is DriftOutcome.DRIFTED
            for rate, policy in policies.items()
        }
        said |= {rule: bool(ask(known, rows, reference, seen)) for rule, ask in _DAY_RULES.items()}
        said[NANNY] = bool(beyond_three_sd(usual, distances(reference, seen)).any())
        found.append(said)
    return found
