"""Can a metric be any scikit-learn scorer?"""

import numpy as np
import pytest
from sklearn import metrics as sk

from modelyard.adapters.learning.scorers import find_metric
from modelyard.domain.intervals import paired_difference
from modelyard.domain.metrics import METRICS
from modelyard.domain.values import MLTask
from modelyard.errors import ConfigError, InvalidInputError

RNG = np.random.default_rng(3)
ROWS = 300
CODES = (RNG.random(ROWS) < 0.4).astype(int)
SCORES = np.clip(CODES * 0.3 + RNG.random(ROWS) * 0.7, 0, 1)
SAID = (SCORES > 0.5).astype(int)
THREE = RNG.integers(0, 3, ROWS)
THREE_SCORES = RNG.dirichlet([1, 2, 3], ROWS)
VALUES = RNG.gamma(2.0, 50.0, ROWS)
FITTED = VALUES * RNG.uniform(0.7, 1.3, ROWS)

best_by_profit = sk.make_scorer(
    lambda truth, said: float(np.sum(said * (2 * truth - 1))), response_method="predict"
)


def fails_on_many(estimator, rows, truth):
    """A scorer of a user's own that works on a sample and breaks on more."""
    if len(truth) > 20:
        raise ZeroDivisionError("nothing was said")
    return 1.0


@pytest.mark.parametrize(
    ("name", "task", "truth", "predicted", "expected", "needs_score"),
    [
        ("average_precision", MLTask.BINARY, CODES, SCORES, sk.average_precision_score, True),
        ("matthews_corrcoef", MLTask.BINARY, CODES, SAID, sk.matthews_corrcoef, False),
        ("precision", MLTask.BINARY, CODES, SAID, sk.precision_score, False),
        (
            "roc_auc_ovr",
            MLTask.MULTICLASS,
            THREE,
            THREE_SCORES,
            lambda t, p: sk.roc_auc_score(t, p, multi_class="ovr"),
            True,
        ),
        (
            "neg_median_absolute_error",
            MLTask.REGRESSION,
            VALUES,
            FITTED,
            lambda t, p: -sk.median_absolute_error(t, p),
            False,
        ),
    ],
)
def test_a_scorer_by_name_is_computed_as_scikit_learn_does(
    name, task, truth, predicted, expected, needs_score
) -> None:
    metric = find_metric(name, task)

    assert metric(truth, predicted) == pytest.approx(expected(truth, predicted))
    assert metric.needs_score is needs_score
    assert metric.higher_is_better


def test_a_scorer_has_an_interval_like_any_metric() -> None:
    metric = find_metric("average_precision", MLTask.BINARY)
    worse = np.clip(SCORES + RNG.normal(0, 0.4, ROWS), 0, 1)

    gain = paired_difference(metric, CODES, SCORES, worse)

    assert 0 < gain.low < gain.value < gain.high


def test_own_metrics_come_before_scorers_of_the_same_name() -> None:
    assert find_metric("roc_auc", MLTask.BINARY) is METRICS["roc_auc"]


def test_a_scorer_of_a_users_own_is_named_by_its_module() -> None:
    metric = find_metric(f"{__name__}:best_by_profit", MLTask.BINARY)

    assert metric(CODES, SAID) == np.sum(SAID * (2 * CODES - 1))


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("average_precisio", MLTask.BINARY, "Did you mean `average_precision`"),
        ("f1", MLTask.REGRESSION, "cannot measure a regression"),
        ("roc_auc", MLTask.MULTICLASS, "cannot measure a multiclass"),
    ],
)
def test_a_name_that_means_nothing_for_the_task_is_refused(name, task, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        find_metric(name, task)


def test_a_scorer_that_raises_on_the_rows_says_so() -> None:
    metric = find_metric(f"{__name__}:fails_on_many", MLTask.REGRESSION)

    with pytest.raises(InvalidInputError, match="ZeroDivisionError: nothing was said"):
        metric(VALUES, FITTED)


def test_a_scorer_that_cannot_be_imported_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot import"):
        find_metric("no.such.module:scorer", MLTask.REGRESSION)


def cost_and_hits(estimator, rows, truth):
    """A scorer that asks for labels and for probabilities."""
    labels, scores = estimator.predict(rows), estimator.predict_proba(rows)[:, 1]
    return float(np.mean(labels == truth) - np.mean((scores - truth) ** 2))


def test_a_scorer_that_asks_for_labels_and_probabilities_gets_both() -> None:
    metric = find_metric(f"{__name__}:cost_and_hits", MLTask.BINARY)
    assert metric.needs_score
    expected = np.mean(SAID == CODES) - np.mean((SCORES - CODES) ** 2)
    assert metric(CODES, SCORES) == pytest.approx(expected)


def tidies_up(estimator, rows, truth):
    """A scorer that writes into what it was given."""
    truth[:] = 0
    return 1.0


def test_a_scorer_cannot_change_the_outcomes_that_others_are_measured_on() -> None:
    truth = VALUES.copy()
    find_metric(f"{__name__}:tidies_up", MLTask.REGRESSION)(truth, FITTED)
    assert (truth == VALUES).all()


def ends_the_process(estimator, rows, truth):
    raise SystemExit(0)


def test_a_scorer_that_would_end_the_process_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot measure a regression: SystemExit: 0"):
        find_metric(f"{__name__}:ends_the_process", MLTask.REGRESSION)
