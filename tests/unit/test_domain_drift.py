"""Does the drift alarm hold its rate, and does it see what moved?"""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from modelyard.domain.drift import (
    DriftOutcome,
    DriftPolicy,
    DriftTest,
    DriftVerdict,
    judge_drift,
)
from modelyard.domain.profiles import (
    PREDICTION,
    SCORE,
    Profile,
    profile_reference,
    profile_window,
)
from modelyard.domain.values import ColumnKind

NUMERIC = [f"n{i}" for i in range(14)]
LEVELS = {"flag": 2, "kind": 3, "region": 5, "shop": 10, "code": 50, "article": 500}
KINDS = dict.fromkeys(NUMERIC, ColumnKind.NUMERIC) | dict.fromkeys(LEVELS, ColumnKind.CATEGORICAL)
NUMBER = ColumnKind.NUMERIC
POLICY = DriftPolicy(false_alarms=0.01)


def draw(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Draw 20 columns: bell-shaped, skewed, heavy-tailed, coarse; 2 to 500 levels; nulls."""
    shapes = (
        lambda: rng.normal(size=rows),
        lambda: rng.lognormal(size=rows),
        lambda: rng.standard_t(3, size=rows),
        lambda: np.round(3 * rng.normal(size=rows)),
    )
    columns = {name: shapes[i % 4]() for i, name in enumerate(NUMERIC)}
    for i, name in enumerate(NUMERIC[:4]):
        columns[name][rng.random(rows) < 0.04 * (i + 1)] = np.nan
    for name, levels in LEVELS.items():
        share = 1 / np.arange(1, levels + 1)
        picked = rng.choice(levels, size=rows, p=share / share.sum())
        columns[name] = np.char.add("v", picked.astype(str)).astype(object)
    return columns


@pytest.fixture(scope="module")
def reference() -> Profile:
    return profile_reference(draw(np.random.default_rng(0), 20_000), KINDS)


def judge(reference: Profile, columns: dict[str, np.ndarray], policy=POLICY) -> DriftVerdict:
    return judge_drift(reference, profile_window(columns, reference), policy)


@pytest.mark.parametrize(("rows", "windows"), [(200, 300), (1_000, 300)])
def test_quiet_windows_alarm_no_more_often_than_stated(rows: int, windows: int) -> None:
    # No least effect: it could only hide false alarms. A new reference every 50 windows, since
    # one unlucky reference is shared by all windows that are compared with it.
    policy = DriftPolicy(false_alarms=0.01, min_effect=0, min_unseen=0)
    rng = np.random.default_rng(rows)
    alarms = 0
    for window in range(windows):
        if window % 50 == 0:
            reference = profile_reference(draw(rng, 4_000), KINDS)
        alarms += judge(reference, draw(rng, rows), policy).outcome is DriftOutcome.DRIFTED

    assert alarms <= stats.binom.ppf(0.995, windows, policy.false_alarms)


def test_half_a_standard_deviation_in_one_column_is_seen_and_named(reference: Profile) -> None:
    seen = 0
    for seed in range(20):
        columns = draw(np.random.default_rng(seed), 1_000)
        columns["n4"] += 0.5
        verdict = judge(reference, columns)
        seen += {f.column for f in verdict.suspects} == {"n4"}

    assert seen >= 19


def test_columns_without_nulls_make_a_rise_of_nulls_no_harder_to_see() -> None:
    rng = np.random.default_rng(3)
    columns, window = ({f"n{i}": rng.normal(size=n) for i in range(20)} for n in (20_000, 1_000))
    columns["n0"][:2_000], window["n0"][:145] = np.nan, np.nan

    def nulls(count: int) -> float:
        names = [f"n{i}" for i in range(count)]
        known = profile_reference({n: columns[n] for n in names}, dict.fromkeys(names, NUMBER))
        verdict = judge(known, {n: window[n] for n in names})
        return next(f.adjusted_p_value for f in verdict.findings if f.test is DriftTest.NULLS)

    assert nulls(20) == pytest.approx(nulls(2))
    assert nulls(20) <= POLICY.false_alarms


def moved_rare_level(columns: dict[str, np.ndarray]) -> tuple[str, DriftTest]:
    columns["shop"][:100] = "v9"
    return "shop", DriftTest.LEVELS


def moved_flag(columns: dict[str, np.ndarray]) -> tuple[str, DriftTest]:
    columns["flag"][:150] = "v1"
    return "flag", DriftTest.LEVELS


def new_level(columns: dict[str, np.ndarray]) -> tuple[str, DriftTest]:
    columns["region"][:10] = "new"
    return "region", DriftTest.UNSEEN


def more_nulls(columns: dict[str, np.ndarray]) -> tuple[str, DriftTest]:
    columns["n5"][:60] = np.nan
    return "n5", DriftTest.NULLS


def lost_column(columns: dict[str, np.ndarray]) -> tuple[str, DriftTest]:
    del columns["n6"]
    return "n6", DriftTest.NULLS


@pytest.mark.parametrize(
    "change", [moved_rare_level, moved_flag, new_level, more_nulls, lost_column]
)
def test_what_moved_is_named_with_its_test(reference: Profile, change) -> None:
    columns = draw(np.random.default_rng(5), 1_000)
    expected = change(columns)
    verdict = judge(reference, columns)

    assert verdict.outcome is DriftOutcome.DRIFTED
    assert (verdict.suspects[0].column, verdict.suspects[0].test) == expected
    assert verdict.reasons[0].startswith(expected[0])


def test_a_harmless_shift_is_not_alarmed_however_many_rows() -> None:
    rng = np.random.default_rng(1)
    reference = profile_reference(
        {"x": rng.normal(size=100_000)}, {"x": ColumnKind.NUMERIC}, bins=512
    )
    verdict = judge(reference, {"x": rng.normal(0.02, 1, size=100_000)})

    assert verdict.outcome is DriftOutcome.STABLE
    assert verdict.findings[0].adjusted_p_value < 0.01
    assert "smaller than the least effect" in verdict.reasons[0]


def test_one_outlier_neither_raises_nor_hides_drift(reference: Profile) -> None:
    quiet = draw(np.random.default_rng(8), 1_000)
    quiet["n4"][0] = 1e9
    assert judge(reference, quiet).outcome is DriftOutcome.STABLE

    shifted = draw(np.random.default_rng(8), 1_000)
    shifted["n4"] += 0.5
    shifted["n4"][0] = 1e9
    assert judge(reference, shifted).outcome is DriftOutcome.DRIFTED


def test_too_few_rows_give_no_verdict(reference: Profile) -> None:
    verdict = judge(reference, draw(np.random.default_rng(1), 199))

    assert verdict.outcome is DriftOutcome.TOO_FEW_ROWS
    assert verdict.reasons == ("199 rows in the window, 200 are needed to tell drift from chance",)


def test_the_distance_is_that_of_the_rows_themselves() -> None:
    rng = np.random.default_rng(4)
    was, now = rng.normal(size=5_000), rng.normal(0.3, 1, size=800)
    reference = profile_reference({"x": was}, {"x": ColumnKind.NUMERIC})
    finding = judge(reference, {"x": now}).findings[0]

    assert finding.statistic == pytest.approx(stats.ks_2samp(was, now).statistic, abs=0.005)


def test_the_level_test_is_the_chi_square_test_of_homogeneity() -> None:
    rng = np.random.default_rng(4)
    was = rng.choice(["a", "b", "c"], size=5_000, p=[0.5, 0.3, 0.2]).astype(object)
    now = rng.choice(["a", "b", "c"], size=800, p=[0.45, 0.35, 0.2]).astype(object)
    reference = profile_reference({"x": was}, {"x": ColumnKind.CATEGORICAL})
    finding = judge(reference, {"x": now}).findings[0]

    table = [[Counter(rows)[level] for level in "abc"] for rows in (was, now)]
    expected = stats.chi2_contingency(table)
    assert (finding.statistic, finding.p_value) == pytest.approx(
        (expected.statistic, expected.pvalue)
    )


def test_the_predictions_are_judged_like_any_column() -> None:
    rng = np.random.default_rng(4)
    reference = profile_reference(
        {"prediction": rng.normal(size=5_000)}, {"prediction": ColumnKind.NUMERIC}
    )
    verdict = judge(reference, {"prediction": rng.normal(1, 1, size=400)})

    assert verdict.reasons[0].startswith("the predictions: mean")


def test_a_verdict_survives_json(reference: Profile) -> None:
    columns = draw(np.random.default_rng(5), 1_000)
    columns["n4"] += 1
    verdict = judge(reference, columns)

    assert DriftVerdict.model_validate_json(verdict.model_dump_json()) == verdict
    strongest = verdict.strongest("n4")
    assert strongest is not None
    assert strongest.drifted
    assert verdict.strongest("unknown") is None


def test_a_model_that_is_less_sure_of_the_same_answers_has_drifted() -> None:
    rng = np.random.default_rng(11)
    said = rng.choice(np.array(["yes", "no"], dtype=object), 4_000)
    kinds = {PREDICTION: ColumnKind.CATEGORICAL, SCORE: ColumnKind.NUMERIC}
    sure = {PREDICTION: said, SCORE: rng.beta(8, 2, 4_000)}
    reference = profile_reference(sure, kinds)
    window = {PREDICTION: said[:1_000], SCORE: rng.beta(4, 2, 1_000)}
    verdict = judge_drift(reference, profile_window(window, reference), DriftPolicy())
    assert {finding.column for finding in verdict.suspects} == {SCORE}
    assert verdict.reasons[0].startswith("their scores: mean 0.7991 to 0.6642")
