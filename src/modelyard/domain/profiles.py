"""What do the rows of a reference or of a window look like, in a few kilobytes?

One pass over the columns; everything that drift and data quality are judged by is in the profile,
so the rows are not needed again. Profiles on the same reference merge: the profile of a week is
the sum of the profiles of its days, exactly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import reduce
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from modelyard.domain.values import ColumnKind, Value
from modelyard.errors import InvalidInputError

PREDICTION = "prediction"
"""Name under which the model's own output is profiled beside the features."""

BINS = 128
"""Equal-mass bins of a numeric column: the Kolmogorov-Smirnov distance is then exact to about
2e-4, far below what a window of a million rows can tell from noise."""
MAX_LEVELS = 1_000
MAX_UNSEEN_LEVELS = 100
_BLOCK_ROWS = 65_536  # sorting blocks that fit the cache is three times faster than searching


class NumericProfile(Value):
    """A numeric column. Moments are of the present values; infinities count as nulls."""

    kind: Literal["numeric"] = "numeric"
    nulls: int
    edges: tuple[float, ...]
    """Inner edges of the bins, ascending; bin i is [edges[i-1], edges[i]), the outer two open."""
    counts: tuple[int, ...]
    """Rows in each bin, one more than edges."""
    mean: float = 0.0
    sd: float = 0.0
    min: float | None = None
    max: float | None = None
    log_mean: float | None = None
    """Mean of log10(abs(value)) over non-zero values: a new unit moves it, outliers do not."""
    non_zero: int = 0
    outside: int = 0
    """Rows beyond the reference's smallest or largest value."""
    far_outside: int = 0
    """Rows that no season explains: beyond that range by more than its size, or of another order
    of magnitude, as a change of unit in part of the rows leaves behind."""

    @property
    def present(self) -> int:
        return sum(self.counts)


class CategoricalProfile(Value):
    """A categorical column."""

    kind: Literal["categorical"] = "categorical"
    nulls: int
    levels: dict[str, int]
    """Rows of each level of the reference, the most frequent ones."""
    other: int = 0
    """Rows of the reference's rarer levels. Where there are such, a level that is not listed may
    be one of them, so nothing counts as unseen."""
    unseen: dict[str, int] = Field(default_factory=dict)
    """Rows of levels that the reference does not have, the most frequent ones."""
    unseen_other: int = 0
    """Rows of further levels that the reference does not have."""

    @property
    def unseen_rows(self) -> int:
        return sum(self.unseen.values()) + self.unseen_other

    @property
    def present(self) -> int:
        return sum(self.levels.values()) + self.other + self.unseen_rows


ColumnProfile = Annotated[NumericProfile | CategoricalProfile, Field(discriminator="kind")]


class Profile(Value):
    """The columns of some rows; JSON-shaped, to be stored with a release or a window."""

    rows: int
    columns: dict[str, ColumnProfile]


def profile_reference(
    columns: Mapping[str, np.ndarray],
    kinds: Mapping[str, ColumnKind],
    *,
    bins: int = BINS,
    max_levels: int = MAX_LEVELS,
) -> Profile:
    """Profile the rows that later windows are compared with, and fix the bins and levels.

    Args:
        columns: one array per name, all of shape (rows,): float64 with NaN for numeric columns,
            objects of str or None for categorical ones.
        kinds: the kind of every column to profile.

    Raises InvalidInputError for no rows, a missing column or unequal lengths.
    """
    rows = _row_count(columns)
    missing = sorted(set(kinds) - set(columns))
    if missing or rows == 0:
        problem = f"lacks {', '.join(missing)}" if missing else "has no rows"
        raise InvalidInputError(
            f"The reference {problem}. Profile the rows that the release was evaluated on, "
            "with all its features."
        )
    profiles: dict[str, ColumnProfile] = {}
    for name, kind in kinds.items():
        if kind is ColumnKind.NUMERIC:
            present = _present(columns[name])
            low, high = (present.min(), present.max()) if present.size else (0.0, 0.0)
            edges = equal_mass_edges(present, bins)
            profiles[name] = _numeric_profile(present, rows, edges, float(low), float(high))
        else:
            counter, nulls = _count_levels(columns[name])
            top = _most_common(counter, max_levels)
            profiles[name] = CategoricalProfile(
                nulls=nulls, levels=top, other=counter.total() - sum(top.values())
            )
    return Profile(rows=rows, columns=profiles)


