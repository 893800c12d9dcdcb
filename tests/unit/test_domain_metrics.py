"""Are the metrics scikit-learn's, and do their intervals hold what they say?"""

import numpy as np
import pytest
from sklearn import metrics as sk

from modelyard.domain.metrics import (
    METRICS,
    Metric,
    as_codes,
    get_metric,
    metric_interval,
    metrics_for,
    paired_difference,
)
from modelyard.domain.values import MLTask
from modelyard.errors import InvalidInputError

RNG = np.random.default_rng(11)
ROWS = 400
VALUES = RNG.gamma(2.0, 50.0, ROWS)
FITTED = VALUES * RNG.uniform(0.7, 1.3, ROWS)
CODES = (RNG.random(ROWS) < 0.3).astype(int)
SCORES = np.round(np.clip(CODES * 0.2 + RNG.random(ROWS) * 0.7, 0, 1), 2)  # with ties
SAID = (SCORES > 0.5).astype(int)
THREE = RNG.integers(0, 3, ROWS)
THREE_SAID = np.where(RNG.random(ROWS) < 0.6, THREE, RNG.integers(0, 3, ROWS))
THREE_SCORES = RNG.dirichlet([1, 2, 3], ROWS)

AGAINST_SCIKIT_LEARN = [
    ("mae", VALUES, FITTED, sk.mean_absolute_error),
    ("rmse", VALUES, FITTED, sk.root_mean_squared_error),
    ("r2", VALUES, FITTED, sk.r2_score),
    ("accuracy", THREE, THREE_SAID, sk.accuracy_score),
    ("balanced_accuracy", THREE, THREE_SAID, sk.balanced_accuracy_score),
    ("balanced_accuracy", CODES, SAID, sk.balanced_accuracy_score),
    ("f1", CODES, SAID, sk.f1_score),
    ("f1_macro", THREE, THREE_SAID, lambda t, p: sk.f1_score(t, p, average="macro")),
    ("roc_auc", CODES, SCORES, sk.roc_auc_score),
    ("log_loss", CODES, SCORES, sk.log_loss),
    ("log_loss", THREE, THREE_SCORES, sk.log_loss),
    ("brier", CODES, SCORES, sk.brier_score_loss),
]


@pytest.mark.parametrize(("name", "truth", "predicted", "expected"), AGAINST_SCIKIT_LEARN)
def test_a_metric_is_that_of_scikit_learn(name, truth, predicted, expected) -> None:
    assert METRICS[name](truth, predicted) == pytest.approx(expected(truth, predicted), rel=1e-9)


def test_wape_is_the_absolute_error_as_a_share_of_the_outcomes() -> None:
    assert METRICS["wape"](np.array([0.0, 8.0]), np.array([1.0, 7.0])) == 0.25


