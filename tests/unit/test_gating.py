"""What does the gate measure of two models, and which rules does it apply?"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.learning.gating import judge
from modelyard.adapters.learning.judging import Comparison, Judged
from modelyard.adapters.learning.outcomes import Outcomes
from modelyard.config import Evaluation
from modelyard.domain.gate import GateVerdict, Rule
from modelyard.domain.values import Contract, MLTask
from modelyard.errors import InvalidInputError

RNG = np.random.default_rng(5)
ROWS = 600
TRUTH = RNG.gamma(2.0, 50.0, ROWS)
NOISE = RNG.normal(size=ROWS)
MAE = Evaluation(primary_metric="mae")


def regression(challenger: np.ndarray, champion: np.ndarray | None = None, **facts) -> Comparison:
    def judged(name: str, predicted: np.ndarray) -> Judged:
        return Judged(name, Outcomes(predicted, None))

    return Comparison(
        contract=Contract(task=MLTask.REGRESSION, columns=(), target="y"),
        rows=pd.DataFrame({"city": np.arange(ROWS) % 4}),
        truth=TRUTH,
        times=None,
        challenger=judged("the challenger", challenger),
        champion=None if champion is None else judged("champion 1.0.0", champion),
        champion_note="",
        baseline=judged("the naive model", np.full(ROWS, np.median(TRUTH))),
        **facts,
    )


def rule_of(comparison: Comparison, evaluation: Evaluation, name: str) -> Rule:
    rules = judge(comparison, None, evaluation).decision.rules
    (found,) = [rule for rule in rules if name in rule.name]
    return found


def test_a_new_recipe_must_be_better_and_a_refit_must_not_be_shown_worse() -> None:
    equal = regression(TRUTH + NOISE, TRUTH - NOISE, recipe_is_new=True)

    assert judge(equal, None, MAE).decision.verdict is GateVerdict.KEEP
    assert judge(replace(equal, recipe_is_new=False), None, MAE).promotes


def test_a_refit_that_is_surely_worse_than_the_margin_is_kept() -> None:
    worse = regression(TRUTH + 1.1 * NOISE, TRUTH + NOISE, recipe_is_new=False)

    assert not judge(worse, None, MAE).promotes
    assert judge(worse, None, Evaluation(primary_metric="mae", margin=0.2)).promotes


def test_a_first_release_must_be_better_than_the_naive_model() -> None:
    assert judge(regression(TRUTH + NOISE), None, MAE).promotes
    rule = rule_of(regression(TRUTH[::-1]), MAE, "naive")
    assert rule.verdict is GateVerdict.KEEP


def test_how_good_the_naive_model_is_on_the_same_rows_is_kept_beside_a_champion_as_well() -> None:
    comparison = regression(TRUTH + 0.5 * NOISE, TRUTH + NOISE)
    gated = judge(comparison, None, MAE)

    naive = comparison.baseline.outcomes.values
    assert gated.naive_metrics["mae"] == pytest.approx(np.abs(TRUTH - naive).mean())
    assert gated.champion_metrics["mae"] == pytest.approx(np.abs(NOISE).mean())


def test_the_least_gain_and_the_margin_are_shares_of_the_champions_metric() -> None:
    comparison = regression(TRUTH + 0.9 * NOISE, TRUTH + NOISE)
    size = np.abs(NOISE).mean()

    better = rule_of(comparison, Evaluation(primary_metric="mae", min_gain=0.05), "better than")

    assert better.limit == f"gain in mae above {0.05 * size:.4g}"
    assert better.verdict is GateVerdict.PROMOTE


def test_no_gain_and_no_margin_are_zero_and_not_minus_zero() -> None:
    same = regression(TRUTH + NOISE, TRUTH + NOISE, recipe_is_new=False)
    rule = rule_of(same, Evaluation(primary_metric="mae", margin=0.0), "not shown worse")
    assert rule.reason.startswith("gain in mae +0 [+0, +0], asked is above 0:")
    assert rule.limit == "gain in mae above 0"


def test_a_slice_that_loses_keeps_the_champion_though_the_whole_gains() -> None:
    losing = np.arange(ROWS) % 4 == 2
    challenger = TRUTH + np.where(losing, 3.0, 0.2) * NOISE
    comparison = regression(challenger, TRUTH + 2.0 * NOISE)
    by_city = Evaluation(primary_metric="mae", slices=("city",))

    assert judge(comparison, None, MAE).promotes
    rule = rule_of(comparison, by_city, "worst slice")
    assert rule.verdict is GateVerdict.KEEP
    assert "city = 2" in rule.reason
    assert "surely worse by more than 5.0%" in rule.reason


def test_slices_with_few_rows_are_counted_and_not_judged() -> None:
    comparison = regression(TRUTH + 0.5 * NOISE, TRUTH + NOISE)
    rows = pd.DataFrame({"city": ["rare"] * 5 + ["common"] * (ROWS - 5)})

    rule = rule_of(
        replace(comparison, rows=rows), Evaluation(primary_metric="mae", slices=("city",)), "slice"
    )

    assert "the worst of 1 is city = common" in rule.reason
    assert rule.reason.endswith("not surely worse; too small to be judged: 1")


def test_budgets_are_rules_where_they_are_set() -> None:
    comparison = regression(TRUTH + NOISE, latency_ms=12.0, model_bytes=3 * 2**20)
    tight = Evaluation(primary_metric="mae", max_latency_ms=10, max_model_size=2**20)

    names = {rule.name for rule in judge(comparison, None, MAE).decision.rules}
    assert names.isdisjoint({"prediction latency", "model size"})
    assert rule_of(comparison, tight, "latency").verdict is GateVerdict.KEEP
    assert rule_of(comparison, tight, "model size").reason == "3 MiB, must be at most 1 MiB"


def binary(challenger: np.ndarray, champion: np.ndarray, truth: np.ndarray) -> Comparison:
    def judged(name: str, scores: np.ndarray) -> Judged:
        return Judged(name, Outcomes((scores > 0.5).astype(int), scores))

    return Comparison(
        contract=Contract(
            task=MLTask.BINARY, columns=(), target="y", classes=("no", "yes"), positive="yes"
        ),
        rows=pd.DataFrame(index=range(len(truth))),
        truth=truth,
        times=None,
        challenger=judged("the challenger", challenger),
        champion=judged("champion 1.0.0", champion),
        champion_note="",
        baseline=judged("the naive model", np.full(len(truth), 0.5)),
    )


def test_a_classifier_that_ranks_better_and_lies_about_its_chances_is_kept() -> None:
    chances = RNG.random(3_000)
    truth = (RNG.random(3_000) < chances).astype(int)
    blurred = np.clip(chances + RNG.normal(0, 0.15, 3_000), 0, 1)
    ranking = Evaluation(primary_metric="roc_auc")

    assert judge(binary(chances, blurred, truth), None, ranking).promotes
    sharpened = binary(chances**4, blurred, truth)
    assert rule_of(sharpened, ranking, "calibration").verdict is GateVerdict.KEEP
    unasked = ranking.model_copy(update={"calibration_margin": None})
    assert judge(sharpened, None, unasked).promotes


def test_any_scorer_can_be_the_primary_metric_or_a_threshold() -> None:
    evaluation = Evaluation.model_validate(
        {
            "primary_metric": "neg_median_absolute_error",
            "thresholds": {"d2_absolute_error_score": {"min": 0.9}},
        }
    )

    gated = judge(regression(TRUTH + 0.5 * NOISE, TRUTH + NOISE), None, evaluation)

    assert gated.promotes
    assert gated.metrics["neg_median_absolute_error"].value < 0
    assert {"mae", "d2_absolute_error_score"} <= gated.metrics.keys()


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_predictions_that_are_no_numbers_cannot_be_judged(broken: float) -> None:
    said = TRUTH + NOISE
    said[3] = broken

    with pytest.raises(InvalidInputError, match="1 predictions are missing or infinite"):
        judge(regression(said, TRUTH + NOISE), None, MAE)
