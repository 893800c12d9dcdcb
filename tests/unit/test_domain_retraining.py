"""Does the controller retrain when it should, and only then?"""

from datetime import UTC, datetime, timedelta

import pytest

from modelyard.domain.causes import JudgedWindow, RetrainingCause
from modelyard.domain.drift import DriftOutcome
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.quality import QualityOutcome
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.retraining import (
    RetrainingDecision,
    RetrainingPolicy,
    RetrainingState,
    RetrainingVerdict,
    decide_retraining,
    kept_in_a_row,
)

NOW = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PERFORMANCE, DRIFT = RetrainingCause.PERFORMANCE, RetrainingCause.DRIFT


def windows(marks: str) -> tuple[JudgedWindow, ...]:
    """Make one window a mark: p degraded, d drifted, b both, x broken data, . quiet; without
    labels u drifted, t too few rows to tell, _ quiet."""
    return tuple(
        JudgedWindow(
            id=f"w{number}",
            start=NOW - (len(marks) - number) * DAY,
            end=NOW - (len(marks) - number - 1) * DAY,
            drift=DriftOutcome.DRIFTED
            if mark in "dbxu"
            else DriftOutcome.TOO_FEW_ROWS
            if mark == "t"
            else DriftOutcome.STABLE,
            performance=PerformanceOutcome.DEGRADED
            if mark in "pbx"
            else PerformanceOutcome.TOO_FEW_LABELS
            if mark in "ut_"
            else PerformanceOutcome.OK,
            quality=QualityOutcome.BROKEN if mark == "x" else QualityOutcome.OK,
        )
        for number, mark in enumerate(marks)
    )


def decide(marks: str = "p", policy: RetrainingPolicy | None = None, **state):
    known = {"model": "bikes", "windows": windows(marks), "new_labels": 1_000} | state
    return decide_retraining(RetrainingState(**known), policy or RetrainingPolicy(), NOW)


def failed(decision: RetrainingDecision) -> list[str]:
    return [reason.rule for reason in decision.reasons if not reason.passed]


def test_performance_loss_retrains_and_names_its_cause() -> None:
    decision = decide("..p")

    assert decision.verdict is RetrainingVerdict.RETRAIN
    assert (decision.cause, decision.window_id) == (PERFORMANCE, "w2")
    assert failed(decision) == []
    assert decision.reasons[0].words.startswith("performance in 1 of the last 1 windows")


def test_quiet_windows_wait() -> None:
    decision = decide("...")

    assert decision.verdict is RetrainingVerdict.WAIT
    assert decision.key is None


@pytest.mark.parametrize(
    ("marks", "verdict"),
    [
        ("p...p", RetrainingVerdict.RETRAIN),
        ("....p", RetrainingVerdict.ALERT_ONLY),
        ("ppp..", RetrainingVerdict.WAIT),
        ("p.....p", RetrainingVerdict.ALERT_ONLY),
        ("p", RetrainingVerdict.ALERT_ONLY),
    ],
)
def test_k_of_the_last_n_windows_and_the_newest_must_show_it(marks: str, verdict) -> None:
    assert decide(marks, RetrainingPolicy(k=2, n=5)).verdict is verdict


def test_drift_retrains_where_no_label_tells_whether_it_matters() -> None:
    told, untold = RetrainingPolicy(), RetrainingPolicy(on=frozenset({PERFORMANCE}))

    assert decide("u", told).cause is DRIFT
    assert decide("u", untold).verdict is RetrainingVerdict.ALERT_ONLY
    assert "does not start a retraining" in decide("u", untold).reasons[1].words
    assert decide("b", untold).cause is PERFORMANCE


@pytest.mark.parametrize("marks", ["d", "ddd", "duu", ".dtu"])
def test_drift_without_effect_on_performance_alerts_and_does_not_retrain(marks: str) -> None:
    decision = decide(marks)

    assert decision.verdict is RetrainingVerdict.ALERT_ONLY
    assert "without effect" in decision.reasons[1].words
    assert decide(marks, RetrainingPolicy(harmless_drift="retrain")).cause is DRIFT


def test_labels_from_before_the_drift_say_nothing_about_it() -> None:
    assert decide("d.uu").cause is DRIFT


def test_drift_is_learnt_only_from_rows_that_drifted() -> None:
    decision = decide("u", drift_labels=499)

    assert decision.verdict is RetrainingVerdict.WAIT
    assert failed(decision) == ["labels of the drift"]
    assert decide("p", drift_labels=0).verdict is RetrainingVerdict.RETRAIN


def test_labels_that_come_late_are_judged_by_the_newest_window_that_has_them() -> None:
    late = decide("..p__", RetrainingPolicy(k=1, n=1))

    assert late.cause is PERFORMANCE
    assert late.window_id == "w4"
    assert decide("..p_", RetrainingPolicy(k=1, n=1)).key == late.key
    assert decide("..p.__").verdict is RetrainingVerdict.WAIT
    assert decide("p.p__", RetrainingPolicy(k=2, n=3)).reasons[0].figure == "2 of 3"


def test_every_rule_with_a_number_tells_its_figure_and_its_limit() -> None:
    decision = decide("p", retrainings=(NOW - timedelta(hours=5),), kept_in_a_row=1, new_labels=700)
    told = {reason.rule: (reason.figure, reason.limit) for reason in decision.reasons}

    assert told["cause"] == ("1 of 1", "1 of 1")
    assert told["circuit breaker"] == ("1", "fewer than 3")
    assert told["cooldown"] == ("5:00:00", "at least 1 day, 0:00:00")
    assert told["budget"] == ("1", "fewer than 3")
    assert told["new labels"] == ("700", "at least 500")


