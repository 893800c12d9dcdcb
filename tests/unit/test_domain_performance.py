"""Is a release that got worse told from chance?"""

from datetime import timedelta

import numpy as np
import pytest

from modelyard.domain.intervals import metric_interval
from modelyard.domain.metrics import METRICS
from modelyard.domain.performance import (
    PerformanceOutcome,
    PerformancePolicy,
    PerformanceVerdict,
    due_after,
    judge_performance,
)
from modelyard.domain.slices import SliceFigure, compare_slices, measure_slices


def rows(seed: int, error: float, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.gamma(3, 60, count)
    return truth, truth + rng.normal(0, error, count)


PROMISED = metric_interval(METRICS["mae"], *rows(0, error=20, count=1_000))


def judge(error: float, seed: int = 1, count: int = 400, served: int = 500, **policy):
    return judge_performance(
        METRICS["mae"],
        *rows(seed, error, count),
        rows=served,
        promised=PROMISED,
        policy=PerformancePolicy(**policy),
    )


def test_windows_as_promised_are_ok() -> None:
    outcomes = {judge(error=20, seed=seed).outcome for seed in range(1, 60)}

    assert outcomes == {PerformanceOutcome.OK}


def test_an_error_half_again_as_large_is_degraded() -> None:
    verdict = judge(error=30)

    assert verdict.outcome is PerformanceOutcome.DEGRADED
    assert verdict.realized is not None
    assert verdict.realized.low > verdict.limit > PROMISED.high
    assert verdict.coverage == 0.8
    assert "on 400 labels (80% of the rows)" in verdict.reasons[0]


def test_a_better_window_is_ok() -> None:
    assert judge(error=5).outcome is PerformanceOutcome.OK


def test_the_direction_of_the_metric_counts() -> None:
    truth = np.arange(600) % 2
    right = np.where(np.arange(600) % 10 < 1, 1 - truth, truth)
    half = np.where(np.arange(600) % 10 < 5, 1 - truth, truth)
    promised = metric_interval(METRICS["accuracy"], truth, right)

    def outcome(predicted: np.ndarray) -> PerformanceOutcome:
        return judge_performance(
            METRICS["accuracy"],
            truth,
            predicted,
            rows=600,
            promised=promised,
            policy=PerformancePolicy(),
        ).outcome

    assert outcome(right) is PerformanceOutcome.OK
    assert outcome(truth) is PerformanceOutcome.OK
    assert outcome(half) is PerformanceOutcome.DEGRADED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 99}, "99 matured labels of 500 rows, 100 are needed"),
        (
            {"count": 120, "min_coverage": 0.5},
            "24% of the rows whose label is due have one, 50% are needed",
        ),
        ({"count": 0, "served": 0}, "0 matured labels of 0 rows"),
    ],
)
def test_too_few_labels_give_no_verdict(arguments, words: str) -> None:
    verdict = judge(error=200, **arguments)

    assert verdict.outcome is PerformanceOutcome.TOO_FEW_LABELS
    assert verdict.realized is None
    assert words in verdict.reasons[0]


def test_labels_of_one_class_cannot_be_judged_by_rank() -> None:
    promised = metric_interval(METRICS["roc_auc"], np.arange(200) % 2, np.linspace(0, 1, 200))
    verdict = judge_performance(
        METRICS["roc_auc"],
        np.zeros(200),
        np.linspace(0, 1, 200),
        rows=200,
        promised=promised,
        policy=PerformancePolicy(),
    )

    assert verdict.outcome is PerformanceOutcome.TOO_FEW_LABELS
    assert "not defined" in verdict.reasons[0]
    assert PerformanceVerdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_labels_that_come_before_they_are_due_do_not_count() -> None:
    verdict = judge_performance(
        METRICS["mae"],
        *rows(1, error=20, count=40),
        rows=500,
        promised=PROMISED,
        policy=PerformancePolicy(),
        due=50,
        early=300,
    )

    assert verdict.outcome is PerformanceOutcome.TOO_FEW_LABELS
    assert (verdict.due, verdict.early, verdict.coverage) == (50, 300, 0.08)
    assert "300 more came before they are due" in verdict.reasons[0]


def test_coverage_is_asked_of_the_rows_whose_label_is_due() -> None:
    truth, predicted = rows(1, error=20, count=150)
    verdict = judge_performance(
        METRICS["mae"],
        truth,
        predicted,
        rows=500,
        promised=PROMISED,
        policy=PerformancePolicy(min_coverage=0.7),
        due=200,
    )

    assert verdict.outcome is PerformanceOutcome.OK


def test_a_label_is_due_at_the_age_at_which_nearly_all_were_known_before() -> None:
    delays = np.arange(1, 101) * 3600.0

    assert due_after(delays) == timedelta(hours=96)
    assert due_after(np.array([])) == timedelta(0)
    assert due_after(np.array([-5.0])) == timedelta(0)


def in_a_row(*errors: float) -> list[PerformanceVerdict]:
    """Judge windows one after the other, each with its error."""
    told: list[PerformanceVerdict] = []
    for seed, error in enumerate(errors, 1):
        verdict = judge_performance(
            METRICS["mae"],
            *rows(seed, error),
            rows=400,
            promised=PROMISED,
            policy=PerformancePolicy(),
            before=told,
        )
        told.append(verdict)
    return told


