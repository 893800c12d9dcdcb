"""Evidence may be looked at after every stretch and still errs as seldom as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelyard.domain.sequential import Trials, log_evidence, log_evidence_above, pooled

ERRORS = 0.01
PROOF = math.log(1 / ERRORS)


def rollout(
    rng: np.random.Generator,
    new: np.ndarray | float,
    former: np.ndarray | float,
    *,
    count: int = 50,
    former_count: int = 450,
    stretches: int = 40,
) -> list[Trials]:
    shares, former_shares = (np.broadcast_to(p, stretches) for p in (new, former))
    return [
        Trials(
            hits=int(rng.binomial(count, p)),
            count=count,
            former_hits=int(rng.binomial(former_count, q)),
            former_count=former_count,
        )
        for p, q in zip(shares, former_shares, strict=True)
    ]


def proven_after(stretches: list[Trials]) -> int | None:
    """Return after how many stretches somebody who looks each time would have stopped."""
    looks = range(1, len(stretches) + 1)
    return next((n for n in looks if log_evidence(stretches[:n]) >= PROOF), None)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.2])
def test_equal_releases_are_seldom_told_apart_however_often_one_looks(share: float) -> None:
    rng = np.random.default_rng(0)
    alarms = sum(proven_after(rollout(rng, share, share)) is not None for _ in range(300))
    assert alarms <= 3  # one in a hundred


def test_what_goes_wrong_for_both_at_once_is_no_evidence() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        bursts = np.where(rng.random(40) < 0.1, 0.4, 0.001)
        alarms += proven_after(rollout(rng, bursts, bursts)) is not None
    assert alarms <= 3


@pytest.mark.parametrize(
    ("former", "new", "requests"),
    [(0.0, 1.0, 50), (0.0, 0.02, 400), (0.01, 0.05, 400), (0.001, 0.005, 4_000), (0.3, 0.4, 1_000)],
)
def test_a_worse_release_is_found_within_so_many_requests(
    former: float, new: float, requests: int
) -> None:
    rng = np.random.default_rng(2)
    looks = [proven_after(rollout(rng, new, former, stretches=100)) or 101 for _ in range(60)]
    assert np.median(looks) * 50 <= requests


def test_a_better_release_is_no_evidence() -> None:
    assert log_evidence(rollout(np.random.default_rng(3), 0.001, 0.05)) < 0


def test_a_stretch_without_requests_changes_nothing() -> None:
    some = [Trials(hits=3, count=50, former_hits=1, former_count=450)]
    nothing = Trials(hits=0, count=0, former_hits=0, former_count=0)
    assert log_evidence([]) == 0.0
    assert log_evidence([nothing]) == pytest.approx(0.0)
    assert log_evidence([*some, nothing]) == pytest.approx(log_evidence(some))
    # one release alone cannot be compared with anything
    alone = Trials(hits=40, count=50, former_hits=0, former_count=0)
    assert log_evidence([alone]) == pytest.approx(0.0)
    assert math.isnan(alone.excess)


def test_millions_of_requests_overflow_nothing() -> None:
    many = Trials(hits=500_000, count=5_000_000, former_hits=5, former_count=50_000_000)
    assert math.isfinite(log_evidence([many] * 50))
    assert pooled([many] * 2).count == 10_000_000
    assert many.excess == pytest.approx(0.0999999)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.6])
def test_a_share_at_its_limit_is_seldom_found_above_it_and_a_doubled_one_is(share: float) -> None:
    rng = np.random.default_rng(4)

    def found(true: float, requests: int) -> bool:
        hits = np.cumsum(rng.random(requests) < true)
        looks = range(19, requests, 20)
        return any(log_evidence_above(int(hits[n]), n + 1, share) >= PROOF for n in looks)

    assert sum(found(share, 1_000) for _ in range(200)) <= 4  # two in a hundred, of one stated
    worse = min(2 * share, 0.9)
    assert sum(found(worse, int(40 / share)) for _ in range(50)) >= 45
