"""Policies are held against never retraining and the oracle, and the cheapest good one is taken."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.backtest import Backtest, PolicyScore, assess, pareto, score_policy
from modelyard.domain.metrics import Interval
from modelyard.domain.policy_runs import CONFIGURED, NEVER, ORACLE, PolicyRun, Step, WindowFigure

START = datetime(2024, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


def figures(values: list[float], rows: int = 100) -> tuple[WindowFigure, ...]:
    """A figure a week."""
    return tuple(
        WindowFigure(
            start=START + place * WEEK,
            end=START + (place + 1) * WEEK,
            rows=rows,
            figure=Interval(value=value, low=value - 0.1, high=value + 0.1)
            if math.isfinite(value)
            else None,
        )
        for place, value in enumerate(values)
    )


def run(
    policy: str,
    windows: int,
    trained: tuple[int, ...] = (),
    alarms: tuple[int, ...] = (),
    outcome: str = "champion",
) -> PolicyRun:
    """A run that trained, and saw alarms, in the windows of these numbers."""
    return PolicyRun(
        policy=policy,
        words="",
        steps=tuple(
            Step(
                start=START + place * WEEK,
                end=START + (place + 1) * WEEK,
                release="1.0.0",
                alarms=("performance",) if place in alarms else (),
                outcome=outcome if place in trained else None,
            )
            for place in range(windows)
        ),
    )


def backtest(values: dict[str, list[float]], trained: dict[str, int], *, up: bool) -> Backtest:
    windows = len(values[NEVER])
    runs = [run(name, windows, tuple(range(trained.get(name, 0)))) for name in values]
    seen = {name: figures(of) for name, of in values.items()}
    return assess("rides", "mae", runs, seen, higher_is_better=up, promise=2.0)


def test_it_is_said_in_which_windows_a_policy_lost() -> None:
    values = {
        NEVER: [3.0, 3.0, 3.0, 3.0, 3.0],
        CONFIGURED: [3.0, 2.0, 1.5, 3.0, 0.5],
        ORACLE: [1.0, 1.0, 1.0, 1.0, 1.0],
    }
    runs = [run(NEVER, 5), run(CONFIGURED, 5, (0, 3), (0,)), run(ORACLE, 5)]
    seen = {name: figures(of) for name, of in values.items()}
    done = assess("rides", "mae", runs, seen, higher_is_better=False, promise=2.0)
    told = [(s.words, s.windows, round(s.share, 3)) for s in done.scores[1].shortfalls]
    assert told == [
        ("nothing had alarmed, the metric was as promised", 2, 0.455),
        ("nothing could be decided yet", 1, 0.364),
        ("a retraining had just been promoted", 1, 0.182),
    ]


def score(policy: str, lost: float, trainings: int) -> PolicyScore:
    return PolicyScore(
        policy=policy,
        words="",
        mean=0.0,
        lost=lost,
        recovered=None,
        trainings=trainings,
        kept=0,
        fits=0,
        fit_seconds=0.0,
        alarms=0,
        false_alarms=0,
        violations=0,
    )


def test_half_of_what_the_oracle_gains_is_recovered_by_a_policy_half_way() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 0.2, 40)
    never, oracle = list(4 + hard), list(2 + hard)
    half = list(3 + hard)
    told = score_policy(
        run("half", 40),
        figures(half),
        never=figures(never),
        oracle=figures(oracle),
        higher_is_better=False,
        promise=3.5,
    )
    assert told.recovered is not None
    assert told.recovered.value == pytest.approx(0.5)
    assert told.recovered.low <= 0.5 <= told.recovered.high
    assert told.lost == pytest.approx(40.0)
    assert told.violations == sum(value > 3.5 for value in half)


def test_no_share_is_told_where_the_oracle_gains_only_chance() -> None:
    rng = np.random.default_rng(3)
    never, oracle = rng.normal(3, 1, 30), rng.normal(3, 1, 30)
    told = score_policy(
        run("some", 30),
        figures(list(never)),
        never=figures(list(never)),
        oracle=figures(list(oracle)),
        higher_is_better=False,
        promise=9.0,
    )
    assert told.recovered is None


def test_an_alarm_is_false_where_the_metric_was_as_promised() -> None:
    told = score_policy(
        run("some", 4, alarms=(0, 1, 3)),
        figures([1.0, 3.0, 3.0, math.nan]),
        never=figures([3.0] * 4),
        oracle=figures([1.0] * 4),
        higher_is_better=False,
        promise=2.0,
    )
    assert (told.alarms, told.false_alarms, told.violations) == (3, 1, 2)


@pytest.mark.parametrize("up", [True, False])
def test_a_training_that_gains_only_chance_is_not_recommended(up: bool) -> None:
    sign = 1.0 if up else -1.0
    rng = np.random.default_rng(5)
    base = np.full(40, 3.0)
    values = {
        NEVER: list(base - sign * 1.0),
        CONFIGURED: list(base + rng.normal(0, 0.05, 40)),
        "eager": list(base + sign * 0.002 + rng.normal(0, 0.05, 40)),
        ORACLE: list(base + sign * 0.2),
    }
    told = backtest(values, {CONFIGURED: 3, "eager": 20, ORACLE: 40}, up=up).recommendation
    assert told.policy == CONFIGURED
    assert any("eager" in reason for reason in told.reasons)


def test_a_policy_that_is_surely_better_is_worth_its_trainings() -> None:
    rng = np.random.default_rng(5)
    base = 3 + rng.normal(0, 0.05, 40)
    values = {NEVER: list(base + 1), CONFIGURED: list(base), ORACLE: list(base - 0.1)}
    told = backtest(values, {CONFIGURED: 12, ORACLE: 40}, up=False).recommendation
    assert told.policy == CONFIGURED
    assert told.difference is None


def test_of_equals_the_models_own_config_stays() -> None:
    values = {NEVER: [1.0] * 9, "other": [1.0] * 9, CONFIGURED: [1.0] * 9, ORACLE: [1.0] * 9}
    assert backtest(values, {ORACLE: 9}, up=True).recommendation.policy == CONFIGURED


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 9)), min_size=1, max_size=8),
)
def test_every_policy_is_beaten_by_one_of_the_front_or_is_of_it(
    points: list[tuple[float, int]],
) -> None:
    marked = pareto([score(str(n), lost, trained) for n, (lost, trained) in enumerate(points)])
    front = [s for s in marked if s.best_for_its_price]
    assert front
    for one in marked:
        beaten = any(other.lost <= one.lost and other.trainings <= one.trainings for other in front)
        assert beaten
    for one in front:
        assert not any(
            (other.lost < one.lost and other.trainings <= one.trainings)
            or (other.lost <= one.lost and other.trainings < one.trainings)
            for other in marked
        )
