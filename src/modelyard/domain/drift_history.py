"""Has a column moved further than it does from window to window by itself?

Days differ: rows of one window are not independent draws, and a test that takes them for such
alarms on every other Tuesday. What windows of the past did by themselves is the yardstick: a share
of rows is compared with the mean of the same share in the windows before, in units of how much it
varied among them. Shares are signed and of many rows, so they are near Gaussian from window to
window, where distances (which are folded at zero) are not.

The shares are taken to the angular scale, on which the part of the variance that comes from drawing
n rows is 1/(4n) for every share (Anscombe 1948, "The transformation of Poisson, binomial and
negative-binomial data"): windows of unequal size can be compared. The bound is Student's
prediction interval, with as many windows as independent ones would tell the same (Bayley and
Hammersley 1946, "The 'effective' number of independent observations in an autocorrelated time
series").
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from modelyard.domain.drift_tests import MIN_PRESENT, DriftFinding, DriftTest, found
from modelyard.domain.profiles import (
    CategoricalProfile,
    ColumnProfile,
    NumericProfile,
    Profile,
)
from modelyard.domain.values import Value

MIN_WINDOWS = 20
"""Windows of history from which it is the yardstick."""
MOST_WINDOWS = 60
"""That are looked at: the first ones, since a yardstick that grew with slow drift would hide it."""
_MIN_OF_COLUMN = 10
"""Windows in which a column must have been, for it to be tested at all."""
_DECILES = np.arange(1, 10) / 10
_MIN_SHARE = 0.02
"""Of the reference's rows, below which a level is not looked at by itself."""
_MOST_LEVELS = 10
_MOST_MEMORY = 0.95
_STILL = 0.95
"""Share of a window's rows between two of the reference's deciles, from which they held still."""
_ROUNDING = 1e-9
"""Radians that an angle which never varies may seem to."""


class ColumnShares(Value):
    """What the history keeps of one column in one window."""

    present: int
    nulls: int
    shares: tuple[float, ...]
    """Of the present rows, 0..1: below each of the reference's deciles, or in each of its largest
    levels. Empty where no row is present."""
    sd: float | None = None
    """Of the present numbers; None for levels, and in records from before it was kept."""


class WindowShares(Value):
    """What the history keeps of one window: a few shares a column."""

    rows: int
    columns: dict[str, ColumnShares]


def window_shares(reference: Profile, window: Profile) -> WindowShares:
    """Return what of a window's profile the history keeps; both are on the same bins and levels."""
    return WindowShares(
        rows=window.rows,
        columns={
            name: ColumnShares(
                present=seen.present,
                nulls=seen.nulls,
                shares=_shares(reference.columns[name], seen),
                sd=seen.sd if isinstance(seen, NumericProfile) and seen.present else None,
            )
            for name, seen in window.columns.items()
            if name in reference.columns
        },
    )


def still_columns(windows: Sequence[WindowShares]) -> frozenset[str]:
    """Return the columns that hold nearly one value in a tenth of the windows, or more.

    A number of them stays for a while, like a rate that is set once a day: that is no fault of it.
    """
    still: Counter[str] = Counter()
    for window in windows:
        for name, column in window.columns.items():
            between = np.diff((0.0, *column.shares, 1.0))
            still[name] += bool(column.present and between.max() >= _STILL)
    return frozenset(name for name, count in still.items() if count >= max(len(windows) / 10, 2))


def usual_spreads(windows: Sequence[WindowShares]) -> dict[str, float]:
    """Return the median standard deviation that numeric columns have within a window.

    A column that goes with the calendar, like the number of the week, has a small one beside the
    reference's. Columns that vary in no more than two windows are left out.
    """
    seen = defaultdict[str, list[float]](list)
    for window in windows:
        for name, column in window.columns.items():
            if column.sd:
                seen[name].append(column.sd)
    return {name: float(np.median(sds)) for name, sds in seen.items() if len(sds) > 2}


class History:
    """What the windows before did by themselves; they are on the bins and levels of `reference`."""

    def __init__(self, reference: Profile, windows: Sequence[WindowShares]) -> None:
        self._reference = reference
        self._windows = windows[:MOST_WINDOWS]
        past = [self._past(name) for name in reference.columns]
        self._memory = _memory([p.angles for p in past if p is not None])

    def __len__(self) -> int:
        return len(self._windows)

    def compare(self, name: str, window: ColumnProfile) -> DriftFinding | None:
        """Return whether a column's values moved further than by themselves, before correction.

        None where too little is known of the column, or the window has next to none of it.
        """
        known, past = self._reference.columns[name], self._past(name)
        shares = np.array(_shares(known, window))
        if past is None or window.present < MIN_PRESENT or not shares.size:
            return None
        is_numeric = isinstance(known, NumericProfile)
        places = _decile_edges(known) if is_numeric else [repr(v) for v in _large_levels(known)]
        tails = past.tails(shares, window.present, self._memory)
        place = int(tails.argmin())
        return _moved(
            name,
            DriftTest.DISTRIBUTION if is_numeric else DriftTest.LEVELS,
            past,
            place,
            float(shares[place]),
            min(float(tails[place] * tails.size), 1.0),  # Bonferroni's correction inside a column
            f"of the rows {'below' if is_numeric else 'in'} {places[place]}",
        )

    def compare_nulls(self, name: str, window: ColumnProfile) -> DriftFinding | None:
        """Return whether the null rate moved further than by itself.

        None where no window before had a null: then the first ones need no yardstick.
        """
        seen = [w.columns[name] for w in self._windows if name in w.columns]
        rows = np.array([c.present + c.nulls for c in seen])
        nulls = np.array([c.nulls for c in seen])
        if len(seen) < _MIN_OF_COLUMN or not nulls.any() or not rows.all():
            return None
        past = _Past((nulls / rows)[:, None], rows)
        n = window.present + window.nulls
        share = window.nulls / n
        tail = float(past.tails(np.array([share]), n, self._memory)[0])
        return _moved(name, DriftTest.NULLS, past, 0, share, tail, "nulls")

    def _past(self, name: str) -> _Past | None:
        seen = [w.columns[name] for w in self._windows if name in w.columns]
        seen = [column for column in seen if column.present >= MIN_PRESENT]
        if len(seen) < _MIN_OF_COLUMN or not seen[0].shares:
            return None
        return _Past(np.array([c.shares for c in seen]), np.array([c.present for c in seen]))


