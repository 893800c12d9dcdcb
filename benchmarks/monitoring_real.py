"""On real streams, does a monitor alarm where the model fell, and only there?

A model is fitted on the first third of a stream and then left alone; the rows that come later are
judged window by window by the rules that a monitor's run goes by: performance by what the gate's
holdout promised, drift by the profile of the training rows and by how much windows among them
differed, quality by the same profile. Beside it, on the same windows: Evidently's defaults, the
population stability index, and NannyML's rule.

What is true of a window is measured on more than itself: the metric over it and its neighbours,
two on each side, so that chance in one window is neither a loss nor the lack of one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import groupby

import numpy as np
from rich.progress import track

from benchmarks.claims import Claim, claim, console, main, show
from benchmarks.gate_streams import Model
from benchmarks.monitoring_cases import CASES, Case
from benchmarks.monitoring_rules import (
    EVIDENTLY_ANY,
    EVIDENTLY_HALF,
    Others,
    beyond_three_sd,
    distances,
)
from modelyard.domain.drift import DriftOutcome, DriftPolicy, judge_drift
from modelyard.domain.drift_history import (
    MIN_WINDOWS,
    MOST_WINDOWS,
    WindowShares,
    still_columns,
    usual_spreads,
    window_shares,
)
from modelyard.domain.intervals import metric_interval
from modelyard.domain.metrics import METRICS, Interval
from modelyard.domain.performance import (
    PerformanceOutcome,
    PerformancePolicy,
    PerformanceVerdict,
    judge_performance,
)
from modelyard.domain.profiles import PREDICTION, Profile, profile_reference, profile_window
from modelyard.domain.promises import tolerated
from modelyard.domain.quality import QualityOutcome, QualityPolicy, judge_quality
from modelyard.domain.relevance import relevance
from modelyard.domain.values import ColumnKind

PERFORMANCE, DRIFT, QUALITY = (f"ModelYard: {what}" for what in ("performance", "drift", "quality"))
NANNY = "mean ± 3 sd, any column"
RULES = (
    PERFORMANCE,
    DRIFT,
    QUALITY,
    EVIDENTLY_ANY,
    EVIDENTLY_HALF,
    "PSI > 0.1, any column",
    "PSI > 0.2, any column",
    NANNY,
)
_HOLDOUT = 0.2
"""Share of the training rows, the newest, that the promise is made on."""


_NEIGHBOURS = 2
"""Windows on each side."""
_FAR = 2.0
"""A model fell far that lost this many times what its promise leaves room for."""
_LEAST_ROWS = 100
_RULES_OF_DRIFT = DriftPolicy(min_rows=_LEAST_ROWS)
_RULES_OF_QUALITY = QualityPolicy(min_rows=_LEAST_ROWS)
_MOST_WAITED = 2
_MOST_ALARMED = 0.05


_QUICK_CASES = ("air_quality", "noaa_weather")


class State(StrEnum):
    """How a window's model does, by the window and its neighbours."""

    KEPT = "kept"
    FELL = "fell"
    FELL_FAR = "fell far"


@dataclass(frozen=True)
class Judged:
    """One window."""

    since: str
    realized: float
    lost: float
    """Of the promised value, 0..1; below 0 where the window is better."""
    alarms: Mapping[str, bool]


@dataclass(frozen=True)
class Fall:
    """Windows in a row in which the model was worse than promised."""

    windows: int
    is_far: bool
    """Whether it fell far in one of them."""
    waited: float
    """Windows before performance alarmed; infinite where it never did."""


