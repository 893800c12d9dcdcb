"""When does the gate promote?"""

import math

import pytest

from modelyard.domain.gate import (
    GateVerdict,
    Proof,
    SliceMetric,
    decide,
    judge_budget,
    judge_calibration,
    judge_gain,
    judge_news,
    judge_overlap,
    judge_rows,
    judge_slices,
    judge_thresholds,
    simultaneous,
    worst,
)
from modelyard.domain.metrics import Interval

PROMOTE, KEEP, INCONCLUSIVE = GateVerdict.PROMOTE, GateVerdict.KEEP, GateVerdict.INCONCLUSIVE


def gain(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


@pytest.mark.parametrize(
    ("measured", "better", "no_worse", "not_shown_worse"),
    [
        (gain(2, 1.5, 3), PROMOTE, PROMOTE, PROMOTE),
        (gain(2, 0.5, 5), INCONCLUSIVE, PROMOTE, PROMOTE),
        (gain(2, -3, 5), INCONCLUSIVE, INCONCLUSIVE, PROMOTE),
        (gain(0, 0, 0), KEEP, PROMOTE, PROMOTE),
        (gain(0, -0.9, 0.9), KEEP, PROMOTE, PROMOTE),
        (gain(-2, -5, 3), KEEP, INCONCLUSIVE, PROMOTE),
        (gain(-2, -3, -0.5), KEEP, INCONCLUSIVE, PROMOTE),
        (gain(-2, -3, -1.5), KEEP, KEEP, KEEP),
        (gain(math.nan, 0, 1), KEEP, KEEP, KEEP),
        (gain(9, -math.inf, math.inf), KEEP, KEEP, KEEP),
    ],
)
def test_each_proof_asks_where_the_whole_interval_lies(
    measured: Interval, better: GateVerdict, no_worse: GateVerdict, not_shown_worse: GateVerdict
) -> None:
    found = [
        judge_gain("champion", "mae", measured, proof, least=1.0, margin=1.0).verdict
        for proof in (Proof.BETTER, Proof.NO_WORSE, Proof.NOT_SHOWN_WORSE)
    ]
    assert found == [better, no_worse, not_shown_worse]


def test_one_rule_that_says_keep_keeps_the_champion() -> None:
    assert worst([PROMOTE, INCONCLUSIVE, PROMOTE]) is INCONCLUSIVE
    assert worst([PROMOTE, KEEP, INCONCLUSIVE]) is KEEP


def test_no_rule_at_all_never_promotes() -> None:
    assert decide([]).verdict is INCONCLUSIVE
    assert not decide([], "promote").promotes


def test_what_follows_an_inconclusive_verdict_can_be_chosen_and_nothing_else_can() -> None:
    unclear = judge_gain("champion", "mae", gain(1, -1, 3), Proof.BETTER)
    lost = judge_rows(seen=0, left=3)

    assert not decide([unclear]).promotes
    assert decide([unclear], "promote").promotes
    assert not decide([unclear, lost], "promote").promotes


@pytest.mark.parametrize(("value", "passes"), [(0.5, True), (0.49, False), (math.nan, False)])
def test_a_threshold_is_inclusive_and_nan_never_passes_it(value: float, passes: bool) -> None:
    (rule,) = judge_thresholds({"r2": value}, {"r2": (0.5, None)})
    assert (rule.verdict is PROMOTE) is passes
    assert rule.model_dump_json()  # NaN would be no JSON


def test_too_few_unseen_rows_keep_the_champion() -> None:
    assert judge_rows(seen=900, left=5).verdict is KEEP
    assert judge_rows(seen=0, left=500).verdict is PROMOTE


def test_a_row_on_both_sides_is_refused_with_the_count_and_the_model() -> None:
    rule = judge_overlap({"the challenger": 0, "champion 1.0.0": 12})

    assert rule.verdict is KEEP
    assert "12 holdout rows were learnt already (12 by champion 1.0.0)" in rule.reason
    assert judge_overlap({"the challenger": 0}).verdict is PROMOTE


def test_the_champion_once_more_is_refused() -> None:
    assert judge_news(rows_are_new=False, recipe_is_new=False).verdict is KEEP
    assert judge_news(rows_are_new=True, recipe_is_new=False).verdict is PROMOTE


def sliced(level: str, measured: Interval | None, champion: float = 10.0) -> SliceMetric:
    value = champion - (measured.value if measured else 0)
    return SliceMetric(
        column="city", level=level, rows=40, challenger=value, champion=champion, gain=measured
    )


def test_a_slice_that_is_surely_worse_by_more_than_the_margin_keeps_the_champion() -> None:
    fine = [sliced("Faro", gain(3, 2, 4)), sliced("Porto", gain(-4, -9, -0.4))]
    assert judge_slices(fine, margin=0.05).verdict is PROMOTE

    rule = judge_slices([*fine, sliced("Braga", gain(-2, -3, -1))], margin=0.05, skipped=7)

    assert rule.verdict is KEEP
    assert rule.value == -2
    assert "the worst of 3 is city = Braga (40 rows)" in rule.reason
    assert "too small to be judged: 7" in rule.reason


def test_slices_that_cannot_be_compared_decide_nothing() -> None:
    rule = judge_slices([sliced("Faro", None)], margin=0.05, skipped=3)
    assert (rule.verdict, rule.value) == (PROMOTE, None)


def test_many_intervals_together_are_as_sure_as_one() -> None:
    assert simultaneous(0.95, 1) == pytest.approx(0.95)
    assert simultaneous(0.95, 50) == pytest.approx(0.999)
    assert simultaneous(0.95, 0) == pytest.approx(0.95)


def test_probabilities_that_are_surely_less_honest_keep_the_champion() -> None:
    assert judge_calibration(gain(-0.1, -0.12, -0.08), 0.15, 0.05, 0.05).verdict is KEEP
    assert judge_calibration(gain(-0.1, -0.22, 0.02), 0.15, 0.05, 0.05).verdict is PROMOTE


def test_a_budget_is_inclusive_and_nan_never_passes_it() -> None:
    assert judge_budget("latency", 20.0, 20.0, "ms").verdict is PROMOTE
    assert judge_budget("latency", 20.1, 20.0, "ms").verdict is KEEP
    assert judge_budget("latency", math.nan, 20.0, "ms").verdict is KEEP
