"""How are the rows of a column counted, one block after another?

A block is sorted within each stratum, the rows with predictions of one group. One search of all
limits in the sorted values then gives the bins, the range and the joint counts at once, three times
faster than looking for the bin of each value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np

from modelyard.domain.blocks import Levels, Strata
from modelyard.domain.column_profiles import (
    CategoricalProfile,
    Joint,
    NumericProfile,
)

MAX_UNSEEN_LEVELS = 100
TRACKED_LEVELS = 10_000
"""Levels that are not the reference's and are counted one by one; the rarest of more are counted
together, so that a column of identifiers takes no more memory than others."""
_LOWEST, _TINIEST = -np.finfo(float).max, math.nextafter(0.0, 1.0)
_HUGE = 1e150
"""Magnitude whose square is no number any more."""


class NumericTally:
    """Counts values on the edges and groups of a column, whose joint counts have `strata` groups.

    `low` and `high` are the range that later rows are measured by; None leaves it open.
    """

    def __init__(self, column: NumericProfile, strata: int) -> None:
        self._column = column
        self.nulls = 0
        self.counts = np.zeros(len(column.edges) + 1, dtype=np.int64)
        self.joint = _no_joint(column, strata)
        self.mean, self.sd = 0.0, 0.0
        self.low, self.high = math.inf, -math.inf
        self.logs = 0.0
        self.non_zero = self.outside = self.far_outside = 0
        self._plan = _Cuts(column)

    @classmethod
    def of(cls, profile: NumericProfile) -> Self:
        """Return the tally whose profile this is."""
        tally = cls(profile, 0)
        tally.nulls = profile.nulls
        tally.counts = np.array(profile.counts, dtype=np.int64)
        tally.joint = np.array(profile.joint, dtype=np.int64)
        tally.mean, tally.sd = profile.mean, profile.sd
        tally.low = math.inf if profile.min is None else profile.min
        tally.high = -math.inf if profile.max is None else profile.max
        tally.non_zero = profile.non_zero
        tally.logs = profile.non_zero * (profile.log_mean or 0.0)
        tally.outside, tally.far_outside = profile.outside, profile.far_outside
        return tally

    def count(self, values: np.ndarray, strata: Strata) -> None:
        """Count float64 values of shape (rows,); what is not finite is null."""
        ordered = values.take(strata.order)
        below = np.empty((strata.number + 1, self._plan.cuts.size), dtype=np.int64)
        for row, (start, end) in enumerate(pairwise(strata.bounds)):
            part = ordered[start:end]
            part.sort()
            below[row] = part.searchsorted(self._plan.cuts)
        counts = self._plan.bins(below)
        if self.joint.size:
            grouped = np.add.reduceat(counts[:-1], self._plan.starts, axis=1).T
            self.joint[:-1] += grouped
            self.joint[-1] += strata.sizes[:-1] - grouped.sum(axis=0)
        seen = counts.sum(axis=0)
        present = int(seen.sum())
        self.nulls += len(values) - present
        if not present:
            return
        whole = values if present == len(values) else values[np.isfinite(values)]
        low, high = float(whole.min()), float(whole.max())
        self._merge_moments(present, *_moments(whole, max(-low, high)))
        self.counts += seen
        self.low, self.high = min(self.low, low), max(self.high, high)
        non_zero, outside, far = self._plan.extras(below.sum(axis=0))
        if non_zero:
            magnitudes = np.abs(whole if non_zero == present else whole[whole != 0])
            self.logs += float(np.log10(magnitudes).sum())
        self.non_zero += non_zero
        self.outside += outside
        self.far_outside += far

    def count_nulls(self, strata: Strata) -> None:
        """Count rows that lack the column."""
        self.count(np.full(len(strata.codes), np.nan), strata)

    def merge(self, other: NumericTally) -> None:
        """Add what another tally on the same edges counted."""
        present = int(other.counts.sum())
        self.nulls += other.nulls
        self.joint = _sum_of(self.joint, other.joint)
        if present:
            self._merge_moments(present, other.mean, other.sd)
        self.counts = self.counts + other.counts
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.logs += other.logs
        self.non_zero += other.non_zero
        self.outside += other.outside
        self.far_outside += other.far_outside

    def profile(self) -> NumericProfile:
        present = bool(self.counts.any())
        return NumericProfile(
            nulls=self.nulls,
            edges=self._column.edges,
            counts=tuple(self.counts.tolist()),
            mean=self.mean,
            sd=self.sd,
            min=self.low if present else None,
            max=self.high if present else None,
            log_mean=self.logs / self.non_zero if self.non_zero else None,
            non_zero=self.non_zero,
            outside=self.outside,
            far_outside=self.far_outside,
            groups=self._column.groups,
            joint=_as_joint(self.joint),
        )

    def _merge_moments(self, m: int, mean: float, sd: float) -> None:
        """Add m values to those counted so far.

        Chan, Golub and LeVeque (1979): squared deviations of two parts, without cancellation; as a
        length of three sides, since the square of 1e200 overflows.
        """
        n = int(self.counts.sum())
        total = n + m
        gap = mean - self.mean
        spread = math.sqrt(n / total * (m / total)) * gap
        self.sd = math.hypot(math.sqrt(n / total) * self.sd, math.sqrt(m / total) * sd, spread)
        self.mean += gap * (m / total)


class _Cuts:
    """All limits that the values of a column are counted between, and what the counts mean."""

    def __init__(self, column: NumericProfile) -> None:
        edges = np.array(column.edges, dtype=np.float64)
        low, high = column.min, column.max
        limits = [0.0, _TINIEST]
        self._has_range = low is not None and high is not None
        if low is not None and high is not None:
            # The size is the span or the magnitude, whichever is larger: 236 is not far from
            # 200..214, nor is -3 from 5..35.
            size = max(high - low, abs(low), abs(high))
            limits += [low, _after(high), low - size, _after(high + size)]
            # Twenty times nearer to zero than the range, on its side of it.
            if low > 0:
                limits += [_TINIEST, low / 20]
            elif high < 0:
                limits += [_after(high / 20), 0.0]
        self._bins = edges.size + 2
        self.cuts = np.concatenate([[_LOWEST], edges, [np.inf], limits])
        """Unsorted; the first `edges + 2` part the finite values into bins."""
        self.starts = np.concatenate([[0], np.searchsorted(edges, column.groups) + 1])
        """The first bin of each group."""

    def bins(self, below: np.ndarray) -> np.ndarray:
        """Return rows in each bin, shape (strata, bins), from rows below each cut."""
        return np.diff(below[:, : self._bins], axis=1)

    def extras(self, below: np.ndarray) -> tuple[int, int, int]:
        """Return how many values are not zero, outside of the range, and far outside."""
        least, end = int(below[0]), int(below[self._bins - 1])
        zero, positive, *rest = (int(n) for n in below[self._bins :])
        non_zero = end - least - (positive - zero)
        if not self._has_range:
            return non_zero, 0, 0
        low, high, far_low, far_high, *near = rest
        outside = (low - least) + (end - high)
        # below -inf nothing is finite: a limit that overflowed counts no infinity
        far = (max(far_low, least) - least) + (end - min(far_high, end))
        return non_zero, outside, far + (max(near[1] - near[0], 0) if near else 0)


def _after(value: float) -> float:
    return math.nextafter(value, math.inf)


def _moments(values: np.ndarray, largest: float) -> tuple[float, float]:
    """Return mean and standard deviation of values of at most this magnitude.

    No np.dot: its threads cost four times the CPU.
    """
    scale = largest if largest > _HUGE else 1.0
    scaled = values if scale == 1.0 else values / scale
    mean = float(scaled.mean())
    gaps = scaled - mean
    return mean * scale, math.sqrt(float(np.einsum("i,i->", gaps, gaps)) / len(values)) * scale


@dataclass
class CategoricalTally:
    """Counts levels; which of them the reference has is asked at the end."""

    column: CategoricalProfile
    strata: int
    max_levels: int | None
    """How many levels the reference may name, whose own rows these are; None for later rows."""
    nulls: int = 0
    rest: int = 0
    """Rows of levels that are too rare and too many to be tracked."""
    levels: Counter[str] = field(default_factory=Counter)
    joint: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.joint = _no_joint(self.column, self.strata)
        self._known: tuple[Sequence[str], np.ndarray] | None = None

    def count(self, values: Levels, strata: Strata) -> None:
        codes = values.codes
        names: Sequence[str] = values.names
        if len(names) > len(codes):  # a dictionary of more rows than these
            used, codes = np.unique(codes, return_inverse=True)
            names = [str(names[code]) if code >= 0 else "" for code in used.tolist()]
            codes = np.where(used[codes] < 0, -1, codes)
        width = strata.number + 1
        places = codes.astype(np.intp)
        places += 1
        places *= width
        places += strata.codes
        counts = np.bincount(places, minlength=(len(names) + 1) * width).reshape(-1, width)
        rows = counts.sum(axis=1)
        self.nulls += int(rows[0])
        for place in np.flatnonzero(rows[1:]):
            self.levels[names[int(place)]] += int(rows[place + 1])
        if self.joint.size:
            np.add.at(self.joint, self._groups(names), counts[:, :-1])
        self._bound()

    def merge(self, other: CategoricalTally) -> None:
        self.nulls += other.nulls
        self.rest += other.rest
        self.levels.update(other.levels)
        self.joint = _sum_of(self.joint, other.joint)
        self._bound()

    def count_nulls(self, strata: Strata) -> None:
        """Count rows that lack the column."""
        self.count(Levels(np.full(len(strata.codes), -1), ()), strata)

    def profile(self) -> CategoricalProfile:
        kept = {"nulls": self.nulls, "groups": self.column.groups, "joint": _as_joint(self.joint)}
        if self.max_levels is not None:
            top = most_common(self.levels, self.max_levels)
            other = self.levels.total() - sum(top.values()) + self.rest
            return CategoricalProfile(levels=top, other=other, **kept)
        known = self.column.levels
        levels = {name: self.levels[name] for name in known if name in self.levels}
        unlisted = Counter({n: rows for n, rows in self.levels.items() if n not in known})
        if self.column.other:
            other = unlisted.total() + self.rest
            return CategoricalProfile(levels=levels, other=other, **kept)
        return CategoricalProfile(levels=levels, **unseen_levels(unlisted, self.rest), **kept)

    def _groups(self, names: Sequence[str]) -> np.ndarray:
        """Return the group of nulls and of each name."""
        if self._known is None or self._known[0] is not names:
            groups = {name: place for place, name in enumerate(self.column.groups)}
            rest, null = len(groups), len(groups) + 1
            self._known = names, np.array([null, *(groups.get(name, rest) for name in names)])
        return self._known[1]

    def _bound(self) -> None:
        listed = self.column.levels
        if len(self.levels) <= len(listed) + TRACKED_LEVELS:
            return
        unlisted = Counter({n: rows for n, rows in self.levels.items() if n not in listed})
        kept = most_common(unlisted, TRACKED_LEVELS // 2)
        self.rest += unlisted.total() - sum(kept.values())
        self.levels = Counter({n: r for n, r in self.levels.items() if n in listed} | kept)


def merge_categorical(x: CategoricalProfile, y: CategoricalProfile) -> CategoricalProfile:
    """Return the profile of the rows of two profiles on the same reference."""
    joint = _sum_of(np.array(x.joint, dtype=np.int64), np.array(y.joint, dtype=np.int64))
    return CategoricalProfile(
        nulls=x.nulls + y.nulls,
        levels=dict(Counter(x.levels) + Counter(y.levels)),
        other=x.other + y.other,
        groups=x.groups,
        joint=_as_joint(joint),
        **unseen_levels(Counter(x.unseen) + Counter(y.unseen), x.unseen_other + y.unseen_other),
    )


def merge_numeric(x: NumericProfile, y: NumericProfile) -> NumericProfile:
    """Return the profile of the rows of two profiles on the same edges."""
    tally = NumericTally.of(x)
    tally.merge(NumericTally.of(y))
    return tally.profile()


def most_common(counter: Counter[str], limit: int) -> dict[str, int]:
    """Return the most frequent levels; of equally frequent ones the first by name."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:limit])


def unseen_levels(unlisted: Counter[str], rest: int) -> dict:
    top = most_common(unlisted, MAX_UNSEEN_LEVELS)
    return {"unseen": top, "unseen_other": unlisted.total() - sum(top.values()) + rest}


def _no_joint(column: NumericProfile | CategoricalProfile, strata: int) -> np.ndarray:
    """Return joint counts of no rows: the groups, one more, and the nulls."""
    return np.zeros((len(column.groups) + 2, strata) if strata else (0,), dtype=np.int64)


def _sum_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the sum of joint counts; none where one of both has none: it would be of a part."""
    return x + y if x.shape == y.shape else np.zeros(0, dtype=np.int64)


def _as_joint(joint: np.ndarray) -> Joint:
    return tuple(map(tuple, joint.tolist())) if joint.size else ()