@pytest.mark.parametrize(("name", "truth", "predicted", "expected"), AGAINST_SCIKIT_LEARN)
def test_resampling_by_sums_equals_computing_each_resample(
    name, truth, predicted, expected
) -> None:
    metric, seed, length, resamples = METRICS[name], 5, 20, 40
    starts = np.random.default_rng(seed).integers(0, ROWS, size=(resamples, ROWS // length))
    rows = (starts[:, :, None] + np.arange(length)).reshape(resamples, -1) % ROWS
    slow = [expected(truth[r], predicted[r]) for r in rows]

    interval = metric_interval(
        metric, truth, predicted, seed=seed, block_length=length, resamples=resamples
    )

    assert [interval.low, interval.high] == pytest.approx(np.quantile(slow, [0.025, 0.975]))


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_positive_difference_means_a_better_challenger_whatever_the_metric(
    metric: Metric,
) -> None:
    if MLTask.REGRESSION in metric.tasks:
        truth, good, bad = VALUES, VALUES * 1.01, VALUES * 1.5
    elif metric.needs_score:
        truth, good, bad = CODES, 0.1 + 0.8 * CODES, np.full(ROWS, 0.5)
    else:
        truth, good, bad = CODES, CODES, 1 - CODES

    difference = paired_difference(metric, truth, good, bad)

    assert difference.low > 0
    swapped = paired_difference(metric, truth, bad, good)
    assert (swapped.value, swapped.low) == pytest.approx((-difference.value, -difference.high))


def test_the_same_seed_gives_the_same_interval() -> None:
    first, again = (metric_interval(METRICS["mae"], VALUES, FITTED, seed=4) for _ in range(2))

    assert first == again
    assert first != metric_interval(METRICS["mae"], VALUES, FITTED, seed=5)
    assert first.low < first.value < first.high


def test_intervals_cover_the_true_value_as_often_as_they_say() -> None:
    # Errors like those of an hourly model: an AR(1) series. Drawing single rows covers about 75 %.
    rng, rows, series = np.random.default_rng(2), 1_000, 200
    covered = {1: 0, None: 0}
    for seed in range(series):
        noise = rng.normal(size=rows)
        errors = np.empty(rows)
        errors[0] = noise[0] / np.sqrt(1 - 0.25)
        for t in range(1, rows):
            errors[t] = 0.5 * errors[t - 1] + noise[t]
        truth = np.full(rows, 100.0)
        for length in covered:
            interval = metric_interval(
                METRICS["wape"], truth, truth + 50 + errors, seed=seed, block_length=length
            )
            covered[length] += interval.low <= 0.5 <= interval.high

    assert covered[None] / series > 0.88
    assert covered[1] / series < 0.80


def test_pairing_cancels_what_is_hard_for_both() -> None:
    challenger, champion = FITTED, VALUES + (FITTED - VALUES) * 1.1

    paired = paired_difference(METRICS["mae"], VALUES, challenger, champion)
    alone = metric_interval(METRICS["mae"], VALUES, champion)

    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("name", "truth", "predicted"),
    [("roc_auc", np.ones(9), np.linspace(0, 1, 9)), ("r2", np.ones(9), np.arange(9.0))],
)
def test_a_metric_without_meaning_on_the_rows_is_said_to_have_none(name, truth, predicted) -> None:
    assert np.isnan(METRICS[name](truth, predicted))
    with pytest.raises(InvalidInputError, match=f"{name} is not defined"):
        metric_interval(METRICS[name], truth, predicted)


def test_missing_predictions_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="1 predictions are missing"):
        METRICS["mae"](np.ones(2), np.array([1.0, np.nan]))
    with pytest.raises(InvalidInputError, match="as many predictions"):
        METRICS["mae"](np.ones(2), np.ones(3))
    with pytest.raises(InvalidInputError, match="at least one"):
        METRICS["mae"](np.ones(0), np.ones(0))


def test_metrics_are_found_by_name_and_task() -> None:
    assert get_metric("mae") is METRICS["mae"]
    assert "roc_auc" in {metric.name for metric in metrics_for(MLTask.BINARY)}
    assert "roc_auc" not in {metric.name for metric in metrics_for(MLTask.MULTICLASS)}
    with pytest.raises(InvalidInputError, match="Did you mean rmse"):
        get_metric("rsme")


def test_labels_become_codes_of_the_contract() -> None:
    labels = np.array(["no", "yes", "no"], dtype=object)

    assert as_codes(labels, ("no", "yes"), "yes").tolist() == [0, 1, 0]
    assert as_codes(labels, ("no", "yes"), "no").tolist() == [1, 0, 1]
    assert as_codes(labels, ("maybe", "no", "yes")).tolist() == [1, 2, 1]
    with pytest.raises(InvalidInputError, match="'no' are none of the model's classes"):
        as_codes(labels, ("yes",))


def test_resampling_a_hundred_thousand_rows_takes_little_memory() -> None:
    rows = 100_000
    truth = np.arange(rows) % 2
    interval = metric_interval(
        METRICS["roc_auc"], truth, truth * 0.1 + np.linspace(0, 1, rows), resamples=50
    )

    assert interval.low < interval.value < interval.high
