"""Does one column that gives the target away stand out from those that are merely good?"""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.domain.leakage import (
    class_outcome,
    level_bins,
    numeric_bins,
    numeric_outcome,
    sample_rows,
)

ROWS = 3_000


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def amounts() -> np.ndarray:
    return draws().lognormal(3, 1.5, ROWS)


@pytest.mark.parametrize(
    "made",
    [
        lambda y: y * 1.8 + 32,
        np.log,
        lambda y: -(y**3),
        lambda y: y * draws(5).normal(1, 0.01, len(y)),
    ],
    ids=["another unit", "its logarithm", "its cube, turned round", "one percent of noise"],
)
def test_a_column_made_from_a_number_scores_almost_one(amounts: np.ndarray, made) -> None:
    outcome = numeric_outcome(amounts, draws())
    assert outcome.score(numeric_bins(made(amounts))) > 0.997


def test_a_column_of_noise_scores_nothing(amounts: np.ndarray) -> None:
    outcome = numeric_outcome(amounts, draws())
    assert abs(outcome.score(numeric_bins(draws(1).normal(size=ROWS)))) < 0.15
    levels = draws(2).choice(np.array(["a", "b", "c"], dtype=object), ROWS)
    assert abs(outcome.score(level_bins(levels))) < 0.02


def test_a_good_column_scores_what_it_explains(amounts: np.ndarray) -> None:
    # the correlation of ranks of two normals with correlation 0.9 is 0.89
    noisy = np.log(amounts) + draws(3).normal(0, 1.5 * np.sqrt(1 / 0.81 - 1), ROWS)
    score = numeric_outcome(amounts, draws()).score(numeric_bins(noisy))
    assert 0.70 < score < 0.80


def test_a_number_that_splits_the_classes_scores_one_and_a_weak_one_what_it_ranks() -> None:
    risk = draws().normal(size=ROWS)
    rare = (risk > 2).astype(int)
    outcome = class_outcome(rare, draws())
    assert outcome.score(numeric_bins(risk)) > 0.99
    assert outcome.score(numeric_bins(draws(1).normal(size=ROWS))) == pytest.approx(0.5, abs=0.08)


def test_levels_and_missing_values_can_be_the_leak() -> None:
    codes = draws().integers(0, 4, ROWS)
    outcome = class_outcome(codes, draws())
    names = np.array(["won", "lost", None, "open"], dtype=object)[codes]
    assert outcome.score(level_bins(names)) == pytest.approx(1.0)
    paid_at = np.where(codes == 2, np.nan, draws(1).normal(size=ROWS))
    binary = class_outcome((codes == 2).astype(int), draws())
    assert binary.score(numeric_bins(paid_at)) == pytest.approx(1.0)


def test_an_hour_of_the_day_is_scored_on_all_its_hours() -> None:
    # folds in turn would each hold the same hours
    hour = np.arange(ROWS) % 24
    outcome = numeric_outcome(np.sin(hour / 4) + draws().normal(0, 0.01, ROWS), draws())
    assert outcome.score(numeric_bins(hour.astype(float))) > 0.9


@pytest.mark.parametrize("target", [np.full(200, 7.0), np.zeros(200)])
def test_an_outcome_that_does_not_vary_has_no_score(target: np.ndarray) -> None:
    noise = numeric_bins(draws().normal(size=200))
    assert np.isnan(numeric_outcome(target, draws()).score(noise))
    assert np.isnan(class_outcome(target.astype(int), draws()).score(noise))


def test_odd_columns_are_scored_without_an_error(amounts: np.ndarray) -> None:
    outcome = numeric_outcome(amounts, draws())
    empty, same = np.full(ROWS, np.nan), np.full(ROWS, 3.0)
    infinite = np.where(draws(1).random(ROWS) < 0.5, np.inf, -np.inf)
    for column in (empty, same, infinite, np.where(same == 3, 1e300, 0)):
        assert abs(outcome.score(numeric_bins(column))) < 0.01
    ids = np.array([f"id{n}" for n in range(ROWS)], dtype=object)
    assert outcome.score(level_bins(ids)) < 0.1
    assert level_bins(ids).max() <= 256


def test_many_columns_are_scored_on_fewer_rows() -> None:
    assert len(sample_rows(50, 10, draws())) == 50
    assert len(sample_rows(100_000, 20, draws())) == 20_000
    chosen = sample_rows(100_000, 10_000, draws())
    assert len(chosen) == 2_000
    assert (np.diff(chosen) > 0).all()