def test_performance_outranks_drift() -> None:
    assert decide("b").cause is PERFORMANCE


def test_broken_data_blocks_every_cause() -> None:
    for state in ({}, {"requested_by": "ada"}, {"scheduled": True}):
        decision = decide("x", **state)
        assert decision.verdict is RetrainingVerdict.BLOCKED
        assert failed(decision) == ["data quality"]


@pytest.mark.parametrize("marks", ["..x__", "..xx__", "xxx", "..x."])
def test_broken_data_asks_for_nothing_once_it_is_mended(marks: str) -> None:
    """Its labels come later, when the newest window is sound again."""
    decision = decide(f"{marks}_")

    assert decision.verdict is RetrainingVerdict.WAIT
    assert decision.cause is None


def test_a_loss_beside_broken_data_is_counted_without_it() -> None:
    policy = RetrainingPolicy(k=2, n=3)

    assert decide("p.xxp", policy).verdict is RetrainingVerdict.RETRAIN
    assert decide("..xxp", policy).verdict is RetrainingVerdict.ALERT_ONLY


def test_a_running_delivery_makes_everyone_wait() -> None:
    assert failed(decide(delivery_running="d1")) == ["one delivery at a time"]
    decision = decide(delivery_running="d1", requested_by="ada")
    assert decision.verdict is RetrainingVerdict.WAIT


def test_cooldown_says_until_when() -> None:
    decision = decide(retrainings=(NOW - 20 * DAY, NOW - timedelta(hours=5)))

    assert decision.verdict is RetrainingVerdict.WAIT
    assert failed(decision) == ["cooldown"]
    assert decision.wait_until == NOW + timedelta(hours=19)
    assert decide(retrainings=(NOW - DAY,)).verdict is RetrainingVerdict.RETRAIN


def test_a_spent_budget_says_until_when() -> None:
    decision = decide(retrainings=tuple(NOW - days * DAY for days in (2, 6, 4)))

    assert failed(decision) == ["budget"]
    assert decision.wait_until == NOW + DAY
    assert decide(retrainings=(NOW - 2 * DAY, NOW - 7 * DAY, NOW - 4 * DAY)).verdict == "retrain"


def test_too_few_new_labels_wait_and_nobody_knows_until_when() -> None:
    decision = decide(new_labels=499, retrainings=(NOW,))

    assert failed(decision) == ["cooldown", "new labels"]
    assert decision.wait_until is None


def test_champions_kept_in_a_row_break_the_circuit() -> None:
    assert decide(kept_in_a_row=2).verdict is RetrainingVerdict.RETRAIN
    decision = decide(kept_in_a_row=3)
    assert decision.verdict is RetrainingVerdict.BLOCKED
    assert failed(decision) == ["circuit breaker"]


def test_a_person_passes_what_only_guards_against_automation() -> None:
    decision = decide("", requested_by="ada", new_labels=0, kept_in_a_row=9, retrainings=(NOW,) * 9)

    assert decision.verdict is RetrainingVerdict.RETRAIN
    assert decision.cause is RetrainingCause.PERSON
    assert decision.reasons[0].words == "asked for by ada"


def test_the_schedule_retrains_without_a_finding_but_minds_the_guards() -> None:
    assert decide("", scheduled=True).cause is RetrainingCause.SCHEDULE
    assert decide("...", scheduled=True).verdict is RetrainingVerdict.RETRAIN
    assert decide("...", scheduled=True, new_labels=3).verdict is RetrainingVerdict.WAIT


def test_one_cause_in_one_window_retrains_once() -> None:
    first = decide("p")
    again = decide("p", decided=frozenset({first.key}))

    assert first.key == again.key
    assert again.verdict is RetrainingVerdict.WAIT
    assert failed(again) == ["once a cause"]
    assert decide("pp").key != first.key
    assert decide("p", model="other").key != first.key
    assert decide("u").key != first.key


def test_a_decision_survives_json() -> None:
    decision = decide(retrainings=(NOW - timedelta(hours=5),))

    assert RetrainingDecision.model_validate_json(decision.model_dump_json()) == decision


def _release(number: int, state: ReleaseState) -> Release:
    at = NOW + number * DAY
    return Release(
        id=f"r{number}",
        model="bikes",
        version=None,
        state=state,
        opened_at=at,
        changed_at=at,
        events=(),
    )


@pytest.mark.parametrize(
    ("states", "kept"),
    [("kkk", 3), ("kck", 1), ("kak", 2), ("", 0), ("ckk", 2), ("krk", 1)],
)
def test_only_kept_champions_since_the_last_promotion_are_in_a_row(states: str, kept: int) -> None:
    kinds = {
        "k": ReleaseState.KEPT_CHAMPION,
        "c": ReleaseState.CHAMPION,
        "r": ReleaseState.RETIRED,
        "a": ReleaseState.ABORTED,
    }
    releases = [_release(number, kinds[state]) for number, state in enumerate(states)]
    everything = {release.id for release in releases}

    assert kept_in_a_row(releases, everything, None) == kept


def test_a_person_who_looked_and_deliveries_by_persons_do_not_count_as_kept() -> None:
    releases = [_release(number, ReleaseState.KEPT_CHAMPION) for number in range(4)]

    assert kept_in_a_row(releases, {"r0", "r1", "r2", "r3"}, NOW + DAY) == 2
    assert kept_in_a_row(releases, {"r0", "r2"}, None) == 2
