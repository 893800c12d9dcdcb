"""When does the gate promote?"""

import math

import pytest

from modelyard.domain.gate import (
    GateVerdict,
    decide,
    judge_gain,
    judge_rows,
    judge_thresholds,
    worst,
)
from modelyard.domain.metrics import Interval

PROMOTE, KEEP, INCONCLUSIVE = GateVerdict.PROMOTE, GateVerdict.KEEP, GateVerdict.INCONCLUSIVE


def gain(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


@pytest.mark.parametrize(
    ("measured", "required", "verdict"),
    [
        (gain(2, 1, 3), 0, PROMOTE),
        (gain(2, -1, 5), 0, INCONCLUSIVE),
        (gain(-1, -2, 3), 0, KEEP),
        (gain(-2, -3, -1), 0, KEEP),
        (gain(0, 0, 0), 0, KEEP),
        (gain(-0.5, -0.9, 0.1), -1, PROMOTE),
        (gain(math.nan, 0, 1), 0, KEEP),
    ],
)
def test_a_gain_must_be_past_what_is_required_with_its_whole_interval(
    measured: Interval, required: float, verdict: GateVerdict
) -> None:
    assert judge_gain("champion", "mae", measured, required).verdict is verdict


def test_one_rule_that_says_keep_keeps_the_champion() -> None:
    assert worst([PROMOTE, INCONCLUSIVE, PROMOTE]) is INCONCLUSIVE
    assert worst([PROMOTE, KEEP, INCONCLUSIVE]) is KEEP


def test_no_rule_at_all_never_promotes() -> None:
    assert decide([]).verdict is INCONCLUSIVE


@pytest.mark.parametrize(("value", "passes"), [(0.5, True), (0.49, False), (math.nan, False)])
def test_a_threshold_is_inclusive_and_nan_never_passes_it(value: float, passes: bool) -> None:
    (rule,) = judge_thresholds({"r2": value}, {"r2": (0.5, None)})
    assert (rule.verdict is PROMOTE) is passes
    assert rule.model_dump_json()  # NaN would be no JSON


def test_too_few_unseen_rows_keep_the_champion() -> None:
    assert judge_rows(seen=900, left=5).verdict is KEEP
    assert judge_rows(seen=0, left=500).verdict is PROMOTE
