"""Which policy of monitoring and retraining would have served a model best, and is that sure?

All policies are held against two that nobody can beat or fall below for long: never retraining, and
the oracle, which learns all that is known before every window and never asks whether it should.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from datetime import datetime

import numpy as np

from modelyard.domain.metrics import Interval
from modelyard.domain.policy_runs import (
    ABORTED,
    CONFIGURED,
    NEVER,
    ORACLE,
    PolicyRun,
    Step,
    WindowFigure,
)
from modelyard.domain.values import Value
from modelyard.errors import InvalidInputError

_DRAWS = 2000
_SEED = 0
_CONFIDENCE = 0.95
_LEAST_GAIN = 2.0
"""Standard errors that the oracle must gain over never retraining, for shares of it to be told."""


class Shortfall(Value):
    """Where a policy lost against the oracle: the windows before which the same had happened."""

    words: str
    windows: int
    share: float
    """Of all that it lost."""


class PolicyScore(Value):
    """One policy in figures, beside the others."""

    policy: str
    words: str
    mean: float
    """The metric's mean over the windows, each weighted by its rows."""
    lost: float
    """Area lost against the oracle: the metric's shortfall summed over the windows; below 0 where
    the policy did better."""
    recovered: Interval | None
    """Share of what the oracle gains over never retraining that the policy gains; None where that
    is not surely more than nothing."""
    trainings: int
    kept: int
    """Retrainings after which the gate kept the champion."""
    aborted: tuple[str, ...] = ()
    """Why each retraining was stopped that trained nothing."""
    fits: int
    fit_seconds: float
    alarms: int
    """Windows in which performance or drift alarmed."""
    false_alarms: int
    """Those in which the metric was as promised."""
    violations: int
    """Windows in which the metric was worse than the first release promised."""
    shortfalls: tuple[Shortfall, ...] = ()
    """Why it lost, the most first."""
    best_for_its_price: bool = False
    """Whether no other policy loses less with as few trainings (the Pareto front)."""


class Recommendation(Value):
    """Which policy to take, why, and how sure that is."""

    policy: str
    reasons: tuple[str, ...]
    difference: Interval | None
    """Mean metric of the policy that lost least minus that of this one, positive where that is
    better; None where it is the same."""


def score_policy(
    run: PolicyRun,
    figures: Sequence[WindowFigure],
    *,
    never: Sequence[WindowFigure],
    oracle: Sequence[WindowFigure],
    higher_is_better: bool,
    promise: float,
) -> PolicyScore:
    """Hold one policy against never retraining and the oracle.

    All `figures` are of the same windows, in the order of time. `promise` is the worst value that
    the first release promised.
    """
    sign = 1.0 if higher_is_better else -1.0
    own, least, most = (sign * _values(f) for f in (figures, never, oracle))
    weights = np.array([f.rows for f in figures], dtype=np.float64)
    told = np.isfinite(own) & np.isfinite(least) & np.isfinite(most)
    own, least, most, weights = own[told], least[told], most[told], weights[told]
    as_promised = {
        (f.start, f.end)
        for f in figures
        if f.figure is not None and sign * f.figure.value >= sign * promise
    }
    known = {(f.start, f.end) for f in figures if f.figure is not None}
    alarmed = [(s.start, s.end) for s in run.steps if set(s.alarms) & {"performance", "drift"}]
    return PolicyScore(
        policy=run.policy,
        words=run.words,
        mean=sign * float(np.average(own, weights=weights)) if own.size else math.nan,
        lost=float((most - own).sum()),
        recovered=_recovered(own, least, most, weights),
        trainings=run.trainings,
        kept=run.count("kept_champion"),
        aborted=tuple(s.reasons[0] if s.reasons else "" for s in run.steps if s.outcome == ABORTED),
        fits=run.fits,
        fit_seconds=run.fit_seconds,
        alarms=len(alarmed),
        false_alarms=sum(window in as_promised for window in alarmed),
        violations=len(known - as_promised),
        shortfalls=_shortfalls(run.steps, sign * (_values(oracle) - _values(figures)), as_promised),
    )


