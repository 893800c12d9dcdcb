"""Does a service stay right through a year of faults, and does its controller keep its head?

Each day of the simulated service its rows are sent to the real replicas, the labels come that are
known by then, the windows are measured, and the controller is asked, all by the functions that the
flows' tasks call, with the simulated moment as their `as_of`: a flow a day would take longer than
what it runs. Retrainings are whole flows in processes of their own; those that are about events,
servers and workers run in the real platform, started by its automations.

What is right is known: the city's concept is a formula, and a release's true metric on a day is
computed from it, without noise and without labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from scipy.special import erf

from benchmarks.claims import Claim, claim, main, show
from benchmarks.faults_days import Life, Retrained, live
from benchmarks.faults_processes import prepare
from benchmarks.faults_schedule import DAYS, QUICK_DAYS, Fault, is_to_learn, schedule
from benchmarks.faults_world import DAY, FIRST, NOISE_SD, City, Kind
from benchmarks.faults_yard import MODEL, Yard, yard
from modelyard.adapters.data.inference_log import ID, PREDICTION
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.monitoring import WINDOW_CAUSES, IncidentCause, WindowRecord
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.retraining import RetrainingVerdict
from modelyard.domain.windows import window_of
from modelyard.serving.bundle import load_bundle
from modelyard.serving.frames import predict_frame

SEED = 7
MARGIN = 0.01
"""The gate's: a release that is truly worse by more is a bad promotion."""
WORSE = 1.10
"""Monitoring's tolerance: a champion that is truly worse than before by more is to be retrained."""
_SEEN_BY = {
    Kind.NULLS: {IncidentCause.DATA},
    Kind.UNIT: {IncidentCause.DATA},
    Kind.CATEGORY: {IncidentCause.DATA, IncidentCause.DRIFT, IncidentCause.PERFORMANCE},
    Kind.CONCEPT: {IncidentCause.PERFORMANCE},
    Kind.PRIOR: {IncidentCause.DRIFT},
    Kind.SEASON: {IncidentCause.DRIFT},
}
"""What tells of a fault; the others are no matter of windows."""
_MUST_BE_SEEN = (Kind.NULLS, Kind.UNIT, Kind.CATEGORY, Kind.CONCEPT)
_LEARNT_DAYS = 14
"""Windows after a lasting change in which alarms may come of it."""
_LABEL_DAYS = 2
"""Windows until a window's labels are due."""


class Truths:
    """How good releases truly are, as the mean absolute error over that of a perfect model."""

    def __init__(self, made: Yard) -> None:
        self._made = made
        self.of_release = cache(self._of_release)

    def _of_release(self, version: str, day: int) -> float:
        """Return the figure of a release on a day's rows without any fault."""
        workspace = self._made.workspace
        build = workspace.ledger.release(MODEL, version).build
        bundle = load_bundle(workspace.project.home / build.bundle, build.digest)
        rows, _, expected = self._made.city.fresh(day)
        said = predict_frame(bundle.predictor, rows.assign(parcel="", sent_at=FIRST))
        return float(expected_error(said.predictions - expected).mean())

    def by_day(self) -> tuple[pd.Series, pd.Series]:
        """Return the figure of what was answered, by day, and how often each row was logged."""
        rows = self._made.city.rows
        rows = rows[rows["day"] >= 0].set_index("parcel")
        log = self._made.workspace.prediction_log(MODEL)
        end = FIRST + (rows["day"].max() + 1) * DAY
        logged = log.read(FIRST, end, columns=[ID, PREDICTION])
        of_row = logged.set_index(ID)[PREDICTION].astype(float)
        first = of_row[~of_row.index.duplicated()].reindex(rows.index)
        errors = pd.Series(expected_error(first - rows["expected"]), index=rows.index)
        return errors.groupby(rows["day"]).mean(), logged[ID].value_counts()


def expected_error(bias: np.ndarray | pd.Series) -> np.ndarray:
    """Return the expected absolute error of biased predictions over that of perfect ones.

    The mean of a folded Gaussian (Leone, Nelson and Nottingham 1961, "The folded normal
    distribution").
    """
    scaled = np.asarray(bias, dtype=np.float64) / NOISE_SD
    return np.exp(-(scaled**2) / 2) + scaled * np.sqrt(np.pi / 2) * erf(scaled / np.sqrt(2))


def measure(quick: bool) -> list[Claim]:
    """Live through the schedule; return what must hold."""
    faults, days = schedule(quick, SEED), QUICK_DAYS if quick else DAYS
    prepare()
    city = City([fault.change for fault in faults], days + 1, SEED)
    with yard(city) as made:
        life = live(made, faults, days)
        truths = Truths(made)
        daily, logged = truths.by_day()
        usual = float(daily.loc[: faults[0].change.day - 1].median())
        _show_faults(faults, life, daily, usual, made)
        alarms = _count_quiet(faults, life, days)
        false, bad = _judge_retrainings(life, truths, usual)
        return [
            claim("days", len(life.records), ">=", days),
            *_claims_of_faults(faults, life, daily, usual),
            claim("retrainings a year that nothing called for", 365 * false / days, "<=", 0),
            claim("quiet windows that data or performance alarms in, share", alarms, "<=", 0.01),
            claim("bad promotions", bad, "<=", 0),
            *_claims_of_traffic(made, logged),
            *_claims_of_ledger(made, life, days),
        ]


