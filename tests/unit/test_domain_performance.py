"""Is a release that got worse told from chance?"""

import numpy as np
import pytest

from modelyard.domain.intervals import metric_interval
from modelyard.domain.metrics import METRICS
from modelyard.domain.performance import (
    PerformanceOutcome,
    PerformancePolicy,
    PerformanceVerdict,
    judge_performance,
)


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
        ({"count": 120, "min_coverage": 0.5}, "24% of the rows have a label, 50% are needed"),
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