def profile_window(columns: Mapping[str, np.ndarray], reference: Profile) -> Profile:
    """Profile a window on the bins and levels of its reference.

    A column that the window lacks is profiled as all null; one that the reference lacks is left
    out. Zero rows are allowed. Raises InvalidInputError for unequal lengths.
    """
    rows = _row_count(columns)
    profiles: dict[str, ColumnProfile] = {}
    for name, known in reference.columns.items():
        absent = name not in columns
        if isinstance(known, NumericProfile):
            present = np.empty(0) if absent else _present(columns[name])
            low = 0.0 if known.min is None else known.min
            high = 0.0 if known.max is None else known.max
            profiles[name] = _numeric_profile(present, rows, np.array(known.edges), low, high)
        else:
            counter, nulls = (Counter(), rows) if absent else _count_levels(columns[name])
            profiles[name] = _categorical_profile(counter, nulls, known)
    return Profile(rows=rows, columns=profiles)


def merge_profiles(first: Profile, *others: Profile) -> Profile:
    """Return the profile of all rows together, as if they had been profiled at once.

    Raises InvalidInputError where the profiles are not on the same reference.
    """
    return reduce(_merge_two, others, first)


def _merge_two(a: Profile, b: Profile) -> Profile:
    if a.columns.keys() != b.columns.keys():
        raise InvalidInputError(
            "Profiles with different columns cannot be merged: only one has "
            f"{', '.join(sorted(a.columns.keys() ^ b.columns.keys()))}. "
            "Profile both windows against the same reference."
        )
    merged: dict[str, ColumnProfile] = {}
    for name, x in a.columns.items():
        y = b.columns[name]
        if isinstance(x, NumericProfile) and isinstance(y, NumericProfile) and x.edges == y.edges:
            merged[name] = _merge_numeric(x, y)
        elif isinstance(x, CategoricalProfile) and isinstance(y, CategoricalProfile):
            unseen = Counter(x.unseen) + Counter(y.unseen)
            top = _most_common(unseen, MAX_UNSEEN_LEVELS)
            merged[name] = CategoricalProfile(
                nulls=x.nulls + y.nulls,
                levels=dict(Counter(x.levels) + Counter(y.levels)),
                other=x.other + y.other,
                unseen=top,
                unseen_other=x.unseen_other + y.unseen_other + unseen.total() - sum(top.values()),
            )
        else:
            raise InvalidInputError(
                f"Profiles of column {name!r} lie on different bins. "
                "Profile both windows against the same reference."
            )
    return Profile(rows=a.rows + b.rows, columns=merged)


def _merge_numeric(x: NumericProfile, y: NumericProfile) -> NumericProfile:
    n, m = x.present, y.present
    total = max(n + m, 1)
    non_zero = x.non_zero + y.non_zero
    gap = y.mean - x.mean
    # Chan, Golub and LeVeque (1979): squared deviations of two parts, without cancellation.
    squares = n * x.sd**2 + m * y.sd**2 + gap**2 * n * m / total
    lows = [v for v in (x.min, y.min) if v is not None]
    highs = [v for v in (x.max, y.max) if v is not None]
    logs = x.non_zero * (x.log_mean or 0.0) + y.non_zero * (y.log_mean or 0.0)
    return NumericProfile(
        nulls=x.nulls + y.nulls,
        edges=x.edges,
        counts=tuple(np.add(x.counts, y.counts).tolist()),
        mean=(n * x.mean + m * y.mean) / total,
        sd=math.sqrt(squares / total),
        min=min(lows, default=None),
        max=max(highs, default=None),
        log_mean=logs / non_zero if non_zero else None,
        non_zero=non_zero,
        outside=x.outside + y.outside,
        far_outside=x.far_outside + y.far_outside,
    )


