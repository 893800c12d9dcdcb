"""Is broken data told from data that only differs?"""

import numpy as np
import pytest

from modelyard.domain.drift_history import still_columns, usual_spreads, window_shares
from modelyard.domain.profiles import Profile, profile_reference, profile_window
from modelyard.domain.quality import (
    QualityCheck,
    QualityOutcome,
    QualityPolicy,
    QualityVerdict,
    judge_quality,
)
from modelyard.domain.values import ColumnKind

KINDS = {
    "humidity": ColumnKind.NUMERIC,
    "celsius": ColumnKind.NUMERIC,
    "holiday": ColumnKind.NUMERIC,
    "city": ColumnKind.CATEGORICAL,
}
ROWS = 1_000


def draw(seed: int, rows: int = ROWS, celsius: float = 10.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    humidity = rng.uniform(20, 100, rows)
    humidity[rng.random(rows) < 0.02] = np.nan
    return {
        "humidity": humidity,
        "celsius": rng.normal(celsius, 8, rows),
        "holiday": (rng.random(rows) < 0.03).astype(float),
        "city": rng.choice(np.array(["Rome", "Oslo"], dtype=object), rows),
    }


@pytest.fixture(scope="module")
def reference() -> Profile:
    return profile_reference(draw(0, rows=10_000), KINDS)


def judge(reference: Profile, columns: dict[str, np.ndarray], **more) -> QualityVerdict:
    return judge_quality(reference, profile_window(columns, reference), QualityPolicy(), **more)


def found(verdict: QualityVerdict) -> set[tuple[QualityCheck, str | None, QualityOutcome]]:
    return {(f.check, f.column, f.outcome) for f in verdict.findings}


def test_sound_windows_are_ok(reference: Profile) -> None:
    for seed in range(1, 40):
        verdict = judge(reference, draw(seed), expected_rows=ROWS)
        assert verdict.outcome is QualityOutcome.OK, verdict.reasons
    assert verdict.reasons == ("1000 rows in 4 columns as they should be",)


def test_a_warm_month_is_not_a_fault(reference: Profile) -> None:
    winter = profile_reference(draw(0, rows=5_000, celsius=1.0), KINDS)

    assert judge(winter, draw(1, celsius=24.0)).outcome is not QualityOutcome.BROKEN
    assert judge(reference, draw(1, celsius=1.0)).outcome is QualityOutcome.OK


@pytest.mark.parametrize("factor", [10.0, 1_000.0, 0.1, 0.001])
def test_a_change_of_unit_is_broken(reference: Profile, factor: float) -> None:
    columns = draw(1)
    columns["humidity"] *= factor
    verdict = judge(reference, columns)

    expected = (QualityCheck.UNIT, "humidity", QualityOutcome.BROKEN)
    assert expected in found(verdict)
    (unit,) = [f for f in verdict.findings if f.check is QualityCheck.UNIT]
    assert unit.value == pytest.approx(factor, rel=0.1)


def test_a_change_of_unit_is_seen_in_another_season_too(reference: Profile) -> None:
    columns = draw(1)
    columns["humidity"] = (20 + (columns["humidity"] - 20) / 3) * 0.01
    assert (QualityCheck.UNIT, "humidity", QualityOutcome.BROKEN) in found(
        judge(reference, columns)
    )


def of_days(first: int, last: int, factor: float = 1.0) -> dict[str, np.ndarray]:
    """Return what rows of some days of a year say of their day, and of its week."""
    day = np.arange(first, last).repeat(20)
    return {"day of year": day * factor, "week": (day // 7 + 1) * factor}


@pytest.fixture(scope="module")
def year() -> Profile:
    return profile_reference(of_days(1, 366), dict.fromkeys(of_days(1, 2), ColumnKind.NUMERIC))


@pytest.mark.parametrize("days", [10, 30])
def test_the_days_and_weeks_of_january_are_no_change_of_unit(year: Profile, days: int) -> None:
    windows = [profile_window(of_days(i, i + days), year) for i in range(180, 330, days)]
    usual = usual_spreads([window_shares(year, window) for window in windows])
    january = of_days(1, 1 + days)

    assert usual == {
        "day of year": pytest.approx(days / 12**0.5, rel=0.05),
        "week": pytest.approx(days / 7 / 12**0.5, rel=0.5),
    }
    assert judge(year, january, spreads=usual).outcome is not QualityOutcome.BROKEN
    if days == 30:  # nothing else tells
        assert (QualityCheck.UNIT, "week", QualityOutcome.BROKEN) in found(judge(year, january))


@pytest.mark.parametrize("factor", [10.0, 1_000.0])
def test_what_goes_with_the_calendar_may_change_its_unit_as_well(
    year: Profile, factor: float
) -> None:
    windows = [profile_window(of_days(i, i + 30), year) for i in range(100, 250, 30)]
    usual = usual_spreads([window_shares(year, window) for window in windows])

    verdict = judge(year, of_days(160, 190, factor), spreads=usual)

    assert {c for _, c, o in found(verdict) if o is QualityOutcome.BROKEN} == {
        "day of year",
        "week",
    }


@pytest.mark.parametrize("factor", [10.0, 1_000.0, 0.1, 0.001])
def test_the_spread_within_windows_hides_no_change_of_unit(
    reference: Profile, factor: float
) -> None:
    windows = [profile_window(draw(seed), reference) for seed in range(2, 12)]
    usual = usual_spreads([window_shares(reference, window) for window in windows])
    columns = draw(1)
    columns["humidity"] *= factor

    assert (QualityCheck.UNIT, "humidity", QualityOutcome.BROKEN) in found(
        judge(reference, columns, spreads=usual)
    )


def test_of_few_windows_no_spread_is_usual(reference: Profile) -> None:
    windows = [window_shares(reference, profile_window(draw(i), reference)) for i in (1, 2)]
    assert usual_spreads(windows) == {}


def test_a_sensor_that_is_stuck_all_window_is_broken(reference: Profile) -> None:
    columns = draw(1)
    columns["celsius"][:] = 12.5
    verdict = judge(reference, columns)

    assert (QualityCheck.STUCK, "celsius", QualityOutcome.BROKEN) in found(verdict)
    assert any("all 1000 values are 12.5" in reason for reason in verdict.reasons)


def test_a_value_that_usually_stays_for_a_while_is_not_stuck(reference: Profile) -> None:
    def of_one_rate(seed: int) -> dict[str, np.ndarray]:
        columns = draw(seed)
        columns["celsius"][:] = seed
        return columns

    moving = [window_shares(reference, profile_window(draw(i), reference)) for i in range(40)]
    staying = [window_shares(reference, profile_window(of_one_rate(i), reference)) for i in (1, 9)]
    assert still_columns(moving) == {"holiday"}
    assert still_columns([*moving, *staying]) == {"holiday"}
    assert still_columns([*moving[:10], *staying]) == {"holiday", "celsius"}
    verdict = judge(reference, of_one_rate(12), still=still_columns([*moving[:10], *staying]))
    assert found(verdict) == {(QualityCheck.STUCK, "celsius", QualityOutcome.WARN)}


def test_a_sensor_that_is_stuck_part_of_the_window_is_worth_a_look(reference: Profile) -> None:
    columns = draw(1)
    columns["celsius"][300:700] = 12.5

    assert found(judge(reference, columns)) == {
        (QualityCheck.STUCK, "celsius", QualityOutcome.WARN)
    }


def test_a_flag_may_stay_the_same(reference: Profile) -> None:
    columns = draw(1)
    columns["holiday"][:] = 0.0

    assert judge(reference, columns).outcome is QualityOutcome.OK


@pytest.mark.parametrize(
    ("nulls", "outcome"),
    [(30, QualityOutcome.OK), (150, QualityOutcome.WARN), (600, QualityOutcome.BROKEN)],
)
def test_a_jump_of_nulls_is_graded(reference: Profile, nulls: int, outcome) -> None:
    columns = draw(1)
    columns["celsius"][:nulls] = np.nan

    assert judge(reference, columns).outcome is outcome


def test_a_missing_column_is_broken(reference: Profile) -> None:
    columns = draw(1)
    del columns["city"]

    assert found(judge(reference, columns)) == {(QualityCheck.NULLS, "city", QualityOutcome.BROKEN)}


def test_a_single_null_in_a_tiny_window_is_chance(reference: Profile) -> None:
    columns = draw(1, rows=10)
    columns["celsius"][0] = np.nan

    assert judge(reference, columns).outcome is QualityOutcome.OK


@pytest.mark.parametrize(
    ("rows", "level", "outcome"),
    [
        (5, "Atlantis", QualityOutcome.OK),
        (1_000, "Atlantis", QualityOutcome.WARN),  # news: retraining may well mend it
        (100, " ROME", QualityOutcome.BROKEN),
        (15, " ROME", QualityOutcome.WARN),
    ],
)
def test_unseen_levels_are_graded(reference: Profile, rows: int, level: str, outcome) -> None:
    columns = draw(1)
    columns["city"][:rows] = level
    verdict = judge(reference, columns)

    assert verdict.outcome is outcome
    assert ("spelled otherwise" in verdict.reasons[0]) == (outcome is QualityOutcome.BROKEN)


@pytest.mark.parametrize(
    ("rows", "outcome"), [(20, QualityOutcome.WARN), (200, QualityOutcome.BROKEN)]
)
def test_impossible_values_are_graded(reference: Profile, rows: int, outcome) -> None:
    columns = draw(1)
    columns["humidity"][:rows] = -999.0
    verdict = judge(reference, columns)

    assert found(verdict) == {(QualityCheck.RANGE, "humidity", outcome)}
    assert "(window -999 to" in verdict.reasons[0]


def test_demand_that_rose_fourfold_and_a_first_snow_are_no_faults() -> None:
    rng = np.random.default_rng(2)
    kinds = dict.fromkeys(("demand", "snow"), ColumnKind.NUMERIC)
    known = profile_reference({"demand": rng.gamma(2, 50, 5_000), "snow": np.zeros(5_000)}, kinds)
    window = {"demand": 4 * rng.gamma(2, 50, ROWS), "snow": rng.exponential(1, ROWS)}

    assert judge(known, window).outcome is QualityOutcome.WARN


def test_a_unit_that_changed_within_the_window_is_broken(reference: Profile) -> None:
    columns = draw(1)
    columns["humidity"][100:] /= 100

    assert (QualityCheck.RANGE, "humidity", QualityOutcome.BROKEN) in found(
        judge(reference, columns)
    )


def test_duplicates_and_volume_are_graded(reference: Profile) -> None:
    columns = draw(1)

    assert judge(reference, columns, duplicate_ids=3).outcome is QualityOutcome.WARN
    assert judge(reference, columns, duplicate_ids=300).outcome is QualityOutcome.BROKEN
    assert judge(reference, columns, expected_rows=2_500).outcome is QualityOutcome.WARN
    assert judge(reference, columns, expected_rows=25_000).outcome is QualityOutcome.BROKEN


def test_an_empty_window_is_broken(reference: Profile) -> None:
    verdict = judge(reference, draw(1, rows=0))

    assert verdict.outcome is QualityOutcome.BROKEN
    assert verdict.reasons == ("no rows in the window",)


def test_the_gravest_finding_comes_first(reference: Profile) -> None:
    columns = draw(1)
    columns["celsius"][:150] = np.nan
    columns["humidity"] *= 1_000
    verdict = judge(reference, columns)

    severity = [finding.outcome for finding in verdict.findings]
    assert severity == sorted(severity, key=list(QualityOutcome).index, reverse=True)
    assert QualityVerdict.model_validate_json(verdict.model_dump_json()) == verdict
