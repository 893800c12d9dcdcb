"""How often does a monitor alarm while nothing changed, and how often when something did?

On rows that are independent draws, at every size of window; and on days that differ from each
other by themselves and remember the day before, with sixty days of history. Others' rules see the
same windows; Evidently, which takes longer than all else together, some of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from rich.progress import track
from scipy import stats

from benchmarks.claims import Claim, claim, console, main, show
from benchmarks.monitoring_rules import Others, beyond_three_sd, distances
from benchmarks.monitoring_streams import CHANGES, KINDS, Day, days, draw
from modelyard.domain.drift import DriftOutcome, DriftPolicy, judge_drift
from modelyard.domain.drift_history import window_shares
from modelyard.domain.profiles import profile_reference, profile_window

STATED = (0.01, 0.001)
OURS = {rate: f"ModelYard, {rate:g}" for rate in STATED}
NANNY = "mean ± 3 sd of the history, any column"
"""NannyML's rule."""
HISTORY = 60
_RATES_ONLY = {
    rate: DriftPolicy(false_alarms=rate, min_rows=50, min_effect=0, min_unseen=0) for rate in STATED
}
"""No least effect, which could only hide false alarms."""
_AS_SHIPPED = {rate: DriftPolicy(false_alarms=rate, min_rows=50) for rate in STATED}
Policies = Mapping[float, DriftPolicy]


_MANY_ROWS = 100_000
_DAYS = {"days alike": 0.0, "days differ by 0.1 sd": 0.1, "days differ by 0.3 sd": 0.3}
_ALWAYS_SEEN = ("new level 1 %", "1 % of one column x 1000")
_CHANGED_DAYS = ("0.3 sd in one", "category + 5 %", "nulls 10 to 13 %", *_ALWAYS_SEEN)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    quiet: Mapping[int, int]
    """Rows a window to windows."""
    power: Sequence[int]
    """Rows a window."""
    changed: int
    """Windows of each change."""
    harmless: int
    """Windows of a hundred thousand rows with a shift that matters to nobody."""
    streams: int
    """Each with `_JUDGED` days after its history."""
    changed_streams: int
    changed_days: Sequence[str]
    differing: Sequence[str]
    """Of `_DAYS`."""


_FULL = Sizes(
    quiet=dict.fromkeys((100, 200, 1_000, 10_000, _MANY_ROWS), 1_000),
    power=(200, 1_000),
    changed=300,
    harmless=100,
    streams=200,
    changed_streams=100,
    changed_days=_CHANGED_DAYS,
    differing=tuple(_DAYS),
)
_QUICK = Sizes(
    quiet={200: 100, 1_000: 100},
    power=(1_000,),
    changed=20,
    harmless=2,
    streams=4,
    changed_streams=1,
    changed_days=_ALWAYS_SEEN,
    differing=("days differ by 0.1 sd",),
)


@dataclass(frozen=True)
class Said:
    """What was said of one window."""

    alarms: Mapping[str, bool]
    corrected: float
    """Least p-value of the usual tests, corrected for the number of columns; NaN where they were
    not asked."""


def measure_rates(quick: bool) -> list[Claim]:
    """Run all parts."""
    sizes = _QUICK if quick else _FULL
    return [*_rows_alone(sizes), *_harmless(sizes), *_days(sizes)]


def _rows_alone(sizes: Sizes) -> list[Claim]:
    found = {
        size: _over_references(size, windows, _RATES_ONLY, "none")
        for size, windows in sizes.quiet.items()
    }
    _show_shares(
        "False alarms, independent rows (share of windows)",
        {f"{size:,} rows": said for size, said in found.items()},
    )
    return [
        *(
            _within_band(f"quiet windows of {size:,} rows at {rate:g}", said, rate, rate)
            for size, said in found.items()
            for rate in STATED
        ),
        *(claim for size in sizes.power for claim in _power(size, sizes, found[size])),
    ]


def _power(size: int, sizes: Sizes, quiet: Sequence[Said]) -> list[Claim]:
    found = {
        change: _calibrated(
            _over_references(size, sizes.changed, _AS_SHIPPED, change), quiet, STATED
        )
        for change in CHANGES
    }
    _show_shares(f"Windows alarmed, independent rows, {size:,} a window (share)", found)
    return [
        _beside(
            f"{change}, {size:,} rows",
            found[change],
            rate,
            more=size >= _ENOUGH and change in _NEWS,
        )
        for change in list(CHANGES)[1:]
        for rate in STATED
    ]


