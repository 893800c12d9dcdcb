"""Do the tail probabilities agree with SciPy?"""

import numpy as np
import pytest
from scipy import stats

from modelyard.domain.statistics import (
    beyond_tail,
    harmonic_tail,
    kolmogorov_tail,
    share_difference_tail,
    unseen_tail,
)


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


def test_unseen_rows_of_one_level_are_as_likely_as_that_all_of_it_is_in_the_window() -> None:
    # One level with three pooled rows, all in the window, beside levels that cannot be unseen.
    pooled = np.array([3, 5_000, 9_000])
    n, reference_n = 700, 13_303

    assert unseen_tail(pooled, 3, n, reference_n) == pytest.approx((n / (n + reference_n)) ** 3)


def test_unseen_rows_of_many_levels_add_up_as_a_simulation_says() -> None:
    rng = np.random.default_rng(2)
    sizes = np.array([1] * 30 + [2] * 20 + [5] * 10)
    dealt = rng.random((20_000, sizes.size)) < 0.1**sizes
    for rows in (2, 5, 8):
        simulated = np.mean(dealt @ sizes >= rows)
        assert unseen_tail(sizes, rows, 100, 900) == pytest.approx(simulated, abs=0.01)


def test_rows_beyond_the_reference_are_dealt_from_the_top_of_the_pooled_rows() -> None:
    assert beyond_tail(0, 10, 90) == 1.0
    assert beyond_tail(2, 10, 90) == pytest.approx(10 / 100 * 9 / 99)
    assert beyond_tail(11, 10, 90) == beyond_tail(10, 10, 90)  # no window has more rows than it has


def test_levels_that_come_once_a_year_are_no_surprise() -> None:
    pooled = np.ones(400)  # every level was seen once; one row in twenty is in the window

    assert unseen_tail(pooled, 20, 1_000, 19_000) > 0.2
    assert unseen_tail(pooled, 60, 1_000, 19_000) < 1e-6


def test_what_one_of_many_tests_says_costs_their_number_and_what_all_say_nothing() -> None:
    assert harmonic_tail(np.array([1e-6, 1.0, 1.0, 1.0])) == pytest.approx(4e-6, rel=1e-3)
    assert harmonic_tail(np.full((2, 9), 1e-6)) == pytest.approx(1e-6)
    assert harmonic_tail(np.array([0.0, 1.0])) == 0.0
    assert harmonic_tail(np.ones(3)) == 1.0


def test_the_harmonic_mean_keeps_a_small_level_whatever_depends_on_what() -> None:
    rng = np.random.default_rng(5)
    level, tries = 0.01, 20_000
    for shared in (0.0, 0.5, 0.95):
        common = rng.normal(size=(tries, 1)) * np.sqrt(shared)
        tails = 2 * stats.norm.sf(
            np.abs(common + rng.normal(size=(tries, 9)) * np.sqrt(1 - shared))
        )
        alarms = np.mean([harmonic_tail(each) <= level for each in tails])
        assert alarms <= 1.25 * level