class Monitored:
    """A stream whose model was fitted on its first third."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.stream = stream = case.stream
        self.metric = METRICS[case.metric]
        self.first = len(stream.rows) // 3
        self.held = self.first - int(self.first * _HOLDOUT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an encoder that meets a category for the first time
            self.judged = stream.fit(np.arange(self.held))
            self.served = stream.fit(np.arange(self.first))

    @cached_property
    def promised(self) -> Interval:
        """The metric on the holdout, of the fit that had not learnt it."""
        truth, said = self._outcomes(self.judged, slice(self.held, self.first))
        return metric_interval(self.metric, truth, said)

    def judge(self) -> list[Judged]:
        """Return what is said of each window that comes after the first third."""
        reference = self._reference()
        known = _features(reference)
        others = Others(self._features(slice(0, self.first)), known)
        learnt, served = self._learnt(reference), list[WindowShares]()
        told, last = list[PerformanceVerdict](), None
        usual = np.array([distances(known, past) for past in self._past(known)])
        most = MIN_WINDOWS if len(learnt) >= MIN_WINDOWS else MOST_WINDOWS
        weights = relevance(reference)
        rows = range(self.first, len(self.stream.rows) - self.case.window + 1, self.case.window)
        found = []
        for start in track(rows, self.case.name, console=console, transient=True):
            window = slice(start, start + self.case.window)
            seen = profile_window(self._columns(window, self.served), reference)
            truth, said = self._outcomes(self.served, window)
            performance = judge_performance(
                self.metric,
                truth,
                said,
                rows=self.case.window,
                promised=self.promised,
                policy=self.policy,
                before=told,
            )
            told.append(performance)
            before = (*learnt[-(MOST_WINDOWS - len(served)) :], *served)
            drift = judge_drift(
                reference,
                seen,
                _RULES_OF_DRIFT,
                before=before,
                last=last,
                relevance=weights,
            )
            quality = judge_quality(
                reference,
                seen,
                _RULES_OF_QUALITY,
                still=still_columns(before),
                spreads=usual_spreads(before),
            )
            is_broken = quality.outcome is QualityOutcome.BROKEN
            is_quiet = drift.outcome is DriftOutcome.STABLE and not is_broken
            last = window_shares(reference, seen) if is_quiet else None
            if last is not None and len(served) < most:
                served.append(last)
            features = _features(seen)
            alarms = {
                PERFORMANCE: performance.outcome is PerformanceOutcome.DEGRADED,
                DRIFT: drift.outcome is DriftOutcome.DRIFTED,
                QUALITY: is_broken,
                **others.figures(self._features(window), features).alarms(),
                NANNY: bool(beyond_three_sd(usual, distances(known, features)).any()),
            }
            realized = self.metric(truth, said)
            found.append(Judged(self._since(start), realized, self._lost(realized), alarms))
        return found

    @cached_property
    def policy(self) -> PerformancePolicy:
        """What a monitor's run tolerates of this model."""
        rows = np.arange(self.held, self.first)
        naive = self.stream.naive(np.arange(self.held), rows).for_metric(self.metric)
        value = self.metric(self.stream.truth[rows], naive)
        share = PerformancePolicy().tolerance
        return PerformancePolicy(
            min_labels=_LEAST_ROWS, tolerance=tolerated(self.metric, self.promised, value, share)
        )

    @property
    def room(self) -> float:
        """What may be lost and is still as promised, as a share of the promised value."""
        bad = self.promised.low if self.metric.higher_is_better else self.promised.high
        return self._lost(bad) + self.policy.tolerance

    def _lost(self, value: float) -> float:
        sign = 1 if self.metric.higher_is_better else -1
        return sign * (self.promised.value - value) / abs(self.promised.value)

    def _outcomes(self, model: Model, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        return self.stream.truth[rows], model.outcomes.for_metric(self.metric)[rows]

    def _reference(self) -> Profile:
        """Return the profile of all training rows.

        As in a monitor's run, the holdout's rows alone have a prediction, by the fit that had not
        learnt them.
        """
        columns = self._columns(slice(0, self.first), self.judged)
        columns[PREDICTION][: self.held] = None
        classification = self.stream.contract.task.is_classification
        kinds = {column.name: column.kind for column in self.stream.contract.columns}
        kinds[PREDICTION] = ColumnKind.CATEGORICAL if classification else ColumnKind.NUMERIC
        profile = profile_reference(columns, kinds)
        said = profile.columns[PREDICTION]
        said = said.model_copy(update={"nulls": said.nulls - self.held})
        return profile.model_copy(update={"columns": {**profile.columns, PREDICTION: said}})

    def _learnt(self, reference: Profile) -> list[WindowShares]:
        """Return the shares of the windows among the training rows, as a monitor's run has them."""
        found = []
        for rows, past in zip(self._windows(), self._past(reference), strict=True):
            shares = window_shares(reference, _features(past))
            answered = slice(max(rows.start, self.held), rows.stop)
            if answered.start < answered.stop:
                said = profile_window(self._columns(answered, self.judged), reference)
                asked = window_shares(reference, said).columns[PREDICTION]
                shares = shares.model_copy(
                    update={"columns": {**shares.columns, PREDICTION: asked}}
                )
            found.append(shares)
        return found

    def _windows(self) -> list[slice]:
        size = self.case.window
        return [slice(start, start + size) for start in range(0, self.first - size + 1, size)]

    def _past(self, reference: Profile) -> list[Profile]:
        return [profile_window(self._features(rows), reference) for rows in self._windows()]

    def _features(self, rows: slice) -> dict[str, np.ndarray]:
        frame = self.stream.features.iloc[rows]
        return {name: frame[name].to_numpy() for name in self.stream.contract.names()}

    def _columns(self, rows: slice, model: Model) -> dict[str, np.ndarray]:
        said = model.outcomes.values[rows].astype(np.float64)
        if self.stream.contract.task.is_classification:
            said = np.array([str(code) for code in said], dtype=object)
        return {**self._features(rows), PREDICTION: said}

    def _since(self, row: int) -> str:
        time = self.stream.contract.time
        return f"row {row:,}" if time is None else f"{self.stream.rows[time].iloc[row]:%d.%m.%y}"


def _features(profile: Profile) -> Profile:
    """Return a profile without the predictions, which the others are not asked about."""
    columns = {name: c for name, c in profile.columns.items() if name != PREDICTION}
    return profile.model_copy(update={"columns": columns})


def states(judged: Sequence[Judged], room: float) -> list[State]:
    """Return how the model truly did, by the median of each window and its neighbours."""
    lost = [window.lost for window in judged]
    found = []
    for number in range(len(lost)):
        around = lost[max(number - _NEIGHBOURS, 0) : number + _NEIGHBOURS + 1]
        middle = float(np.median(around))
        if middle >= _FAR * room:
            found.append(State.FELL_FAR)
        else:
            found.append(State.FELL if middle > room else State.KEPT)
    return found


def falls(judged: Sequence[Judged], states: Sequence[State]) -> list[Fall]:
    """Return each stretch of windows that fell and were more than an alarm may wait for."""
    found = []
    numbered = list(zip(judged, states, strict=True))
    for fell, part in groupby(numbered, key=lambda pair: pair[1] is not State.KEPT):
        windows = list(part)
        if fell and len(windows) > _MOST_WAITED:
            alarms = [window.alarms[PERFORMANCE] for window, _ in windows]
            found.append(
                Fall(
                    windows=len(windows),
                    is_far=any(state is State.FELL_FAR for _, state in windows),
                    waited=alarms.index(True) if True in alarms else np.inf,
                )
            )
    return found


def longest_wait(found: Sequence[Fall]) -> float:
    """Return the most windows that a far fall went on for before performance alarmed.

    Where the model never fell far, of the falls that there are. Infinite where one was never
    alarmed, NaN where there is none.
    """
    asked = [fall.waited for fall in found if fall.is_far] or [fall.waited for fall in found]
    return float(max(asked, default=np.nan))


def measure_real(quick: bool) -> list[Claim]:
    """Monitor each stream."""
    claims, rows, false = [], [], []
    for case in CASES:
        if quick and case.name not in _QUICK_CASES:
            continue
        monitored = Monitored(case)
        judged = monitored.judge()
        truly = states(judged, monitored.room)
        _show_windows(monitored, judged, truly)
        rows.append((f"{case.name}, {case.metric}", *_counted(judged, truly)))
        claims.append(_claim(case, judged, truly))
        false += [
            window.alarms[PERFORMANCE]
            for window, state in zip(judged, truly, strict=True)
            if state is State.KEPT
        ]
    show(
        "Windows that fell, of those: alarmed; windows that kept their promise, of those: alarmed",
        ("stream", "fell (far)", "kept", "falls told in time", *RULES),
        rows,
    )
    # Of all streams: some have ten such windows, of which one is more than any share that matters.
    name = "windows that kept their promise, share that performance alarms in"
    return [*claims, claim(name, float(np.mean(false)), "<=", _MOST_ALARMED)]


def _claim(case: Case, judged: Sequence[Judged], truly: Sequence[State]) -> Claim:
    if case.is_control:
        alarmed = float(np.mean([window.alarms[PERFORMANCE] for window in judged]))
        name = f"{case.name}, a control: share of windows that performance alarms in"
        return claim(name, alarmed, "<=", _MOST_ALARMED)
    name = f"{case.name}: windows until a far fall is alarmed, or any where there is no far one"
    return claim(name, longest_wait(falls(judged, truly)), "<=", _MOST_WAITED)


def _counted(judged: Sequence[Judged], truly: Sequence[State]) -> tuple[str, ...]:
    kept = [state is State.KEPT for state in truly]
    far = sum(state is State.FELL_FAR for state in truly)

    def alarms(rule: str) -> str:
        right = sum(w.alarms[rule] for w, k in zip(judged, kept, strict=True) if not k)
        false = sum(w.alarms[rule] for w, k in zip(judged, kept, strict=True) if k)
        return f"{right} / {false}"

    all_falls = falls(judged, truly)
    in_time = sum(fall.waited <= _MOST_WAITED for fall in all_falls)
    return (
        f"{len(kept) - sum(kept)} ({far})",
        str(sum(kept)),
        f"{in_time} of {len(all_falls)}",
        *map(alarms, RULES),
    )


def _show_windows(monitored: Monitored, judged: Sequence[Judged], truly: Sequence[State]) -> None:
    show(
        f"{monitored.case.name}: {monitored.metric.name} promised {monitored.promised}, "
        f"{monitored.room:.1%} may be lost",
        ("window", monitored.metric.name, "lost, %", "truly", *RULES),
        [
            (
                w.since,
                w.realized,
                round(100 * w.lost),
                s,
                *("!" if w.alarms[r] else "" for r in RULES),
            )
            for w, s in zip(judged, truly, strict=True)
        ],
    )


if __name__ == "__main__":
    main(str(__doc__), measure_real)