_NEWS = ("new level 1 %", "nulls 10 to 13 %", "1 % of one column x 1000")
"""What the usual tests see badly or not at all."""
_ENOUGH = 1_000
"""Rows from which one per cent of them is more than luck."""
_TELLING = 100
"""Windows from which more can be told from luck."""
_MORE_AT = 0.9
"""Share of windows from which another's rule leaves nothing to be better at."""
_CALIBRATED = {rate: f"KS / chi-square that alarm in {rate:g} of the quiet" for rate in STATED}
"""Rules are compared at the same rate of false alarms; nobody knows this level beforehand."""


def _calibrated(said: Sequence[Said], quiet: Sequence[Said], rates: Sequence[float]) -> list[Said]:
    """Add what the usual tests say at the levels that keep the rates in the quiet windows."""
    levels = {
        rate: float(np.quantile([window.corrected for window in quiet], rate)) for rate in rates
    }
    return [
        Said(
            {
                **window.alarms,
                **{_CALIBRATED[rate]: window.corrected < level for rate, level in levels.items()},
            },
            window.corrected,
        )
        for window in said
    ]


def _beside(what: str, said: Sequence[Said], rate: float, *, more: bool) -> Claim:
    """Return whether as many changed windows alarm as by the usual tests at the same rate.

    Beyond the 99 % band of the two shares; with `more`, by that band above, where the others leave
    room for it.
    """
    ours, theirs = _share(said, OURS[rate]), _share(said, _CALIBRATED[rate])
    error = 2.576 * float(np.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / len(said)))
    is_more = more and theirs < _MORE_AT and len(said) >= _TELLING
    name = f"{what}, at {rate:g}: {'more than' if is_more else 'beside'} the usual tests"
    return claim(name, ours - theirs, ">=", max(error, 1 / len(said)) if is_more else -error)


def _harmless(sizes: Sizes) -> list[Claim]:
    """Where rows are many, all is significant; what is too small to matter must not alarm."""
    change, rows = "0.02 sd in all", _MANY_ROWS
    said = _over_references(rows, sizes.harmless, _AS_SHIPPED, change)
    _show_shares(
        f"Windows alarmed, {change}, {rows:,} rows (share of {sizes.harmless})", {change: said}
    )
    return [
        _within_band(f"{change}, {rows:,} rows, at {rate:g}", said, rate, rate) for rate in STATED
    ]


def _within_band(name: str, said: Sequence[Said], stated: float, allowed: float) -> Claim:
    """Return whether no more windows alarmed than the upper end of the binomial 99 % band."""
    most = float(stats.binom.ppf(0.995, len(said), allowed)) / len(said)
    return claim(name, _share(said, OURS[stated]), "<=", most)


def _share(said: Sequence[Said], rule: str) -> float:
    """Return the share of the windows, of those in which a rule was asked, that it alarmed in."""
    return float(np.mean([window.alarms[rule] for window in said if rule in window.alarms]))


def _show_shares(title: str, found: Mapping[str, Sequence[Said]]) -> None:
    rules = {rule: None for said in found.values() for window in said for rule in window.alarms}
    rows = [(rule, *(_share(said, rule) for said in found.values())) for rule in rules]
    windows = ("windows", *(len(said) for said in found.values()))
    show(title, ("rule", *found), [*rows, windows])


_EACH = 25
_ASKED = 20
"""In every such window Evidently is asked, and of very many rows, the others too."""


