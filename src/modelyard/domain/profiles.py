"""What do the rows of a reference or of a window look like, in a few kilobytes?

One pass over the rows, in batches of any size; everything that drift and data quality are judged by
is in the profile, so the rows are not needed again. Profiles on the same reference merge: the
profile of a week is the sum of the profiles of its days, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np

from modelyard.domain.blocks import Levels, Strata, as_levels
from modelyard.domain.column_profiles import (
    CategoricalProfile,
    ColumnProfile,
    NumericProfile,
)
from modelyard.domain.tallies import (
    CategoricalTally,
    NumericTally,
    merge_categorical,
    merge_numeric,
    most_common,
)
from modelyard.domain.values import ColumnKind, Value
from modelyard.errors import InvalidInputError

__all__ = [
    "PREDICTION",
    "SCORE",
    "CategoricalProfile",
    "ColumnProfile",
    "Columns",
    "Levels",
    "NumericProfile",
    "Profile",
    "ProfileBuilder",
    "ReferenceSample",
    "equal_mass_edges",
    "merge_profiles",
    "profile_reference",
    "profile_window",
]

PREDICTION = "prediction"
"""Name under which the model's own output is profiled beside the features."""
SCORE = "prediction score"
"""Name of the probability that came with it: of the positive class for two classes, of the
predicted one for more."""

BINS = 130
"""Equal-mass bins of a numeric column: the Kolmogorov-Smirnov distance is then exact to about
2e-4, far below what a window of a million rows can tell from noise. Tenths are among them."""
GROUPS = 10
"""Groups of a column, and of the prediction, whose rows are counted jointly."""
MAX_LEVELS = 1_000
SAMPLE_ROWS = 200_000
"""Rows that the bins are laid by, at most: a bin's mass is then off by a few per cent of itself."""
BLOCK_ROWS = 32_768
"""Blocks that fit the cache are sorted faster, and need less new memory from the system."""
_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, lie evenly however many there are, and in step with no season."""

Columns = Mapping[str, np.ndarray | Levels]
"""The columns of some rows, all of shape (rows,): float64 with NaN, or levels; objects of str or
None are encoded."""


class Profile(Value):
    """The columns of some rows; JSON-shaped, to be stored with a release or a window."""

    rows: int
    columns: dict[str, ColumnProfile]


class ProfileBuilder:
    """Counts batches of rows on the bins, levels and groups of a reference.

    Batches may be counted by several builders, which are then merged. The order changes no count,
    only the last digits of means. Of more levels than `TRACKED_LEVELS` that the reference does not
    list, the rarest are counted together.
    """

    def __init__(
        self, reference: Profile, *, learns_levels: bool = False, max_levels: int = MAX_LEVELS
    ) -> None:
        """Start with no rows; `learns_levels` where they are the reference's own."""
        self._reference = reference
        self._learns = learns_levels
        self._max_levels = max_levels
        predicted = reference.columns.get(PREDICTION)
        self._strata = len(predicted.groups) + 1 if predicted and predicted.groups else 0
        self._rows = 0
        self._tallies = {name: self._tally(name) for name in reference.columns}

    def fresh(self) -> ProfileBuilder:
        """Return a builder with no rows, to count others that are merged into this one."""
        return ProfileBuilder(
            self._reference, learns_levels=self._learns, max_levels=self._max_levels
        )

    def add(self, columns: Columns) -> None:
        """Count a batch.

        A column that the batch lacks is all null in it; one that the reference lacks is left out.
        Zero rows are allowed. Raises InvalidInputError for unequal lengths.
        """
        rows = _row_count(columns)
        ready = {
            name: _encoded(columns[name], numeric=isinstance(tally, NumericTally))
            for name, tally in self._tallies.items()
            if name in columns
        }
        for start in range(0, rows, BLOCK_ROWS):
            block = slice(start, min(start + BLOCK_ROWS, rows))
            self._add_block({name: values[block] for name, values in ready.items()}, block)
        self._rows += rows

    def merge(self, other: ProfileBuilder) -> None:
        """Add the rows that another builder on the same reference counted."""
        self._rows += other._rows
        for name, tally in self._tallies.items():
            tally.merge(other._tallies[name])

    def profile(self) -> Profile:
        """Return the profile of the rows so far."""
        return Profile(
            rows=self._rows,
            columns={name: tally.profile() for name, tally in self._tallies.items()},
        )

    def _add_block(self, columns: dict[str, np.ndarray | Levels], block: slice) -> None:
        rows = block.stop - block.start
        strata = self._stratify(columns.get(PREDICTION), rows)
        for name, tally in self._tallies.items():
            if name in columns:
                tally.count(columns[name], strata)
            else:
                tally.count_nulls(strata)

    def _stratify(self, predicted: np.ndarray | Levels | None, rows: int) -> Strata:
        """Return the rows by the group of their prediction."""
        number = self._strata
        if not number or predicted is None:
            return Strata(np.full(rows, number, dtype=np.uint8), number)
        column = self._reference.columns[PREDICTION]
        if isinstance(predicted, Levels):
            groups = {name: place for place, name in enumerate(column.groups)}
            places = [groups.get(name, number - 1) for name in predicted.names]
            return Strata(np.array([*places, number], dtype=np.uint8)[predicted.codes], number)
        codes = np.zeros(rows, dtype=np.uint8)
        for edge in column.groups:  # ten times faster than a search of each value
            codes += predicted >= edge
        codes[~np.isfinite(predicted)] = number
        return Strata(codes, number)

    def _tally(self, name: str) -> Any:
        """Return a tally of a column: numeric ones take arrays, categorical ones levels."""
        column = self._reference.columns[name]
        strata = 0 if name in (PREDICTION, SCORE) else self._strata
        if isinstance(column, NumericProfile):
            return NumericTally(column, strata)
        return CategoricalTally(column, strata, self._max_levels if self._learns else None)


