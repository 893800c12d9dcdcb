"""Is a share of rows off what it was in windows that remember each other?

Shares are taken to the angular scale, on which the part of the variance that comes from drawing n
rows is 1/(4n) for every share (Anscombe 1948, "The transformation of Poisson, binomial and
negative-binomial data"): windows of unequal size can be compared, and what is left is by how much
the windows themselves differ. That part remembers the window before, as an autoregression of first
order; what was drawn does not.

Two questions are asked of each share. Is it off the level of the windows before? The bound is
Student's prediction interval, with as many windows as independent ones would tell the same (Bayley
and Hammersley 1946, "The 'effective' number of independent observations in an autocorrelated time
series"). And is it off what the last window lets one expect? Such residuals hardly depend on each
other, so sixty of them tell much more (Alwan and Roberts 1988, "Time-series modeling for
statistical process control").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtr

_MOST_MEMORY = 0.95
_ROUNDING = 1e-9
"""Radians that an angle which never varies may seem to."""
_LEAST_DAY = 0.05
"""Share of the variance that windows themselves must make up, for their memory to be told."""
_ROUNDS = 20
"""After which figures that depend on each other have settled."""


@dataclass(frozen=True)
class Drawn:
    """Shares of the rows of one window."""

    shares: np.ndarray
    rows: int

    @property
    def angles(self) -> np.ndarray:
        return _angle(self.shares, np.array(self.rows))

    @property
    def drawing(self) -> float:
        """Variance of the angles that comes from drawing the rows."""
        return 0.25 / self.rows


@dataclass(frozen=True)
class Past:
    """Shares of the same kind in the windows before."""

    shares: np.ndarray
    """Of shape (windows, shares)."""
    rows: np.ndarray
    """Of shape (windows,)."""

    @cached_property
    def angles(self) -> np.ndarray:
        return _angle(self.shares, self.rows[:, None])

    @cached_property
    def around(self) -> np.ndarray:
        """The angles about their mean."""
        return self.angles - self.angles.mean(axis=0)

    @property
    def drawing(self) -> float:
        """Variance of the angles that comes from drawing the rows."""
        return float(np.mean(0.25 / self.rows))

    def usual(self, memory: float) -> _Usual:
        """Return how windows vary by themselves.

        No stream varies less than its own sampling; where the windows happened to, that counts.
        """
        count = len(self.angles)
        seen = np.maximum(self.angles.var(axis=0), self.drawing)
        usual = _Usual(seen, np.zeros_like(seen), np.full(len(seen), float(count)))
        for _ in range(_ROUNDS):
            # The variance of dependent values about their mean is too small by 1 - 1/independent.
            variance = seen / (1 - 1 / usual.independent)
            own = 1 - self.drawing / variance
            independent = np.maximum(count / (1 + 2 * own * memory / (1 - memory)), 2.0)
            usual = _Usual(variance, own, independent)
        return usual

    def level_tails(self, seen: Drawn, memory: float) -> np.ndarray:
        """Return the two-sided chance of shares at least as far off in one more window."""
        usual = self.usual(memory)
        of_one_more = usual.variance - self.drawing + seen.drawing
        error = np.sqrt(of_one_more + usual.variance / usual.independent)
        return _tails(seen.angles - self.angles.mean(axis=0), error, usual.independent - 1)

    def step_tails(self, seen: Drawn, last: Drawn, memory: float) -> np.ndarray:
        """Return the chance of shares at least as far off what the window before foretells."""
        usual = self.usual(memory)
        kept = usual.own * memory
        residuals = self.around[1:] - kept * self.around[:-1]
        free = len(residuals) - 2
        drawing = self.drawing * (1 + kept**2)
        variance = np.maximum(np.sum(residuals**2, axis=0) / free, drawing)
        of_one_more = variance - drawing + seen.drawing + kept**2 * last.drawing
        error = np.sqrt(of_one_more + (1 - kept) ** 2 * usual.variance / usual.independent)
        mean = self.angles.mean(axis=0)
        return _tails(seen.angles - mean - kept * (last.angles - mean), error, free)


@dataclass(frozen=True)
class _Usual:
    """How angles vary from window to window; each of shape (shares,)."""

    variance: np.ndarray
    own: np.ndarray
    """Share of it by which the windows themselves differ, beside what drawing their rows adds."""
    independent: np.ndarray
    """Windows that would tell the mean as well, were they independent of each other."""


def _tails(off: np.ndarray, error: np.ndarray, free: np.ndarray | int) -> np.ndarray:
    return 2 * stdtr(free, -np.abs(off) / error)


def _angle(share: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return shares of so many rows on the scale on which all of them vary alike."""
    return np.arcsin(np.sqrt((share * rows + 0.375) / (rows + 0.75)))


def estimate_memory(past: Sequence[Past]) -> float:
    """Return how much of what a window differs by is left in the next, 0..0.95.

    Of all columns together. What drawing adds has no memory and is taken off first: it would hide
    the windows' own (Spearman 1904, "The proof and measurement of association between two things").
    Taking each series about its own mean hides some, too, by the variance of that mean (Marriott
    and Pope 1954, "Bias in the estimation of autocorrelations").
    """
    covariances, drawings = list[np.ndarray](), list[np.ndarray]()
    for one in past:
        variance = one.around.var(axis=0)
        varies = variance > _ROUNDING**2
        variance, around = variance[varies], one.around[:, varies]
        covariances.append(np.sum(around[1:] * around[:-1], axis=0) / len(around) / variance)
        drawings.append(np.minimum(one.drawing / variance, 1.0))
    if not any(each.size for each in covariances):
        return 0.0
    covariance = float(np.concatenate(covariances).mean())
    drawing = float(np.concatenate(drawings).mean())
    count = max(len(one.rows) for one in past)
    memory = of_mean = 0.0
    for _ in range(_ROUNDS):
        own = max(1 + of_mean - drawing, _LEAST_DAY)
        memory = float(np.clip((covariance + of_mean) / own, 0.0, _MOST_MEMORY))
        of_mean = min((own * (1 + memory) / (1 - memory) + drawing) / count, 1.0)
    return memory
