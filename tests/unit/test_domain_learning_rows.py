"""Is the change found that a retraining answers, and are only the rows since then learnt?"""

from datetime import UTC, datetime, timedelta

import pytest

from modelyard.domain.causes import JudgedWindow, RetrainingCause, drifts_since, locate_change
from modelyard.domain.drift import DriftOutcome
from modelyard.domain.learning_rows import change_to_learn_from, restrict_rows
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.quality import QualityOutcome
from modelyard.domain.retraining import (
    RetrainingPolicy,
    RetrainingState,
    RetrainingVerdict,
    decide_retraining,
)

START = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PERFORMANCE, DRIFT = RetrainingCause.PERFORMANCE, RetrainingCause.DRIFT
SINCE_CHANGE = RetrainingPolicy(rows="since change")


def windows(*errors: float | None, limit: float = 2.0) -> tuple[JudgedWindow, ...]:
    """Make a window of one day of each error; above the limit it is degraded and drifted."""
    return tuple(
        JudgedWindow(
            id=f"w{day}",
            start=START + day * DAY,
            end=START + (day + 1) * DAY,
            drift=DriftOutcome.TOO_FEW_ROWS
            if error is None
            else DriftOutcome.DRIFTED
            if error > limit
            else DriftOutcome.STABLE,
            performance=PerformanceOutcome.TOO_FEW_LABELS
            if error is None
            else PerformanceOutcome.DEGRADED
            if error > limit
            else PerformanceOutcome.OK,
            quality=QualityOutcome.OK,
            realized=error,
            moved=error,
        )
        for day, error in enumerate(errors)
    )


@pytest.mark.parametrize("cause", [PERFORMANCE, DRIFT])
def test_a_change_that_alarms_late_is_found_where_the_figures_step(cause: RetrainingCause) -> None:
    seen = windows(1.0, 1.1, 0.9, 1.0, 1.9, 1.8, 2.1, 2.0, 2.2)

    assert locate_change(seen, cause) == START + 4 * DAY


def test_a_change_that_alarms_at_once_begins_with_its_first_window() -> None:
    assert locate_change(windows(1.0, 1.1, 0.9, 1.0, 5.0, 5.2), PERFORMANCE) == START + 4 * DAY


def test_an_older_incident_that_is_over_is_not_the_change() -> None:
    seen = windows(1.0, 9.0, 9.0, 9.0, *(1.0, 1.1) * 4, 3.0, 3.1)

    assert locate_change(seen, PERFORMANCE) == START + 12 * DAY


def test_windows_that_cannot_tell_neither_end_a_change_nor_begin_it() -> None:
    assert locate_change(windows(1.0, None, 5.0, None, 5.0, None), PERFORMANCE) == START + 2 * DAY
    assert drifts_since(windows(1.0, None, 5.0, None)) == START + 2 * DAY


def test_of_few_windows_the_first_that_shows_it_is_taken() -> None:
    assert locate_change(windows(5.0), PERFORMANCE) == START
    assert locate_change(windows(1.0, 5.0), PERFORMANCE) == START + DAY


def test_what_is_over_or_never_was_has_no_change() -> None:
    assert locate_change(windows(1.0, 5.0, 1.0), PERFORMANCE) is None
    assert locate_change((), DRIFT) is None
    assert drifts_since(windows(5.0, 1.0)) is None


def test_only_who_asks_for_it_learns_the_rows_since_the_change() -> None:
    state = RetrainingState(model="bikes", windows=windows(1.0, 1.0, 5.0))

    assert change_to_learn_from(state, SINCE_CHANGE) == START + 2 * DAY
    assert change_to_learn_from(state, RetrainingPolicy()) is None


def test_without_a_new_change_what_the_champion_forgot_stays_forgotten() -> None:
    state = RetrainingState(model="bikes", windows=windows(1.0, 1.0), learnt_since=START - DAY)

    assert change_to_learn_from(state, SINCE_CHANGE) == START - DAY


def test_too_few_rows_since_the_change_are_learnt_together_with_older_ones() -> None:
    state = RetrainingState(model="bikes", windows=windows(1.0, 5.0), new_labels=900)
    decision = decide_retraining(state, SINCE_CHANGE, START + 2 * DAY)
    assert decision.verdict is RetrainingVerdict.RETRAIN

    enough = restrict_rows(decision, START + DAY, 100, 100)
    few = restrict_rows(decision, START + DAY, 99, 100)

    assert enough.rows_since == START + DAY
    assert few.rows_since is None
    assert (few.reasons[-1].figure, few.reasons[-1].limit) == ("99", "at least 100")
    assert "older rows are learnt as well" in few.reasons[-1].words
    assert restrict_rows(decision, None, 0, 100) == decision
