"""Are the metrics scikit-learn's, with all rows and without some?"""

import numpy as np
import pytest
from sklearn import metrics as sk

from modelyard.domain.metrics import (
    METRICS,
    as_codes,
    metrics_for,
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
def test_leaving_a_stretch_out_equals_computing_the_rest_anew(
    name, truth, predicted, expected
) -> None:
    starts = np.array([0, 1, 40, 300])
    stretches = np.split(np.arange(ROWS), starts[1:])
    rest = [np.setdiff1d(np.arange(ROWS), rows) for rows in stretches]

    found = METRICS[name].without(truth, predicted, starts)

    assert found == pytest.approx([expected(truth[r], predicted[r]) for r in rest], rel=1e-9)


def test_calibration_error_is_what_scores_promise_too_much_in_each_bin() -> None:
    truth, score = np.array([1, 0, 1, 1]), np.array([0.9, 0.9, 0.1, 0.1])

    assert METRICS["calibration_error"](truth, score) == pytest.approx((0.8 + 1.8) / 4)
    assert METRICS["calibration_error"](truth, truth * 1.0) == 0
    of_three = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert METRICS["calibration_error"](np.array([0, 2]), of_three) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "truth", "predicted"),
    [("roc_auc", np.ones(9), np.linspace(0, 1, 9)), ("r2", np.ones(9), np.arange(9.0))],
)
def test_a_metric_without_meaning_on_the_rows_is_said_to_have_none(name, truth, predicted) -> None:
    assert np.isnan(METRICS[name](truth, predicted))


def test_missing_predictions_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="1 predictions are missing"):
        METRICS["mae"](np.ones(2), np.array([1.0, np.nan]))
    with pytest.raises(InvalidInputError, match="as many predictions"):
        METRICS["mae"](np.ones(2), np.ones(3))
    with pytest.raises(InvalidInputError, match="at least one"):
        METRICS["mae"](np.ones(0), np.ones(0))


def test_metrics_are_found_by_task() -> None:
    assert "roc_auc" in {metric.name for metric in metrics_for(MLTask.BINARY)}
    assert "roc_auc" not in {metric.name for metric in metrics_for(MLTask.MULTICLASS)}


def test_labels_become_codes_of_the_contract() -> None:
    labels = np.array(["no", "yes", "no"], dtype=object)

    assert as_codes(labels, ("no", "yes"), "yes").tolist() == [0, 1, 0]
    assert as_codes(labels, ("no", "yes"), "no").tolist() == [1, 0, 1]
    assert as_codes(labels, ("maybe", "no", "yes")).tolist() == [1, 2, 1]
    with pytest.raises(InvalidInputError, match="'no' are none of the model's classes"):
        as_codes(labels, ("yes",))