def _detected(fault: Fault, life: Life) -> tuple[int | None, list[str]]:
    """Return after how many further windows a fault was told, and by what."""
    seen_by, first = _SEEN_BY.get(fault.change.kind, set()), None
    causes: Counter[str] = Counter()
    for day in range(fault.change.day, fault.until):
        for record in life.records[day]:
            if _day_of(record) < fault.change.day:
                continue
            causes.update(str(cause) for cause in record.causes)
            if first is None and seen_by & set(record.causes):
                first = day - fault.change.day
    return first, [cause for cause, _ in causes.most_common()]


def _day_of(record: WindowRecord) -> int:
    return (record.window.start - FIRST) // DAY


def _recovered(fault: Fault, is_bad: pd.Series) -> float:
    """Return for how many windows answers were worse than before; infinite: until the end."""
    during = is_bad.loc[fault.change.day : fault.until - 1]
    if not during.any():
        return 0
    if bool(during.iloc[-1]):
        return np.inf
    return int(during[during].index[-1]) - fault.change.day + 1


def _mended(fault: Fault, daily: pd.Series, usual: float) -> float:
    """Return how much of what a change did to the true error was taken back."""
    during = daily.loc[fault.change.day : fault.until - 1]
    return float((during.max() - during.iloc[-1]) / (during.max() - usual))


def _kept_again(fault: Fault, life: Life) -> int:
    """Return for how many windows the champion broke its promise, by the labels that came."""
    last = {
        _day_of(record): record.performance.outcome is PerformanceOutcome.DEGRADED
        for day in range(fault.change.day, fault.until)
        for record in life.records[day]
    }
    broken = [day for day, is_degraded in last.items() if is_degraded and day >= fault.change.day]
    return max(broken, default=fault.change.day - 1) - fault.change.day + 1


def _show_faults(
    faults: Sequence[Fault], life: Life, daily: pd.Series, usual: float, made: Yard
) -> None:
    rows = []
    is_bad = daily > WORSE * usual
    for fault in faults:
        delay, causes = _detected(fault, life)
        during = [r for r in life.retrained if fault.change.day <= r.day < fault.until]
        outcome = life.outcomes.get(fault.change.day)
        true = daily.loc[fault.change.day : fault.until - 1]
        rows.append(
            (
                fault.change.day,
                fault.name,
                ", ".join(causes) or _seen_otherwise(fault, life, made),
                "" if delay is None else delay,
                _controller(fault, life, during),
                _kept_again(fault, life),
                _recovered(fault, is_bad),
                f"{true.max():.2f}, {true.iloc[-1]:.2f}",
                "" if outcome is None or outcome.seconds is None else round(outcome.seconds),
                "" if outcome is None else outcome.words,
            )
        )
    show(
        f"Faults; the true error, over that of a perfect model, is {usual:.3f} before them",
        (
            *("day", "fault", "seen as", "delay", "the controller", "until promise kept"),
            *("until as good", "error: most, last", "s", "process"),
        ),
        rows,
    )


def _seen_otherwise(fault: Fault, life: Life, made: Yard) -> str:
    """Return what told of a fault that no window is wrong in."""
    ledger = made.workspace.ledger
    if fault.change.kind is Kind.BROKEN:
        told = [i.cause for i in ledger.incidents(MODEL, open_only=False)]
        return "rollout" if IncidentCause.ROLLOUT in told else ""
    if fault.change.kind in (Kind.LATE, Kind.MISSING):
        waited = {
            _day_of(record)
            for day in range(fault.change.day, fault.until)
            for record in life.records[day]
            if record.performance.outcome is PerformanceOutcome.TOO_FEW_LABELS
            and day - _day_of(record) >= _LABEL_DAYS
        }
        return f"{len(waited)} windows without labels in time"
    return ""


def _controller(fault: Fault, life: Life, during: Sequence[Retrained]) -> str:
    decided = Counter(
        str(decision.verdict)
        for day in range(fault.change.day, fault.until)
        for decision in life.decisions.get(day, [])
        if decision.verdict is not RetrainingVerdict.RETRAIN
    )
    parts = [f"{count} {verdict}" for verdict, count in decided.items()]
    parts += [
        f"day {one.day}: {one.after if one.after != one.before else 'kept'}" for one in during
    ]
    return ", ".join(parts) or "nothing"