def _over_references(size: int, windows: int, policies: Policies, change: str) -> list[Said]:
    """Return what is said of windows, a new reference every twenty-five of them.

    Windows that are compared with one unlucky reference share its luck.
    """
    seeds = range(-(-windows // _EACH))
    parts = Parallel(n_jobs=-1)(
        delayed(_against_one_reference)(
            seed, size, min(_EACH, windows - _EACH * seed), policies, change
        )
        for seed in track(seeds, f"{change}, {size:,} rows", console=console, transient=True)
    )
    return [said for part in parts for said in part]


def _against_one_reference(
    seed: int, size: int, windows: int, policies: Policies, change: str
) -> list[Said]:
    rng = np.random.default_rng([size, seed])
    known = draw(rng, max(20_000, size))
    reference = profile_reference(known, KINDS)
    others = Others(known, reference)
    found = []
    for number in range(windows):
        rows = draw(rng, size, change=CHANGES[change])
        seen = profile_window(rows, reference)
        ours = {
            OURS[rate]: judge_drift(reference, seen, policy).outcome is DriftOutcome.DRIFTED
            for rate, policy in policies.items()
        }
        if number % _ASKED and size >= _MANY_ROWS:
            found.append(Said(ours, np.nan))
            continue
        said = others.figures(rows, seen, evidently=number % _ASKED == 0)
        found.append(Said(ours | said.alarms(), said.corrected))
    return found


_ROWS_A_DAY = 1_000
_JUDGED = 5
"""Days of each stream, a week apart."""
_DAY_RATE = 0.01
"""The days are too few to know the level of a thousandth."""


def _days(sizes: Sizes) -> list[Claim]:
    claims = []
    for words in sizes.differing:
        size = _DAYS[words]
        said = _over_streams(sizes, words, size)
        quiet = said["none"]
        found = {change: _calibrated(days, quiet, (_DAY_RATE,)) for change, days in said.items()}
        _show_shares(
            f"Days alarmed, {words} (share); {_ROWS_A_DAY:,} rows a day with a daily cycle, days "
            f"that remember the last (0.7), {HISTORY} days of history",
            found,
        )
        claims += [
            _within_band(f"quiet days, {words}, at {rate:g}", quiet, rate, 2 * rate)
            for rate in STATED
        ]
        claims += [
            _beside(f"{change}, {words}", found[change], _DAY_RATE, more=size > 0)
            for change in sizes.changed_days
        ]
    return claims


def _over_streams(sizes: Sizes, words: str, size: float) -> dict[str, list[Said]]:
    """Return what is said of each stream's days, by what was changed in them."""
    parts = Parallel(n_jobs=-1)(
        delayed(_one_stream)(
            seed, size, ("none", *(sizes.changed_days if seed < sizes.changed_streams else ()))
        )
        for seed in track(range(sizes.streams), words, console=console, transient=True)
    )
    return {
        change: [said for part in parts for said in part.get(change, ())]
        for change in ("none", *sizes.changed_days)
    }


def _one_stream(seed: int, size: float, changes: Sequence[str]) -> dict[str, list[Said]]:
    rng = np.random.default_rng([int(100 * size), seed])
    stream = days(rng, HISTORY + 7 * _JUDGED, size)
    past = [draw(rng, _ROWS_A_DAY, day) for day in stream[:HISTORY]]
    known = {name: np.concatenate([rows[name] for rows in past]) for name in KINDS}
    reference = profile_reference(known, KINDS)
    others = Others(known, reference)
    profiles = [profile_window(rows, reference) for rows in past]
    before = [window_shares(reference, profile) for profile in profiles]
    usual = np.array([distances(reference, profile) for profile in profiles])

    def judge(eve: Day, day: Day, change: str, evidently: bool) -> Said:
        yesterday = profile_window(draw(rng, _ROWS_A_DAY, eve), reference)
        rows = draw(rng, _ROWS_A_DAY, day, CHANGES[change])
        seen = profile_window(rows, reference)
        said = others.figures(rows, seen, evidently=evidently)
        last = window_shares(reference, yesterday)
        ours = {
            OURS[rate]: judge_drift(reference, seen, policy, before=before, last=last).outcome
            is DriftOutcome.DRIFTED
            for rate, policy in (_RATES_ONLY if change == "none" else _AS_SHIPPED).items()
        }
        nanny = bool(beyond_three_sd(usual, distances(reference, seen)).any())
        return Said(ours | said.alarms() | {NANNY: nanny}, said.corrected)

    return {
        change: [
            judge(eve, day, change, evidently=not number and seed % _ASKED == 0)
            for number, (eve, day) in enumerate(
                zip(stream[HISTORY + 5 :: 7], stream[HISTORY + 6 :: 7], strict=True)
            )
        ]
        for change in changes
    }


if __name__ == "__main__":
    main(str(__doc__), measure_rates)