def _shortfalls(
    steps: Sequence[Step], lost: np.ndarray, as_promised: Container[tuple[datetime, datetime]]
) -> tuple[Shortfall, ...]:
    """Say what had been seen and done before the windows in which something was lost.

    What answers a window was decided when the one before it ended. `lost` has shape (windows,).
    """
    total = float(lost[lost > 0].sum())
    found: dict[str, list[float]] = {}
    for before, loss in zip((None, *steps[:-1]), lost, strict=True):
        if loss > 0:
            found.setdefault(_seen_and_done(before, as_promised), []).append(float(loss))
    told = [
        Shortfall(words=words, windows=len(losses), share=sum(losses) / total)
        for words, losses in found.items()
    ]
    return tuple(sorted(told, key=lambda s: -s.share))


def _seen_and_done(step: Step | None, as_promised: Container[tuple[datetime, datetime]]) -> str:
    if step is None:
        return "nothing could be decided yet"
    if step.outcome == "champion":
        return "a retraining had just been promoted"
    alarms = [cause for cause in ("performance", "drift") if cause in step.alarms]
    if alarms:
        seen = f"{' and '.join(alarms)} had alarmed"
    elif (step.start, step.end) in as_promised:
        seen = "nothing had alarmed, the metric was as promised"
    else:
        seen = "nothing had alarmed, though the metric was worse than promised"
    if step.outcome == "kept_champion":
        return f"{seen}; the gate had kept the champion"
    return f"{seen}; the controller said {step.verdict}" if alarms and step.verdict else seen


def pareto(scores: Sequence[PolicyScore]) -> tuple[PolicyScore, ...]:
    """Mark the policies that no other beats in what is lost without more trainings.

    The oracle takes no part: it is no policy that anybody could run.
    """
    able = [s for s in scores if s.policy != ORACLE]

    def is_best(score: PolicyScore) -> bool:
        return score.policy != ORACLE and not any(
            (other.lost <= score.lost and other.trainings <= score.trainings)
            and (other.lost < score.lost or other.trainings < score.trainings)
            for other in able
        )

    return tuple(s.model_copy(update={"best_for_its_price": is_best(s)}) for s in scores)


def recommend(
    scores: Sequence[PolicyScore],
    figures: Mapping[str, Sequence[WindowFigure]],
    *,
    metric: str,
    higher_is_better: bool,
) -> Recommendation:
    """Return the policy with the fewest trainings of those that are not surely worse than the best.

    What differs by chance alone is not worth a training: the rule is that of one standard error
    (Breiman and others 1984, "Classification and Regression Trees", 3.4.3), with the interval of
    the paired difference in place of the error. Of equals the model's own config stays.
    """
    sign = 1.0 if higher_is_better else -1.0
    able = [s for s in scores if s.policy != ORACLE and math.isfinite(s.mean)]
    if not able:
        raise InvalidInputError(
            f"{metric} is defined in no window: their rows have no label, or one class only. Take "
            "other windows with --from and --to, or longer ones with monitoring.window."
        )
    best = max(able, key=lambda s: (sign * s.mean, -s.trainings, s.policy == CONFIGURED))
    gaps = {s.policy: _gap(figures[best.policy], figures[s.policy], sign) for s in able}
    as_good = [s for s in able if s.policy == best.policy or gaps[s.policy].low <= 0]
    chosen = min(as_good, key=lambda s: (s.trainings, -sign * s.mean, s.policy != CONFIGURED))
    gap = None if chosen.policy == best.policy else gaps[chosen.policy]
    trainings = _times(chosen.trainings)
    reasons = [f"mean {metric} {chosen.mean:.4g} with {trainings}"]
    if gap is None:
        reasons.append("no other policy lost less")
    else:
        reasons.append(
            f"{best.policy} reached {best.mean:.4g} with {_times(best.trainings)}; its lead of "
            f"{gap.value:.2g} may be chance (95 % interval {gap.low:.2g} to {gap.high:.2g})"
        )
    if chosen.recovered is not None:
        share = chosen.recovered
        reasons.append(
            f"it recovers {share.value:.0%} ({share.low:.0%} to {share.high:.0%}) of what "
            "retraining before every window would gain over never retraining"
        )
    else:
        reasons.append("retraining before every window gains nothing that chance could not")
    rivals = [s.policy for s in as_good if s.policy != chosen.policy]
    if rivals:
        reasons.append(f"these windows cannot tell it from {', '.join(rivals)}")
    return Recommendation(policy=chosen.policy, reasons=tuple(reasons), difference=gap)


def _times(trainings: int) -> str:
    return "1 training" if trainings == 1 else f"{trainings} trainings"


