"""Is the change found that a retraining answers, and are only the rows since then learnt?"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from modelyard.domain.causes import JudgedWindow, RetrainingCause, drifts_since, locate_change
from modelyard.domain.drift import DriftOutcome
from modelyard.domain.learning_rows import change_to_learn_from, due_rows, restrict_rows
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

    assert change_to_learn_from(state, SINCE_CHANGE, PERFORMANCE) == START + 2 * DAY
    assert change_to_learn_from(state, RetrainingPolicy(), PERFORMANCE) is None


def test_the_schedule_answers_no_change_and_forgets_nothing() -> None:
    """A harmless drift, or one bad day, would leave it with the rows of a few days each time."""
    state = RetrainingState(model="bikes", windows=windows(1.0, 1.0, 5.0), learnt_since=START - DAY)

    assert change_to_learn_from(state, SINCE_CHANGE, RetrainingCause.SCHEDULE) == START - DAY


def test_a_person_answers_what_is_wrong_and_no_drift_that_does_no_harm() -> None:
    drifts = [
        window.model_copy(update={"drift": DriftOutcome.DRIFTED})
        for window in windows(1.0, 1.1, 1.0)
    ]
    untold = [
        window.model_copy(update={"performance": PerformanceOutcome.TOO_FEW_LABELS})
        for window in drifts
    ]
    harmless, unknown, bad = (
        RetrainingState(model="bikes", windows=tuple(seen))
        for seen in (drifts, untold, windows(1.0, 1.0, 5.0))
    )

    assert change_to_learn_from(harmless, SINCE_CHANGE, RetrainingCause.PERSON) is None
    assert change_to_learn_from(unknown, SINCE_CHANGE, RetrainingCause.PERSON) == START
    assert change_to_learn_from(bad, SINCE_CHANGE, RetrainingCause.PERSON) == START + 2 * DAY


def test_without_a_new_change_what_the_champion_forgot_stays_forgotten() -> None:
    state = RetrainingState(model="bikes", windows=windows(1.0, 1.0), learnt_since=START - DAY)

    assert change_to_learn_from(state, SINCE_CHANGE, PERFORMANCE) == START - DAY


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


def test_rows_are_learnt_from_the_age_on_at_which_nearly_all_labels_are_known() -> None:
    times = np.datetime64("2024-01-01", "D") + np.arange(100)
    took = np.where(np.arange(100) % 20 == 0, 30, np.where(np.arange(100) % 2 == 0, 10, 1))
    known = (times + took).astype("datetime64[s]")
    known[3] = np.datetime64("NaT")
    moment = times[0] + 70

    due = due_rows(times, known, moment)

    # Nine in ten are known after ten days; of rows as old, those that take longer are missing.
    assert np.flatnonzero(~due[:61]).tolist() == [3, 60]
    assert not due[61:].any()


def test_without_a_known_label_nothing_is_learnt() -> None:
    times = np.datetime64("2024-01-01", "D") + np.arange(3)
    never = np.full(3, np.datetime64("NaT", "D"))
    assert due_rows(times, never, times[-1]).tolist() == [False] * 3
    assert due_rows(times, times, times[-1]).tolist() == [True] * 3
