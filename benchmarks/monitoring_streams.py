"""Which rows do the monitors of this benchmark see, and what is done to them?

Fourteen numeric columns (bell-shaped, skewed, heavy-tailed, coarse, some with nulls) and six
categorical ones of 3 to 500 levels, some with nulls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from modelyard.domain.values import ColumnKind

NUMERIC = tuple(f"n{number}" for number in range(14))
LEVELS = {"tier": 3, "kind": 4, "region": 5, "shop": 10, "code": 50, "article": 500}
KINDS = dict.fromkeys(NUMERIC, ColumnKind.NUMERIC) | dict.fromkeys(LEVELS, ColumnKind.CATEGORICAL)
NULLS = {"n1": 0.1, "n5": 0.02, "n9": 0.3, "region": 0.05, "code": 0.01}
"""Share of the rows."""

_SHAPES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda z: z,
    np.exp,  # skewed
    lambda z: z * np.exp(0.06 * z**2),  # heavy tails, like Student's t of three degrees
    lambda z: np.round(3 * z),  # coarse
)


@dataclass(frozen=True)
class Day:
    """How the rows of one window differ from those of others while nothing is wrong.

    In standard deviations of a column before it is shaped, one figure a column.
    """

    moved: np.ndarray
    cycle: float = 0.0
    """Height of a wave through the window."""


QUIET = Day(np.zeros(len(KINDS)))
"""Rows are independent draws."""


def days(
    rng: np.random.Generator, count: int, size: float, memory: float = 0.7, cycle: float = 0.3
) -> list[Day]:
    """Draw days that remember the day before, half of it shared by all columns.

    Args:
        size: standard deviation of what a day adds to each column.
    """
    noise = rng.normal(size=(count + 50, len(KINDS) + 1)) * np.sqrt(1 - memory**2)
    state = np.zeros_like(noise)
    for t in range(1, len(noise)):
        state[t] = memory * state[t - 1] + noise[t]
    own, shared = state[50:, 1:], state[50:, :1]
    return [Day(size * (own[t] + shared[t]) / np.sqrt(2), cycle) for t in range(count)]


Edit = Callable[[dict[str, np.ndarray], np.random.Generator], None]


@dataclass(frozen=True)
class Change:
    """What is done to the rows of a window."""

    moved: Mapping[str, float] = field(default_factory=dict)
    """Columns, and by how many standard deviations they are moved before they are shaped: rounded
    values stay round, and skewed ones positive."""
    scaled: Mapping[str, float] = field(default_factory=dict)
    edit: Edit | None = None


def _category(columns: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Five per cent of the rows go to a rare level."""
    columns["shop"][rng.random(columns["shop"].size) < 0.05] = "v9"


def _new_level(columns: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    rows = columns["kind"].size
    columns["kind"][rng.choice(rows, max(1, rows // 100), replace=False)] = "new"


def _nulls(columns: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """From ten to thirteen per cent."""
    columns["n1"][rng.random(columns["n1"].size) < 1 / 30] = np.nan


def _unit(columns: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    rows = columns["n0"].size
    columns["n0"][rng.choice(rows, max(1, rows // 100), replace=False)] *= 1_000


NONE = Change()
CHANGES: Mapping[str, Change] = {
    "none": NONE,
    "0.02 sd in all": Change(moved=dict.fromkeys(NUMERIC, 0.02)),
    "0.1 sd in one": Change(moved={"n0": 0.1}),
    "0.3 sd in one": Change(moved={"n0": 0.3}),
    "0.05 sd in all": Change(moved=dict.fromkeys(NUMERIC, 0.05)),
    "scale 1.2": Change(scaled={"n0": 1.2}),
    "category + 5 %": Change(edit=_category),
    "new level 1 %": Change(edit=_new_level),
    "nulls 10 to 13 %": Change(edit=_nulls),
    "1 % of one column x 1000": Change(edit=_unit),
}


def draw(
    rng: np.random.Generator, rows: int, day: Day = QUIET, change: Change = NONE
) -> dict[str, np.ndarray]:
    """Draw the rows of a window, in the order in which they came."""
    wave = day.cycle * np.sin(2 * np.pi * np.arange(rows) / rows)
    columns: dict[str, np.ndarray] = {}
    for number, name in enumerate(NUMERIC):
        z = rng.normal(size=rows) * change.scaled.get(name, 1.0) + change.moved.get(name, 0.0)
        columns[name] = _SHAPES[number % 4](z + wave + day.moved[number])
    for number, (name, levels) in enumerate(LEVELS.items(), len(NUMERIC)):
        share = 1 / np.arange(1, levels + 1)
        share = share * np.exp(day.moved[number] * np.cos(np.arange(levels)))
        picked = np.searchsorted(np.cumsum(share / share.sum())[:-1], rng.random(rows))
        columns[name] = np.array([f"v{level}" for level in range(levels)], dtype=object)[picked]
    for name, share in NULLS.items():
        columns[name][rng.random(rows) < share] = np.nan if name in NUMERIC else None
    if change.edit is not None:
        change.edit(columns, rng)
    return columns
