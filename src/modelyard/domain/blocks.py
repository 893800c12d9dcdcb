"""How are rows handed to what counts them?"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Levels:
    """The rows of a categorical column, as places in a list of its levels."""

    codes: np.ndarray
    """Integers of shape (rows,); -1 for a null."""
    names: Sequence[str]
    """A name may be there twice. The same object in the next block is recognized, which is fast."""

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> Levels:
        return Levels(self.codes[rows], self.names)


def as_levels(values: Iterable[Hashable]) -> Levels:
    """Encode plain values by their texts; nulls are None, NaN and NaT: unequal to itself."""
    places: dict[Hashable, int] = {}
    codes = [-1 if v is None or v != v else places.setdefault(v, len(places)) for v in values]
    return Levels(np.array(codes, dtype=np.int64), [str(value) for value in places])


@dataclass(frozen=True)
class Strata:
    """The rows of a block by the group of their prediction."""

    codes: np.ndarray
    """Shape (rows,), 0 to number; `number` where there is no prediction."""
    number: int

    @cached_property
    def order(self) -> np.ndarray:
        return np.argsort(self.codes, kind="stable")

    @cached_property
    def sizes(self) -> np.ndarray:
        return np.bincount(self.codes, minlength=self.number + 1)

    @cached_property
    def bounds(self) -> list[int]:
        """Where each stratum starts in `order`, and the end of the last."""
        return [0, *np.cumsum(self.sizes).tolist()]
