"""Is a fit that knows the holdout held against the one that did not?"""

import pytest

from modelyard.domain.final_fit import judge_final_fit
from modelyard.domain.gate import GateVerdict
from modelyard.domain.metrics import METRICS, Interval

ERROR = Interval(value=10.0, low=8.0, high=13.0)
SCORE = Interval(value=0.8, low=0.7, high=0.88)


@pytest.mark.parametrize(
    ("metric", "interval", "judged", "learnt", "passes"),
    [
        ("mae", ERROR, 10.0, 6.0, True),
        ("mae", ERROR, 10.0, 13.0, True),
        ("mae", ERROR, 10.0, 13.1, False),
        ("roc_auc", SCORE, 0.8, 0.95, True),
        ("roc_auc", SCORE, 0.8, 0.71, True),
        ("roc_auc", SCORE, 0.8, 0.69, False),
        # the gate may have judged on the part of the holdout that no model knew: what counts is
        # how both fits do on the same rows
        ("mae", ERROR, 20.0, 22.0, True),
        ("mae", ERROR, 20.0, 23.5, False),
    ],
)
def test_it_may_not_be_worse_than_the_judged_fit_by_more_than_the_interval(
    metric: str, interval: Interval, judged: float, learnt: float, passes: bool
) -> None:
    rule = judge_final_fit(
        METRICS[metric], judged=judged, learnt=learnt, interval=interval, silent=0
    )
    assert (rule.verdict is GateVerdict.PROMOTE) is passes
    assert rule.value == learnt
    assert ("not worse than" in rule.reason) is passes


def test_rows_without_a_finite_prediction_are_refused_whatever_the_metric_is() -> None:
    rule = judge_final_fit(
        METRICS["accuracy"], judged=0.8, learnt=0.9, interval=SCORE, silent=1_200
    )
    assert rule.verdict is GateVerdict.KEEP
    assert rule.reason == "no finite prediction for 1,200 holdout rows that it has learnt"


@pytest.mark.parametrize("figures", [(float("nan"), 9.0), (10.0, float("nan"))])
def test_a_metric_that_cannot_be_computed_is_refused(figures: tuple[float, float]) -> None:
    judged, learnt = figures
    rule = judge_final_fit(METRICS["mae"], judged=judged, learnt=learnt, interval=ERROR, silent=0)
    assert rule.verdict is GateVerdict.KEEP
    assert "cannot be computed" in rule.reason