def _values(figures: Sequence[WindowFigure]) -> np.ndarray:
    return np.array([math.nan if f.figure is None else f.figure.value for f in figures])


def _recovered(
    own: np.ndarray, least: np.ndarray, most: np.ndarray, weights: np.ndarray
) -> Interval | None:
    """Return the share of the oracle's gain that a policy gains, with its interval."""
    if len(own) < 2:
        return None
    gain, mine = most - least, own - least
    total = float(np.average(gain, weights=weights))
    drawn = _draws(len(own))
    shared = weights[drawn]
    gains = (gain[drawn] * shared).sum(axis=1) / shared.sum(axis=1)
    if total <= _LEAST_GAIN * float(gains.std()):
        return None
    mines = (mine[drawn] * shared).sum(axis=1) / shared.sum(axis=1)
    sure = gains > 0
    low, high = np.quantile(mines[sure] / gains[sure], _tails())
    value = float(np.average(mine, weights=weights)) / total
    return Interval(value=value, low=float(low), high=float(high), confidence=_CONFIDENCE)


def _gap(best: Sequence[WindowFigure], other: Sequence[WindowFigure], sign: float) -> Interval:
    """Return by how much the mean metric of the first is better, with its interval."""
    differences = sign * (_values(best) - _values(other))
    weights = np.array([f.rows for f in best], dtype=np.float64)
    told = np.isfinite(differences)
    differences, weights = differences[told], weights[told]
    drawn = _draws(len(differences))
    shared = weights[drawn]
    means = (differences[drawn] * shared).sum(axis=1) / shared.sum(axis=1)
    low, high = np.quantile(means, _tails())
    return Interval(
        value=float(np.average(differences, weights=weights)),
        low=float(low),
        high=float(high),
        confidence=_CONFIDENCE,
    )


def _tails() -> tuple[float, float]:
    return (1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2


def _draws(windows: int) -> np.ndarray:
    """Return places of windows, drawn in blocks of neighbours, shape (draws, windows).

    Windows next to each other are alike. Blocks are as long as the cube root of their number, and
    wrap around (the circular block bootstrap: Politis and Romano 1992).
    """
    rng = np.random.default_rng(_SEED)
    length = max(1, round(windows ** (1 / 3)))
    blocks = -(-windows // length)
    starts = rng.integers(0, windows, (_DRAWS, blocks, 1))
    places = (starts + np.arange(length)) % windows
    return places.reshape(_DRAWS, -1)[:, :windows]


class Backtest(Value):
    """What several policies would have done to one model, side by side."""

    model: str
    metric: str
    higher_is_better: bool
    start: datetime
    """When the first release was made."""
    end: datetime
    promise: float
    """The metric's worst value that counts as what the first release promised."""
    runs: tuple[PolicyRun, ...]
    figures: dict[str, tuple[WindowFigure, ...]]
    """By policy, a figure a window."""
    scores: tuple[PolicyScore, ...]
    """In the order of the runs."""
    recommendation: Recommendation

    @property
    def windows(self) -> int:
        return len(self.runs[0].steps)

    @property
    def ranked(self) -> tuple[PolicyScore, ...]:
        """Return the scores, what lost least first; the oracle ahead of all."""
        return tuple(sorted(self.scores, key=lambda s: (s.policy != ORACLE, s.lost)))


def assess(
    model: str,
    metric: str,
    runs: Sequence[PolicyRun],
    figures: Mapping[str, tuple[WindowFigure, ...]],
    *,
    higher_is_better: bool,
    promise: float,
) -> Backtest:
    """Hold all policies against each other; never retraining and the oracle are among them.

    `figures` has one a window of every run, by its policy.
    """
    scores = pareto(
        [
            score_policy(
                run,
                figures[run.policy],
                never=figures[NEVER],
                oracle=figures[ORACLE],
                higher_is_better=higher_is_better,
                promise=promise,
            )
            for run in runs
        ]
    )
    return Backtest(
        model=model,
        metric=metric,
        higher_is_better=higher_is_better,
        start=runs[0].steps[0].start,
        end=runs[0].steps[-1].end,
        promise=promise,
        runs=tuple(runs),
        figures=dict(figures),
        scores=scores,
        recommendation=recommend(scores, figures, metric=metric, higher_is_better=higher_is_better),
    )
