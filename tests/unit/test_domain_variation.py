"""Is it known how windows that remember each other vary?"""

import numpy as np
import pytest

from modelyard.domain.variation import Drawn, Past, estimate_memory

ROWS = 1_000


def windows(memory: float, spread: float, count: int = 60, seed: int = 0) -> np.ndarray:
    """Return shares near a half, of shape (windows,), of windows that remember the last."""
    rng = np.random.default_rng(seed)
    state, shares = 0.0, []
    for _ in range(count + 50):
        state = memory * state + rng.normal() * spread * np.sqrt(1 - memory**2)
        shares.append(rng.binomial(ROWS, np.sin(np.pi / 4 + state) ** 2) / ROWS)
    return np.array(shares[50:])


def past_of(memory: float, spread: float, seed: int = 0) -> Past:
    return Past(windows(memory, spread, seed=seed)[:, None], np.full(60, ROWS))


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8])
def test_what_drawing_adds_hides_no_memory(memory: float) -> None:
    """With so little a spread, neighbours correlate by a bit more than half of their memory."""
    past = [past_of(memory, 0.02, seed) for seed in range(60)]

    assert estimate_memory(past) == pytest.approx(memory, abs=0.1)


def test_windows_that_only_drawing_tells_apart_are_taken_for_independent() -> None:
    usual = past_of(0.0, 0.0).usual(0.9)

    assert usual.own == pytest.approx(0.0, abs=0.3)
    assert past_of(0.9, 0.2).usual(0.9).independent == pytest.approx(60 * 0.1 / 1.9, rel=0.2)


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_one_more_quiet_window_is_as_far_off_as_is_said(memory: float) -> None:
    tails = []
    for seed in range(1_000):
        shares = windows(memory, 0.05, count=61, seed=seed)
        past = Past(shares[:-1, None], np.full(60, ROWS))
        seen, last = Drawn(shares[-1:], ROWS), Drawn(shares[-2:-1], ROWS)
        tails.append([past.level_tails(seen, memory)[0], past.step_tails(seen, last, memory)[0]])

    for level in (0.02, 0.1, 0.5):
        level_of, step_of = np.mean(np.array(tails) <= level, axis=0)
        assert level_of <= 1.5 * level
        assert 0.6 * level <= step_of <= 1.5 * level


def test_a_step_is_told_that_is_within_the_level() -> None:
    """Windows wander far, and slowly: where this one is many were, but none came there at once."""
    past = past_of(0.95, 0.2, seed=3)
    last, seen = Drawn(past.shares[-1], ROWS), Drawn(past.shares[-1] - 0.25, ROWS)

    assert past.level_tails(seen, 0.95)[0] > 0.01
    assert past.step_tails(seen, last, 0.95)[0] < 1e-3
