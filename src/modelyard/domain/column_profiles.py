"""What is kept of a column's rows?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelyard.domain.values import Value

Joint = tuple[tuple[int, ...], ...]
"""Rows by group of the column, then by group of the prediction. The last group of the column is its
nulls; rows without a prediction are left out. Empty where predictions fall in no groups."""


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
    groups: tuple[float, ...] = ()
    """Those of the edges that part the reference's values into tenths."""
    joint: Joint = ()

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
    groups: tuple[str, ...] = ()
    """The reference's most frequent levels, a group each; all others are one more."""
    joint: Joint = ()

    @property
    def unseen_rows(self) -> int:
        return sum(self.unseen.values()) + self.unseen_other

    @property
    def present(self) -> int:
        return sum(self.levels.values()) + self.other + self.unseen_rows


ColumnProfile = Annotated[NumericProfile | CategoricalProfile, Field(discriminator="kind")]
