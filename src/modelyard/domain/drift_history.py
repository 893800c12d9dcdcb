"""Has a column moved further than it does from window to window by itself?

Days differ: rows of one window are not independent draws, and a test that takes them for such
alarms on every other Tuesday. What windows of the past did by themselves is the yardstick: a share
of rows is compared with the same share in the windows before, in units of how much it varied among
them. Shares are signed and of many rows, so they are near Gaussian from window to
window, where distances (which are folded at zero) are not.

Both its distance from what was usual and the step from the last window are looked at (`variation`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from modelyard.domain.drift_tests import MIN_PRESENT, DriftFinding, DriftTest, found
from modelyard.domain.profiles import (
    CategoricalProfile,
    ColumnProfile,
    NumericProfile,
    Profile,
)
from modelyard.domain.statistics import harmonic_tail
from modelyard.domain.values import Value
from modelyard.domain.variation import Drawn, Past, estimate_memory

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
_STILL = 0.95
"""Share of a window's rows between two of the reference's deciles, from which they held still."""


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

    def __init__(
        self,
        reference: Profile,
        windows: Sequence[WindowShares],
        last: WindowShares | None = None,
    ) -> None:
        """Take the windows, oldest first, and the one just before, where it is known and quiet."""
        self._reference = reference
        self._windows = windows[:MOST_WINDOWS]
        self._last = last
        past = [self._past(name) for name in reference.columns]
        self._memory = estimate_memory([p for p in past if p is not None])

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
        last = self._last and self._last.columns.get(name)
        return _moved(
            name,
            DriftTest.DISTRIBUTION if is_numeric else DriftTest.LEVELS,
            past,
            Drawn(shares, window.present),
            Drawn(np.array(last.shares), last.present) if last and last.shares else None,
            self._memory,
            [f"of the rows {'below' if is_numeric else 'in'} {place}" for place in places],
        )

    def compare_nulls(self, name: str, window: ColumnProfile) -> DriftFinding | None:
        """Return whether the null rate moved further than by itself.

        None where no window before had a null: then the first ones need no yardstick.
        """
        seen = [w.columns[name] for w in self._windows if name in w.columns]
        if len(seen) < _MIN_OF_COLUMN or not any(c.nulls for c in seen):
            return None
        every = [_nulls_of(c) for c in seen]
        rows = np.array([drawn.rows for drawn in every])
        if not rows.all():
            return None
        past = Past(np.array([drawn.shares for drawn in every]), rows)
        last = self._last and self._last.columns.get(name)
        before = _nulls_of(last) if last and last.present + last.nulls else None
        return _moved(
            name, DriftTest.NULLS, past, _nulls_of(window), before, self._memory, ["nulls"]
        )

    def _past(self, name: str) -> Past | None:
        seen = [w.columns[name] for w in self._windows if name in w.columns]
        seen = [column for column in seen if column.present >= MIN_PRESENT]
        if len(seen) < _MIN_OF_COLUMN or not seen[0].shares:
            return None
        return Past(np.array([c.shares for c in seen]), np.array([c.present for c in seen]))


def _moved(
    name: str,
    test: DriftTest,
    past: Past,
    seen: Drawn,
    last: Drawn | None,
    memory: float,
    what: Sequence[str],
) -> DriftFinding:
    """Return how far shares moved; `what` says of each what it is a share of."""
    tails = past.level_tails(seen, memory)[None, :]
    if last is not None:
        tails = np.vstack([tails, past.step_tails(seen, last, memory)])
    is_step, place = divmod(int(tails.argmin()), tails.shape[1])
    share = float(seen.shares[place])
    usual, spread = past.shares[:, place].mean(), past.shares[:, place].std()
    after = f" after {last.shares[place]:.1%}" if last is not None and is_step else ""
    return found(
        name,
        test,
        statistic=float(share - usual),
        p_value=harmonic_tail(tails),
        effect=abs(float(share - usual)),
        words=f"{share:.1%} {what[place]}{after}, {usual:.1%} ± {spread:.1%} in "
        f"{len(past.rows)} windows before",
    )


def _nulls_of(column: ColumnShares | ColumnProfile) -> Drawn:
    rows = column.present + column.nulls
    return Drawn(np.array([column.nulls / max(rows, 1)]), rows)


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
