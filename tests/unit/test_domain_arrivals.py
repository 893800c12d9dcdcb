"""A gap is where every window before had rows, and not a night or a Sunday."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.arrivals import SLOTS, find_gap, slots_of
from modelyard.domain.profiles import profile_reference, profile_window
from modelyard.domain.quality import QualityCheck, QualityOutcome, QualityPolicy, judge_quality
from modelyard.domain.values import ColumnKind
from modelyard.domain.windows import window_of

DAY = datetime(2024, 3, 4, tzinfo=UTC)
WINDOW = window_of("rides", DAY, DAY + timedelta(days=1))
OPEN = [0] * 6 + [40] * 16 + [0] * 2
"""A shop: nothing by night."""


def without(first: int, last: int) -> list[int]:
    return [0 if first <= hour < last else rows for hour, rows in enumerate(OPEN)]


def test_rows_are_counted_by_the_part_of_the_window_they_fall_into() -> None:
    hours = np.datetime64("2024-03-04T00:30", "us") + np.arange(24) * np.timedelta64(1, "h")
    last = np.datetime64("2024-03-04T23:59:59.999999", "us")
    counted = slots_of(WINDOW, np.append(hours, [hours[7], last]))
    assert counted.tolist() == [1] * 7 + [2] + [1] * 15 + [2]
    assert slots_of(WINDOW, hours[:0]).tolist() == [0] * SLOTS


def test_an_outage_is_found_with_its_time_and_what_usually_comes_then() -> None:
    gap = find_gap(WINDOW, without(10, 14), [OPEN] * 5)
    assert gap is not None
    assert (gap.start, gap.end) == (DAY + timedelta(hours=10), DAY + timedelta(hours=14))
    assert (gap.least, gap.share) == (160, 0.25)


def test_an_outage_until_closing_time_is_one_with_the_night_after_it() -> None:
    gap = find_gap(WINDOW, without(20, 22), [OPEN] * 9)
    assert gap is not None
    assert gap.end == WINDOW.end
    assert gap.least == 80


def test_nights_and_sundays_are_no_gaps() -> None:
    assert find_gap(WINDOW, OPEN, [OPEN] * 9) is None
    assert find_gap(WINDOW, [0] * 24, [*[OPEN] * 6, [0] * 24]) is None


def test_too_few_windows_before_tell_nothing() -> None:
    assert find_gap(WINDOW, without(10, 14), [OPEN] * 4) is None
    assert find_gap(WINDOW, (), [OPEN] * 9) is None


def test_a_few_rows_that_did_not_come_are_chance() -> None:
    sparse = [rows // 10 for rows in OPEN]
    assert find_gap(WINDOW, [*sparse[:10], 0, 0, *sparse[12:]], [sparse] * 9) is None


@given(st.integers(0, 2**32 - 1))
def test_independent_arrivals_show_no_gap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.poisson(rng.uniform(0, 30), size=(11, SLOTS)).tolist()
    assert find_gap(WINDOW, rows[0], rows[1:]) is None


@pytest.mark.parametrize(
    ("hours", "outcome"), [((10, 14), QualityOutcome.WARN), ((8, 20), QualityOutcome.BROKEN)]
)
def test_a_gap_is_told_and_a_window_that_is_mostly_gap_is_not_trained_on(
    hours: tuple[int, int], outcome: QualityOutcome
) -> None:
    values = np.arange(640.0)
    reference = profile_reference({"wind": values}, {"wind": ColumnKind.NUMERIC})
    arrived = without(*hours)
    seen = profile_window({"wind": values[:: 640 // sum(arrived)]}, reference)
    gap = find_gap(WINDOW, arrived, [OPEN] * 6)
    verdict = judge_quality(reference, seen, QualityPolicy(), gap=gap)
    assert (verdict.outcome, verdict.findings[0].check) == (outcome, QualityCheck.GAP)
    assert f"no rows from 2024-03-04 {hours[0]:02}:00 to" in verdict.reasons[0]