def _count_quiet(faults: Sequence[Fault], life: Life, days: int) -> float:
    """Show how often windows alarm in which nothing is wrong; return the share of false alarms of
    data and performance."""
    quiet = [
        day
        for day in range(days)
        if all(not _may_show(fault, day) for fault in faults if fault.change.day <= day)
    ]
    newest = {_day_of(record): record for day in range(days) for record in life.records[day]}
    causes = Counter(cause for day in quiet for cause in newest[day].causes)
    show(
        "Alarms of windows in which nothing is wrong",
        ("windows", *(str(cause) for cause in WINDOW_CAUSES)),
        [(len(quiet), *(causes[cause] for cause in WINDOW_CAUSES))],
    )
    false = sum(count for cause, count in causes.items() if cause is not IncidentCause.DRIFT)
    return false / max(len(quiet), 1)


def _may_show(fault: Fault, day: int) -> bool:
    """Return whether a fault, or what was learnt from it, may be why a window alarms."""
    if is_to_learn(fault):
        return day < fault.change.day + _LEARNT_DAYS
    return fault.change.holds(day)


def _judge_retrainings(life: Life, truths: Truths, usual: float) -> tuple[int, int]:
    """Show what each retraining was worth; return how many were false, and promoted wrongly."""
    rows, false, bad = [], 0, 0
    for one in life.retrained:
        day = one.day + 1
        before, after = (truths.of_release(version, day) for version in (one.before, one.after))
        by_schedule = one.decision.cause is RetrainingCause.SCHEDULE
        called_for = by_schedule or before > WORSE * usual
        worse = after > before * (1 + MARGIN)
        false += not called_for
        bad += worse
        since = one.decision.rows_since
        rows.append(
            (
                one.day,
                one.decision.cause,
                "" if since is None else (since - FIRST) // DAY,
                f"{one.before} to {one.after}" if one.after != one.before else "kept",
                before,
                after,
                "yes" if called_for else "no",
                "BAD" if worse else "",
            )
        )
    show(
        "Retrainings, with the true error over that of a perfect model",
        ("day", "cause", "rows since day", "release", "before", "after", "called for", ""),
        rows,
    )
    return false, bad


def _claims_of_faults(
    faults: Sequence[Fault], life: Life, daily: pd.Series, usual: float
) -> list[Claim]:
    delays = {f: _detected(f, life)[0] for f in faults if f.change.kind in _MUST_BE_SEEN}
    lasting = [f for f in faults if is_to_learn(f)]
    told = {f: np.nan if delay is None else delay for f, delay in delays.items()}
    data = [d for f, d in told.items() if f.change.kind in (Kind.NULLS, Kind.UNIT)]
    learnt = [d for f, d in told.items() if is_to_learn(f)]
    season = [
        one
        for f in faults
        if f.change.kind is Kind.SEASON
        for one in life.retrained
        if f.change.day <= one.day < f.until and one.decision.cause is not RetrainingCause.SCHEDULE
    ]
    unended = [
        f for f in lasting if (o := life.outcomes.get(f.change.day)) is None or o.seconds is None
    ]
    broken = [life.outcomes[f.change.day] for f in faults if f.change.kind is Kind.BROKEN]
    unaborted = sum(not outcome.words.startswith("aborted") for outcome in broken)
    return [
        claim("releases that do not start whose rollout was not aborted", unaborted, "<=", 0),
        claim("faults that nobody was told of", sum(d is None for d in delays.values()), "<=", 0),
        claim("detection delay of broken data, most windows", max(data), "<=", 0),
        claim("detection delay of what is to be learnt, most windows", max(learnt), "<=", 4),
        claim("retrainings in a season", len(season), "<=", 0),
        claim("retrainings that did not end, whatever was killed", len(unended), "<=", 0),
        claim(
            "windows until the promise is kept again, most",
            max(_kept_again(f, life) for f in lasting),
            "<=",
            10,
        ),
        claim(
            "damage that is mended before the next fault, least share",
            min(_mended(f, daily, usual) for f in lasting),
            ">=",
            0.75,
        ),
    ]


def _claims_of_traffic(made: Yard, logged: pd.Series) -> list[Claim]:
    answered = made.traffic.answered
    missing = len(answered - set(logged.index))
    show(
        "Traffic",
        ("requests", "lost", "rows answered", "not in the log", "more than once in it"),
        [(made.traffic.requests, made.traffic.lost, len(answered), missing, (logged > 1).sum())],
    )
    return [
        claim("lost requests", made.traffic.lost, "<=", 0),
        claim("answered rows that the log lacks", missing, "<=", 0),
        claim("answered rows that it has twice", int((logged > 1).sum()), "<=", 0),
    ]


def _claims_of_ledger(made: Yard, life: Life, days: int) -> list[Claim]:
    ledger = made.workspace.ledger
    found = Counter(window.id for window in ledger.windows(MODEL))
    due = [window_of(MODEL, FIRST + d * DAY, FIRST + (d + 1) * DAY).id for d in range(days)]
    wrong = sum(found[window] != 1 for window in due)
    reasons = Counter(
        release.delivery.reason
        for release in ledger.releases(MODEL)
        if release.delivery.reason.startswith("retrain:")
    )
    return [
        claim("windows without exactly one record", wrong, "<=", 0),
        claim("deliveries of one decision, most", max(reasons.values(), default=0), "<=", 1),
    ]


if __name__ == "__main__":
    main(str(__doc__), measure)