def test_a_loss_that_is_too_small_for_one_window_shows_in_three() -> None:
    degraded = PerformanceOutcome.DEGRADED
    small = 24.0
    alone = [judge(error=small, seed=seed).outcome is degraded for seed in range(1, 41)]
    together = in_a_row(*[small] * 40)

    assert sum(alone) < 20
    assert sum(v.outcome is degraded for v in together) > sum(alone) + 10
    assert [v.lasting and v.lasting.windows for v in together[:4]] == [None, 2, 3, 3]
    shown = next(
        verdict
        for verdict, by_itself in zip(together, alone, strict=True)
        if verdict.outcome is degraded and not by_itself
    )
    assert shown.realized is not None
    assert shown.realized.low < shown.limit
    assert shown.lasting is not None
    assert shown.lasting.realized.low > shown.lasting.limit
    assert shown.lasting.labels == 1_200
    assert shown.reasons[1].startswith("3 windows together: mae ")
    assert 0 < shown.beyond < judge(error=60).beyond


def test_a_window_that_is_as_promised_again_is_ok_whatever_came_before() -> None:
    *_, bad, good = in_a_row(40, 40, 40, 20)

    assert bad.outcome is PerformanceOutcome.DEGRADED
    assert good.outcome is PerformanceOutcome.OK
    assert good.beyond == 0
    assert good.lasting is not None
    assert good.lasting.realized.low > good.lasting.limit
    assert not good.lasting.degraded


def test_windows_without_enough_labels_tell_nothing_together_either() -> None:
    silent = judge(error=20, count=20)

    verdict = judge_performance(
        METRICS["mae"],
        *rows(1, error=24.5),
        rows=400,
        promised=PROMISED,
        policy=PerformancePolicy(),
        before=[silent],
    )

    assert verdict.lasting is None


def test_windows_as_promised_are_ok_together_as_well() -> None:
    verdicts = in_a_row(*[20.0] * 60)

    assert {v.outcome for v in verdicts} == {PerformanceOutcome.OK}


def test_labels_that_stalled_for_a_few_days_do_not_make_all_labels_due_late() -> None:
    rng = np.random.default_rng(5)
    days = np.repeat(np.arange(40), 250)
    delays = rng.uniform(0.5, 2.0, days.size) * 86_400
    stalled = delays + np.where(np.isin(days, (20, 21, 22, 23)), 8 * 86_400, 0)

    usual = due_after(delays)
    assert due_after(stalled) > timedelta(days=8)
    assert abs(due_after(stalled, days) - usual) < timedelta(hours=1)
    assert due_after(delays, days) == usual


def test_a_source_that_became_slow_for_good_makes_labels_due_later() -> None:
    days = np.repeat(np.arange(40), 50)
    delays = np.where(days < 15, 1.0, 9.0) * 86_400

    assert due_after(delays, days) == timedelta(days=9)


@pytest.mark.parametrize("told", [True, False])
def test_a_slice_that_is_worse_than_promised_is_told_where_the_whole_is_not(told: bool) -> None:
    metric, rng = METRICS["mae"], np.random.default_rng(3)
    city = np.where(np.arange(1_000) % 8 == 0, "small", "large").astype(object)

    def errors(of_small: float) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.gamma(3, 60, 1_000)
        return truth, truth + rng.normal(0, np.where(city == "small", of_small, 20.0))

    held_out, window = errors(20), errors(45)
    promised, realized = (
        measure_slices(metric, *both, {"city": city}, confidence=0.95)
        for both in (held_out, window)
    )
    policy = PerformancePolicy(alert_on_slices=told, tolerance=0.3)
    verdict = judge_performance(
        metric,
        *window,
        rows=1_000,
        promised=metric_interval(metric, *held_out),
        policy=policy,
        slices=compare_slices(metric, realized, promised, policy.tolerance),
    )

    assert verdict.outcome is PerformanceOutcome.OK
    assert [s.name for s in verdict.slices] == ["city = small", "city = large"]
    assert [s.name for s in verdict.degraded_slices] == ["city = small"]
    assert verdict.alarm is told
    assert verdict.reasons[1].startswith("worse than promised where city = small: mae")


def test_many_slices_in_which_nothing_changed_do_not_add_up_to_an_alarm() -> None:
    metric, rng = METRICS["accuracy"], np.random.default_rng(5)
    levels = rng.choice(list("abcdefghijklmnopqrst"), 4_000).astype(object)

    def window() -> tuple[SliceFigure, ...]:
        truth = rng.integers(0, 2, 4_000)
        said = np.where(rng.random(4_000) < 0.2, 1 - truth, truth)
        return measure_slices(metric, truth, said, {"level": levels}, confidence=0.95)

    promised = window()
    alarms = sum(
        any(s.degraded for s in compare_slices(metric, window(), promised, tolerance=0.0))
        for _ in range(60)
    )

    assert len(promised) == 20
    assert alarms <= 5  # 95 % of windows have none; both sides' intervals make it rarer still


def test_slices_of_few_rows_or_that_were_not_promised_say_nothing() -> None:
    metric = METRICS["mae"]
    truth, predicted = rows(2, error=20, count=300)
    few = np.array(["rare"] * 29 + ["usual"] * 200 + ["new"] * 60 + [None] * 11, dtype=object)
    seen = measure_slices(metric, truth, predicted, {"kind": few}, confidence=0.95)
    before = np.array(["usual"] * 300, dtype=object)
    promised = measure_slices(metric, truth, predicted, {"kind": before}, confidence=0.95)

    assert [figure.name for figure in seen] == ["kind = new", "kind = usual"]
    assert [s.name for s in compare_slices(metric, seen, promised, 0.1)] == ["kind = usual"]
