"""Do the tail probabilities agree with SciPy?"""

import numpy as np
import pytest
from scipy import stats

from modelyard.domain.statistics import (
    chi_square_tail,
    kolmogorov_tail,
    share_difference_tail,
    student_quantile,
    unseen_tail,
)


@pytest.mark.parametrize("degrees", [1, 2, 7, 60, 500])
@pytest.mark.parametrize("ratio", [0.05, 0.9, 1.0, 1.5, 6.0])
def test_chi_square_tail_is_that_of_scipy(degrees: int, ratio: float) -> None:
    assert chi_square_tail(degrees * ratio, degrees) == pytest.approx(
        stats.chi2.sf(degrees * ratio, degrees), rel=1e-9, abs=1e-300
    )


@pytest.mark.parametrize("degrees", [2, 4, 10, 30])
@pytest.mark.parametrize("probability", [0.5, 0.6, 0.975, 0.9999999])
def test_student_quantile_is_that_of_scipy(degrees: int, probability: float) -> None:
    expected = stats.t.ppf(probability, degrees)
    assert student_quantile(probability, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_student_quantile_of_odd_degrees_is_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        student_quantile(0.9, 3)


def test_chi_square_tail_of_no_difference_is_one() -> None:
    assert chi_square_tail(0.0, 3) == 1.0


@pytest.mark.parametrize(("n", "m"), [(200, 2_000), (1_000, 1_000)])
@pytest.mark.parametrize("distance", [0.03, 0.08, 0.15])
def test_kolmogorov_tail_is_near_the_exact_one(n: int, m: int, distance: float) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=n), rng.normal(size=m) + 3 * distance
    observed = stats.ks_2samp(x, y, method="exact")

    assert kolmogorov_tail(observed.statistic, n, m) == pytest.approx(
        observed.pvalue, rel=0.35, abs=1e-12
    )


def test_kolmogorov_tail_of_no_distance_is_one() -> None:
    assert kolmogorov_tail(0.0, 100, 100) == 1.0


@pytest.mark.parametrize(
    ("count", "n", "other", "other_n"),
    [(0, 200, 300, 2_000), (12, 200, 20, 2_000), (199, 200, 1_500, 2_000), (900, 10**4, 5, 10**4)],
)
def test_share_difference_doubles_fishers_one_sided_tail(
    count: int, n: int, other: int, other_n: int
) -> None:
    table = [[count, n - count], [other, other_n - other]]
    one_sided = min(stats.fisher_exact(table, side).pvalue for side in ("less", "greater"))

    assert share_difference_tail(count, n, other, other_n) == pytest.approx(
        min(2 * one_sided, 1), rel=1e-7
    )


def test_equal_extreme_shares_are_no_difference() -> None:
    assert share_difference_tail(0, 50, 0, 900) == 1.0
    assert share_difference_tail(50, 50, 900, 900) == 1.0


def test_large_counts_do_not_overflow() -> None:
    assert share_difference_tail(101_000, 10**6, 100_000, 10**6) == pytest.approx(
        stats.norm.sf(np.sqrt(2 * 10**6) * 0.001 / 2 / np.sqrt(0.1005 * 0.8995)) * 2, rel=0.05
    )


def test_unseen_bound_is_above_the_true_probability_and_not_far() -> None:
    # One level with three pooled rows, all in the window, beside levels that cannot be unseen.
    pooled = np.array([3, 5_000, 9_000])
    n, reference_n = 700, 13_303
    exact = (n / (n + reference_n)) ** 3

    assert exact < unseen_tail(pooled, 3, n, reference_n) < 3 * exact


def test_levels_that_come_once_a_year_are_no_surprise() -> None:
    pooled = np.ones(400)  # every level was seen once; one row in twenty is in the window

    assert unseen_tail(pooled, 20, 1_000, 19_000) > 0.2
    assert unseen_tail(pooled, 60, 1_000, 19_000) < 1e-6