@dataclass(frozen=True)
class _Past:
    """Shares of the same kind in the windows before."""

    shares: np.ndarray
    """Of shape (windows, shares)."""
    rows: np.ndarray
    """Of shape (windows,)."""

    @property
    def angles(self) -> np.ndarray:
        return _angle(self.shares, self.rows[:, None])

    def tails(self, shares: np.ndarray, rows: int, memory: float) -> np.ndarray:
        """Return the two-sided chance of shares at least as far off in one more window.

        No stream varies less than its own sampling; where the windows happened to, that counts.
        """
        angles = self.angles
        count = len(angles)
        independent = max(count * (1 - memory) / (1 + memory), 2.0)
        # The variance of dependent values about their own mean is too small by 1 - 1/independent.
        variance = angles.var(axis=0) / (1 - 1 / independent)
        drawing = np.mean(0.25 / self.rows)
        variance = np.maximum(variance, drawing)
        of_one_more = variance - drawing + 0.25 / rows
        error = np.sqrt(of_one_more + variance / independent)
        distance = np.abs(_angle(shares, np.array(rows)) - angles.mean(axis=0)) / error
        return 2 * stdtr(independent - 1, -distance)


def _angle(share: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return shares of so many rows on the scale on which all of them vary alike."""
    return np.arcsin(np.sqrt((share * rows + 0.375) / (rows + 0.75)))


def _memory(past: Sequence[np.ndarray]) -> float:
    """Return the autocorrelation from one window to the next, of all columns together, 0..0.95.

    Corrected for the bias that comes of taking each series about its own mean (Marriott and Pope
    1954, "Bias in the estimation of autocorrelations").
    """
    own = covariance = 0.0
    most = 0
    for angles in past:
        around = angles - angles.mean(axis=0)
        scale = around.std(axis=0)
        varies = scale > _ROUNDING
        around = around[:, varies] / scale[varies]
        own += float(np.sum(around**2)) / len(angles)
        covariance += float(np.sum(around[1:] * around[:-1])) / len(angles)
        most = max(most, len(angles))
    if not own:
        return 0.0
    raw = covariance / own
    return float(np.clip((raw * most + 1) / (most - 3), 0.0, _MOST_MEMORY))


def _moved(
    name: str, test: DriftTest, past: _Past, place: int, share: float, tail: float, what: str
) -> DriftFinding:
    usual, spread = past.shares[:, place].mean(), past.shares[:, place].std()
    return found(
        name,
        test,
        statistic=float(share - usual),
        p_value=tail,
        effect=abs(float(share - usual)),
        words=f"{share:.1%} {what}, {usual:.1%} ± {spread:.1%} in {len(past.rows)} windows before",
    )


def _shares(known: ColumnProfile, seen: ColumnProfile) -> tuple[float, ...]:
    if not seen.present:
        return ()
    if isinstance(known, NumericProfile) and isinstance(seen, NumericProfile):
        return tuple((np.cumsum(seen.counts)[_decile_bins(known)] / seen.present).tolist())
    if isinstance(known, CategoricalProfile) and isinstance(seen, CategoricalProfile):
        return tuple(seen.levels.get(level, 0) / seen.present for level in _large_levels(known))
    return ()


def _decile_bins(known: NumericProfile) -> np.ndarray:
    """Return the bins whose upper edges are nearest to the reference's deciles, each once."""
    if not known.edges:
        return np.empty(0, dtype=int)
    below = np.cumsum(known.counts)[:-1] / max(known.present, 1)
    return np.unique(np.abs(below[None, :] - _DECILES[:, None]).argmin(axis=1))


def _decile_edges(known: NumericProfile) -> list[str]:
    return [f"{known.edges[place]:.4g}" for place in _decile_bins(known)]


def _large_levels(known: CategoricalProfile) -> list[str]:
    by_rows = sorted(known.levels.items(), key=lambda level: (-level[1], level[0]))
    return [v for v, n in by_rows[:_MOST_LEVELS] if n >= _MIN_SHARE * known.present]