class ReferenceSample:
    """Lays the bins and groups of a reference by rows that are spread over all of it.

    Rows are offered in batches, as many as there are; of more than `most` it keeps evenly spread
    ones, the same in every run.
    """

    def __init__(
        self, kinds: Mapping[str, ColumnKind], *, bins: int = BINS, most: int = SAMPLE_ROWS
    ) -> None:
        self._bins, self._most = bins, most
        self._share = 1.0
        self._seen = 0
        self._turns = [np.empty(0)]
        self._numbers = {n: [np.empty(0)] for n, k in kinds.items() if k is ColumnKind.NUMERIC}
        no_level = CategoricalProfile(nulls=0, levels={})
        self._levels = {name: CategoricalTally(no_level, 0, None) for name in kinds}
        self._kinds = dict(kinds)

    def add(self, columns: Columns) -> None:
        """Offer a batch. Raises InvalidInputError for a missing column or unequal lengths."""
        rows = _row_count(columns)
        missing = sorted(set(self._kinds) - set(columns))
        if missing:
            raise InvalidInputError(
                f"The reference lacks {', '.join(missing)}. {_REFERENCE_ADVICE}"
            )
        turns = np.modf((self._seen + np.arange(rows)) * _GOLDEN)[0]
        self._seen += rows
        chosen = turns < self._share
        self._turns.append(turns[chosen])
        whole = Strata(np.zeros(rows, dtype=np.uint8), 0)
        for name, kind in self._kinds.items():
            values = _encoded(columns[name], numeric=kind is ColumnKind.NUMERIC)
            if isinstance(values, Levels):
                self._levels[name].count(values, whole)
            else:
                self._numbers[name].append(values[chosen])
        while sum(map(len, self._turns)) > self._most:
            self._halve()

    def bins(self) -> Profile:
        """Return a profile of no rows, on which the reference's own are then counted.

        Raises InvalidInputError where no rows were offered.
        """
        if not self._seen:
            raise InvalidInputError(f"The reference has no rows. {_REFERENCE_ADVICE}")
        columns: dict[str, ColumnProfile] = {}
        for name, kind in self._kinds.items():
            if kind is ColumnKind.NUMERIC:
                values = np.concatenate(self._numbers[name])
                present = values[np.isfinite(values)]
                groups = equal_mass_edges(present, GROUPS)
                edges = np.union1d(equal_mass_edges(present, self._bins), groups)
                columns[name] = NumericProfile(
                    nulls=0,
                    edges=tuple(edges.tolist()),
                    counts=(0,) * (edges.size + 1),
                    groups=tuple(groups.tolist()),
                )
            else:
                levels = self._levels[name].levels
                top = most_common(levels, GROUPS if len(levels) <= GROUPS else GROUPS - 1)
                columns[name] = CategoricalProfile(nulls=0, levels={}, groups=tuple(top))
        return Profile(rows=0, columns=columns)

    def _halve(self) -> None:
        """Keep evenly spread rows of those that were kept."""
        turns = np.concatenate(self._turns)
        self._share /= 2
        chosen = turns < self._share
        self._turns = [turns[chosen]]
        self._numbers = {n: [np.concatenate(v)[chosen]] for n, v in self._numbers.items()}