def _numeric_profile(
    present: np.ndarray, rows: int, edges: np.ndarray, low: float, high: float
) -> NumericProfile:
    """Profile the present values of a column on `edges`, given the reference's range."""
    nulls = rows - present.size
    counts = tuple(_bin_counts(present, edges).tolist())
    if not present.size:
        return NumericProfile(nulls=nulls, edges=tuple(edges.tolist()), counts=counts)
    magnitudes = np.abs(present[present != 0])
    largest = max(float(np.abs(present).max()), 1.0)
    return NumericProfile(
        nulls=nulls,
        edges=tuple(edges.tolist()),
        counts=counts,
        mean=float(present.mean())
        if largest < 1e150
        else float((present / largest).mean()) * largest,
        sd=float((present / largest).std()) * largest,  # the square of 1e200 overflows
        min=float(present.min()),
        max=float(present.max()),
        log_mean=float(np.log10(magnitudes).mean()) if magnitudes.size else None,
        non_zero=magnitudes.size,
        outside=int(np.sum((present < low) | (present > high))),
        far_outside=_far_outside(present, low, high),
    )


def _far_outside(present: np.ndarray, low: float, high: float) -> int:
    """Count values beyond low..high by more than its size, or twenty times nearer to zero.

    The size is the span or the magnitude, whichever is larger: 236 is not far from 200..214, nor
    is -3 from 5..35.
    """
    size = max(high - low, abs(low), abs(high))
    far = (present < low - size) | (present > high + size)
    if low > 0:
        far |= (present > 0) & (present < low / 20)
    elif high < 0:
        far |= (present < 0) & (present > high / 20)
    return int(far.sum())


def _categorical_profile(
    counter: Counter[str], nulls: int, known: CategoricalProfile
) -> CategoricalProfile:
    unlisted = Counter({level: n for level, n in counter.items() if level not in known.levels})
    levels = {level: counter[level] for level in known.levels if level in counter}
    if known.other:
        return CategoricalProfile(nulls=nulls, levels=levels, other=unlisted.total())
    top = _most_common(unlisted, MAX_UNSEEN_LEVELS)
    return CategoricalProfile(
        nulls=nulls,
        levels=levels,
        unseen=top,
        unseen_other=unlisted.total() - sum(top.values()),
    )


def equal_mass_edges(present: np.ndarray, bins: int) -> np.ndarray:
    """Return inner bin edges at the quantiles; a value with more than a bin's mass gets its own."""
    if not present.size:
        return np.empty(0)
    quantiles = np.quantile(present, np.arange(1, bins) / bins, method="inverted_cdf")
    repeated = quantiles[:-1][np.diff(quantiles) == 0]
    return np.unique(np.concatenate([quantiles, np.nextafter(repeated, np.inf)]))


def _bin_counts(present: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many values lie in each bin, shape (edges + 1,)."""
    counts = np.zeros(edges.size + 1, dtype=np.int64)
    for start in range(0, present.size, _BLOCK_ROWS):
        block = np.sort(present[start : start + _BLOCK_ROWS])
        below = np.searchsorted(block, edges, side="left")
        counts += np.diff(below, prepend=0, append=block.size)
    return counts


def _present(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return values[np.isfinite(values)]


def _count_levels(values: np.ndarray) -> tuple[Counter[str], int]:
    """Return the rows of every level, and the nulls (None, NaN or NaT: unequal to itself)."""
    counter: Counter[str] = Counter()
    nulls = 0
    for level, rows in Counter(values.tolist()).items():
        if level is None or level != level:
            nulls += rows
        else:
            counter[str(level)] += rows
    return counter, nulls


def _most_common(counter: Counter[str], limit: int) -> dict[str, int]:
    """Return the most frequent levels; of equally frequent ones the first by name."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:limit])


def _row_count(columns: Mapping[str, np.ndarray]) -> int:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(
            f"Columns of one window must have the same number of rows, but have {lengths}."
        )
    return next(iter(lengths.values()), 0)
