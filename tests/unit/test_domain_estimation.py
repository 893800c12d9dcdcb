"""Does an estimate see what the model's own output shows, and nothing else?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.estimation import (
    Estimate,
    Expectation,
    count_groups,
    estimate,
    expect,
    track_record,
)
from modelyard.domain.intervals import metric_interval
from modelyard.domain.metrics import METRICS, Interval, Metric

BINARY = ("roc_auc", "accuracy", "f1", "balanced_accuracy", "log_loss", "brier")
REGRESSION = ("mae", "rmse", "r2", "wape")


def classified(
    seed: int, rows: int = 4_000, sure: float = 2.0, honest: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes and scores; `honest` is how much of the log odds is true."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, sure, rows)
    truth = (rng.random(rows) < 1 / (1 + np.exp(-honest * odds))).astype(np.int64)
    return truth, 1 / (1 + np.exp(-odds))


def predicted(
    seed: int, rows: int = 4_000, size: float = 100.0, worse: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes and predictions whose errors grow with them."""
    rng = np.random.default_rng(seed)
    said = rng.gamma(3, size / 3, rows)
    return said + worse * rng.normal(0, 0.3 * said), said


def taken(metric: Metric, scores: np.ndarray) -> np.ndarray:
    """Return what a metric takes of scores or predicted numbers."""
    numbers = metric.needs_score or metric.name in REGRESSION
    return scores if numbers else (scores > 0.5).astype(np.int64)


def estimated(
    name: str, held_out: tuple[np.ndarray, np.ndarray], window: tuple[np.ndarray, np.ndarray]
) -> tuple[Estimate, float]:
    """Return what is estimated of a window, and what it is."""
    metric = METRICS[name]
    truth, output = held_out
    said = taken(metric, output)
    known = expect(metric, truth, said, output)
    promised = metric_interval(metric, truth, said)
    found = estimate(metric, known, count_groups(window[1], known), promised, promised.low)
    return found, metric(window[0], taken(metric, window[1]))


def likely(found: Estimate) -> Interval:
    assert found.likely is not None, found.words
    return found.likely


@pytest.mark.parametrize("name", [*BINARY, *REGRESSION])
def test_of_the_holdout_itself_the_estimate_is_what_was_measured(name: str) -> None:
    rows = predicted(1) if name in REGRESSION else classified(1)
    found, measured = estimated(name, rows, rows)

    assert likely(found).value == pytest.approx(measured)


@pytest.mark.parametrize("name", BINARY)
def test_rows_of_which_the_model_is_less_sure_are_estimated_worse_and_rightly(name: str) -> None:
    found, realized = estimated(name, classified(1, 20_000), classified(2, 20_000, sure=0.8))
    unchanged, _ = estimated(name, classified(1, 20_000), classified(3, 20_000))
    drop = abs(likely(unchanged).value - realized)

    assert abs(likely(found).value - realized) < 0.12 * drop


@pytest.mark.parametrize("name", ["mae", "rmse"])
def test_larger_predictions_have_the_larger_errors_that_they_had(name: str) -> None:
    found, realized = estimated(name, predicted(1, 20_000), predicted(2, 20_000, size=150))
    unchanged, _ = estimated(name, predicted(1, 20_000), predicted(3, 20_000))
    rise = realized - likely(unchanged).value

    assert abs(likely(found).value - realized) < 0.25 * rise  # beyond the holdout nothing is known


@pytest.mark.parametrize(
    ("name", "window"),
    [("log_loss", classified(2, honest=-1.0)), ("mae", predicted(2, worse=4.0))],
)
def test_a_changed_world_is_not_seen(name: str, window) -> None:
    held_out = classified(1) if name == "log_loss" else predicted(1)
    found, realized = estimated(name, held_out, window)
    told = found.confronted(metric_interval(METRICS[name], *window))

    assert realized > 2 * likely(found).value
    assert told.held is False
    assert told.error == pytest.approx(realized - likely(found).value)


@pytest.mark.parametrize("name", ["roc_auc", "accuracy", "log_loss"])
def test_while_nothing_changes_what_labels_tell_lies_inside_the_interval(name: str) -> None:
    held = 0
    for seed in range(40):
        found, realized = estimated(name, classified(seed, 2_000), classified(900 + seed, 500))
        held += likely(found).low <= realized <= likely(found).high

    assert held >= 35  # 38 of 40 are stated


def test_fewer_rows_make_a_wider_interval() -> None:
    few, many = (
        likely(estimated("accuracy", classified(1), classified(2, rows))[0])
        for rows in (100, 10_000)
    )

    assert few.high - few.low > 3 * (many.high - many.low)


@given(cuts=st.lists(st.integers(0, 500), max_size=5), seed=st.integers(0, 100))
def test_counts_of_batches_add_up_to_those_of_the_window(cuts: list[int], seed: int) -> None:
    known = expect(METRICS["brier"], *classified(1), classified(1)[1])
    scores = np.append(classified(seed, 498)[1], [np.nan, np.inf])
    parts = np.split(scores, sorted(cuts))
    total = sum(count_groups(part, known) for part in parts)

    assert np.array_equal(total, count_groups(scores, known))
    assert np.sum(total) == 498


@pytest.mark.parametrize(
    ("metric", "rows", "words"),
    [
        (METRICS["calibration_error"], 4_000, "takes as given"),
        (METRICS["accuracy"], 49, "49 rows, 50 are needed"),
    ],
)
def test_what_cannot_be_estimated_says_why(metric: Metric, rows: int, words: str) -> None:
    truth, scores = classified(1, rows)
    known = expect(metric, truth, taken(metric, scores), scores)
    promised = Interval(value=0.1, low=0.0, high=0.2)
    found = estimate(metric, known, count_groups(scores, known), promised, 0.3)

    assert found.likely is None
    assert not found.beyond
    assert words in found.words
    assert found.confronted(promised) == found


def test_a_window_without_answers_is_not_estimated() -> None:
    found, _ = estimated("mae", predicted(1), predicted(2))
    known = expect(METRICS["mae"], *predicted(1), predicted(1)[1])
    assert Expectation.model_validate_json(known.model_dump_json()) == known
    nothing = estimate(
        METRICS["mae"], known, count_groups(np.empty(0), known), likely(found), limit=30
    )

    assert nothing.likely is None
    assert "the release answered no row" in nothing.words


def test_the_record_of_estimates_counts_those_that_labels_told_of() -> None:
    found, _ = estimated("mae", predicted(1), predicted(2))
    value = likely(found).value
    told = [
        found.confronted(Interval(value=value + off, low=0, high=1_000)) for off in (0.5, -1, 500)
    ]

    assert track_record([found]) is None
    record = track_record([*told, found])
    assert record is not None
    assert (record.windows, record.held) == (3, 2)
    assert record.median_error == pytest.approx(1)
