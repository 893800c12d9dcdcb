"""A release is convicted by evidence, acquitted by enough of it, and neither by too little."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from modelyard.domain.analysis import analyse, look_confidence, mark_dry_runs, measure_gain
from modelyard.domain.metrics import Interval
from modelyard.domain.observed import (
    MEASUREMENTS,
    AnalysisRules,
    Evidence,
    Expected,
    Rescored,
    Seen,
)
from modelyard.domain.rollout import Measurement, Verdict
from modelyard.domain.sequential import Trials

NOW = datetime(2024, 5, 1, tzinfo=UTC)
RULES = AnalysisRules(evidence=Evidence(least=100))
SLOW = Trials(hits=60, count=200, former_hits=0, former_count=800)
EXPECTED = Expected(tolerance=1.0, share=0.05)


def seen(
    errors: tuple[int, int, int, int] = (0, 200, 0, 800),
    *,
    rows: int = 200,
    differing: int = 10,
    silent: int = 0,
    answers: tuple[str, ...] = ("1", "2"),
    ready: int = 2,
    ended: int = 0,
    slow: Trials | None = None,
) -> Seen:
    hits, count, former_hits, former_count = errors
    return Seen(
        until=NOW,
        wanted=2,
        ready=ready,
        replicas={"a": 0, "b": 0},
        ended=ended,
        errors=Trials(hits=hits, count=count, former_hits=former_hits, former_count=former_count),
        slow=slow,
        rescored=Rescored(
            rows=rows,
            differing=differing,
            silent=silent,
            former_silent=0,
            answers=answers,
            former_answers=("1", "2"),
        ),
    )


def found(*looks: Seen, rules: AnalysisRules = RULES) -> dict[str, Measurement]:
    return {m.name: m for m in analyse(looks, rules, EXPECTED)}


def test_a_sound_release_passes_every_measurement() -> None:
    measured = found(seen(), seen())
    assert set(measured) == {"replicas", "errors", "empty answers", "disagreement", "variety"}
    assert {m.verdict for m in measured.values()} == {Verdict.SUCCESSFUL}
    assert measured["errors"].value == 0


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("errors", seen((20, 200, 0, 800))),
        ("disagreement", seen(differing=150)),
        ("empty answers", seen(silent=60)),
        ("variety", seen(answers=("7",))),
        ("replicas", seen(ended=3)),
        (
            "slower than 250 ms",
            seen(slow=Trials(hits=60, count=200, former_hits=0, former_count=800)),
        ),
    ],
)
def test_each_failure_is_found_by_its_measurement_alone(name: str, look: Seen) -> None:
    measured = found(look)
    failed = [m.name for m in measured.values() if m.verdict is Verdict.FAILED]
    assert failed == [name]


def test_what_both_releases_fail_at_is_no_evidence_against_the_new_one() -> None:
    outage = seen((100, 200, 400, 800))
    assert found(outage, seen())["errors"].verdict is Verdict.SUCCESSFUL


def test_little_traffic_leaves_it_open_and_looks_add_up() -> None:
    few = seen((0, 40, 0, 160), rows=40, differing=2)
    assert found(few)["errors"].verdict is Verdict.INCONCLUSIVE
    assert found(few)["disagreement"].verdict is Verdict.INCONCLUSIVE
    assert found(few)["variety"].verdict is Verdict.INCONCLUSIVE
    assert found(few, few, few)["errors"].verdict is Verdict.SUCCESSFUL
    assert found(few, few, few)["disagreement"].verdict is Verdict.SUCCESSFUL


def test_a_replica_that_is_not_ready_yet_leaves_it_open() -> None:
    assert found(seen(ready=1))["replicas"].verdict is Verdict.INCONCLUSIVE


def test_where_no_former_release_is_asked_a_fixed_share_counts() -> None:
    assert found(seen((1, 400, 0, 0)))["errors"].verdict is Verdict.SUCCESSFUL
    convicted = found(seen((40, 400, 0, 0)))["errors"]
    assert convicted.verdict is Verdict.FAILED
    assert "at most 1.00%" in convicted.limit


def test_callers_that_are_wrong_convict_nobody_whom_no_other_release_is_compared_with() -> None:
    alone = Trials(hits=30, count=1000, former_hits=0, former_count=0)
    beside = Trials(hits=30, count=1000, former_hits=3, former_count=1000)
    assert "refusals" not in found(seen().model_copy(update={"refused": alone}))
    refused = found(seen().model_copy(update={"refused": beside}))["refusals"]
    assert refused.verdict is Verdict.FAILED


def test_a_measurement_may_be_shown_and_decide_nothing() -> None:
    rules = RULES.model_copy(update={"dry_run": frozenset({"variety"})})
    measured = mark_dry_runs(analyse([seen(answers=("7",))], rules, EXPECTED), rules)
    assert [m.name for m in measured if m.verdict is Verdict.FAILED] == ["variety"]
    assert [m.name for m in measured if m.dry_run] == ["variety"]


def test_sound_releases_are_convicted_no_more_often_than_is_said() -> None:
    """300 rollouts with 20 looks each: 1 % may be convicted; 9 would be with 1 % of all doubled."""
    rng = np.random.default_rng(3)
    convicted = 0
    for _ in range(300):
        looks: list[Seen] = []
        for _ in range(20):
            hits, former = rng.binomial(100, 0.02), rng.binomial(900, 0.02)
            differing = int(rng.binomial(50, 0.05))
            looks.append(seen((hits, 100, former, 900), rows=50, differing=differing))
            if any(m.verdict is Verdict.FAILED for m in found(*looks).values()):
                convicted += 1
                break
    assert convicted <= 9


def test_labels_that_are_waited_for_leave_it_open_and_a_sure_loss_convicts() -> None:
    gain = Interval(value=-0.5, low=-0.6, high=-0.4, confidence=0.99)
    assert measure_gain("mae", None, 3, margin=0.1, wanted=100).verdict is Verdict.INCONCLUSIVE
    assert measure_gain("mae", None, 3, margin=0.1, wanted=0).verdict is Verdict.SUCCESSFUL
    lost = measure_gain("mae", gain, 50, margin=0.1, wanted=100)
    assert lost.verdict is Verdict.FAILED
    assert "gain in mae -0.5" in lost.reason
    assert measure_gain("mae", gain, 500, margin=0.45, wanted=100).verdict is Verdict.SUCCESSFUL


def test_the_levels_of_all_looks_at_labels_spend_one_measurements_part_of_the_errors() -> None:
    evidence = Evidence(false_aborts=0.05)
    spent = sum((1 - look_confidence(look, evidence)) / 2 for look in range(1, 10_000))
    assert spent == pytest.approx(0.05 / MEASUREMENTS, rel=1e-3)