_REFERENCE_ADVICE = "Profile the rows that the release was evaluated on, with all its features."


def profile_reference(
    columns: Columns,
    kinds: Mapping[str, ColumnKind],
    *,
    bins: int = BINS,
    max_levels: int = MAX_LEVELS,
) -> Profile:
    """Profile the rows that later windows are compared with, and fix the bins and levels.

    Args:
        columns: one array per name, all of shape (rows,): float64 with NaN for numeric columns,
            levels or objects of str or None for categorical ones.
        kinds: the kind of every column to profile.

    Raises InvalidInputError for no rows, a missing column or unequal lengths.
    """
    sample = ReferenceSample(kinds, bins=bins)
    _row_count(columns)
    encoded = {
        name: _encoded(columns[name], numeric=kind is ColumnKind.NUMERIC)
        for name, kind in kinds.items()
        if name in columns
    }
    sample.add(encoded)
    builder = ProfileBuilder(sample.bins(), learns_levels=True, max_levels=max_levels)
    builder.add(encoded)
    return builder.profile()


def profile_window(columns: Columns, reference: Profile) -> Profile:
    """Profile a window on the bins and levels of its reference, as `ProfileBuilder.add` says."""
    builder = ProfileBuilder(reference)
    builder.add(columns)
    return builder.profile()


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
            merged[name] = merge_numeric(x, y)
        elif isinstance(x, CategoricalProfile) and isinstance(y, CategoricalProfile):
            merged[name] = merge_categorical(x, y)
        else:
            raise InvalidInputError(
                f"Profiles of column {name!r} lie on different bins. "
                "Profile both windows against the same reference."
            )
    return Profile(rows=a.rows + b.rows, columns=merged)


def equal_mass_edges(present: np.ndarray, bins: int) -> np.ndarray:
    """Return inner bin edges at the quantiles; a value with more than a bin's mass gets its own."""
    if not present.size:
        return np.empty(0)
    ranks = -(-np.arange(1, bins) * present.size // bins)  # rounded up
    quantiles = np.sort(present)[ranks - 1]
    repeated = quantiles[:-1][np.diff(quantiles) == 0]
    return np.unique(np.concatenate([quantiles, np.nextafter(repeated, np.inf)]))


def _encoded(values: np.ndarray | Levels, *, numeric: bool) -> np.ndarray | Levels:
    if isinstance(values, Levels):
        return values
    return np.asarray(values, dtype=np.float64) if numeric else as_levels(values.tolist())


def _row_count(columns: Columns) -> int:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(
            f"Columns of one window must have the same number of rows, but have {lengths}."
        )
    return next(iter(lengths.values()), 0)
