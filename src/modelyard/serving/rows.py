"""How do the rows of a request arrive?

By column, or a single one, which most requests have, as it is: what its columns are called is then
looked at once for all requests that call them so, in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from modelyard.domain.values import ColumnKind, Contract

_MOST_LAYOUTS = 64
"""Clients of one service are few; what nobody asks with again is forgotten."""
_MORE_TEXT = 1000
"""Characters that names may have beside four times the contract's: what is kept has bounds."""


@dataclass(slots=True, eq=False)
class Rows:
    """The cells of n rows as they were sent, one sequence a column."""

    cells: Mapping[str, Sequence[Any]]
    count: int

    def column(self, name: str) -> Sequence[Any] | None:
        return self.cells.get(name)


class Layout:
    """Where the cells of a row are whose columns have these names, in this order."""

    __slots__ = ("names", "numbers", "places", "texts")

    def __init__(self, names: tuple[str, ...], contract: Contract) -> None:
        """The names differ from each other, and the contract's are among them."""
        self.names = names
        self.places = {name: place for place, name in enumerate(names)}
        self.numbers = self._pick(contract.names(ColumnKind.NUMERIC))
        """Takes the contract's numeric cells out of a row, in its order."""
        self.texts = self._pick(contract.names(ColumnKind.CATEGORICAL))

    def _pick(self, names: tuple[str, ...]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
        places = [self.places[name] for name in names]
        if len(places) > 1:
            return itemgetter(*places)
        return lambda row: tuple(row[place] for place in places)


@dataclass(slots=True, eq=False)
class OneRow:
    """The cells of one row as they were sent."""

    layout: Layout
    row: Sequence[Any]

    @property
    def count(self) -> int:
        return 1

    @property
    def cells(self) -> Mapping[str, Sequence[Any]]:
        return {name: (cell,) for name, cell in zip(self.layout.names, self.row, strict=True)}

    def column(self, name: str) -> Sequence[Any] | None:
        place = self.layout.places.get(name)
        return None if place is None else (self.row[place],)


class Layouts:
    """The layouts that requests to one service have."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._needed = frozenset(contract.names())
        self._most_text = 4 * sum(map(len, self._needed)) + _MORE_TEXT
        self._known: dict[tuple[str, ...], Layout] = {}

    def of(self, names: tuple[str, ...]) -> Layout | None:
        """Return a layout; None for columns that lack one of the contract or repeat one, or whose
        names are too long to be kept."""
        found = self._known.get(names)
        if found is None and self._is_kept(names):
            if len(self._known) >= _MOST_LAYOUTS:
                self._known.clear()
            found = self._known[names] = Layout(names, self._contract)
        return found

    def _is_kept(self, names: tuple[str, ...]) -> bool:
        return (
            self._needed.issubset(names)
            and len(set(names)) == len(names)
            and sum(map(len, names)) <= self._most_text
        )
