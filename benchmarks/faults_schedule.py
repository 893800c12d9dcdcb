"""What goes wrong on which day?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from benchmarks.faults_world import LASTING, Change, Kind


class Way(StrEnum):
    """What happens to the retraining that a change asks for."""

    FLOW = "its event runs the flow"
    DOUBLED = "its event comes 200 times"
    LOST = "its event is lost"
    KILLED = "kill -9 in the promotion"
    WORKER = "worker killed meanwhile"
    SERVER = "server killed meanwhile"


IN_PLATFORM = frozenset({Way.DOUBLED, Way.LOST, Way.WORKER, Way.SERVER})
"""Ways that need the real servers and the worker."""


@dataclass(frozen=True)
class Fault:
    """One entry of the schedule."""

    change: Change
    way: Way | None = None
    until: int = 0
    """The day of the next fault, or the end: what happens in between is put down to this one."""

    @property
    def name(self) -> str:
        return (
            self.change.kind if self.way in (None, Way.FLOW) else f"{self.change.kind}, {self.way}"
        )


_FIRST_FAULT = 12
_PARTS: tuple[tuple[Kind, Way | None, int | None, int], ...] = (
    (Kind.CONCEPT, Way.DOUBLED, None, 20),
    (Kind.CONCEPT, Way.KILLED, None, 20),
    (Kind.CONCEPT, Way.LOST, None, 20),
    (Kind.CONCEPT, Way.WORKER, None, 20),
    (Kind.CONCEPT, Way.SERVER, None, 20),
    (Kind.CATEGORY, Way.FLOW, None, 18),
    (Kind.CATEGORY, Way.FLOW, None, 18),
    (Kind.NULLS, None, 3, 10),
    (Kind.NULLS, None, 2, 9),
    (Kind.UNIT, None, 3, 10),
    (Kind.UNIT, None, 2, 9),
    (Kind.SEASON, None, 16, 23),
    (Kind.SEASON, None, 12, 19),
    (Kind.PRIOR, None, 8, 15),
    (Kind.LATE, None, 4, 16),
    (Kind.MISSING, None, 4, 10),
    (Kind.BROKEN, None, 1, 4),
    (Kind.DISK, None, 1, 5),
)
"""Kind, way, days that it lasts, days until the next one at least."""
_QUICK = (
    (Kind.NULLS, None, 2, 5),
    (Kind.CONCEPT, Way.KILLED, None, 13),
    (Kind.DISK, None, 1, 2),
)
DAYS, QUICK_DAYS = 300, 28


def schedule(quick: bool, seed: int) -> Sequence[Fault]:
    """Return the faults in the order of their days: drawn, with quiet days between them."""
    rng = np.random.default_rng(seed)
    days = QUICK_DAYS if quick else DAYS
    parts = _QUICK if quick else [_PARTS[place] for place in rng.permutation(len(_PARTS))]
    first = 6 if quick else _FIRST_FAULT
    spare = days - first - sum(length for *_, length in parts)
    assert spare >= 0
    waits = np.sort(rng.integers(0, spare + 1, len(parts)))
    faults: list[Fault] = []
    begun = 0
    for (kind, way, lasts, length), waited in zip(parts, waits, strict=True):
        number = sum(fault.change.kind is kind for fault in faults)
        day = first + begun + int(waited)
        faults.append(Fault(Change(kind, day, lasts, number), way))
        begun += length
    ends = [fault.change.day for fault in faults[1:]] + [days]
    return [Fault(fault.change, fault.way, end) for fault, end in zip(faults, ends, strict=True)]


def is_to_learn(fault: Fault) -> bool:
    """Return whether a fault is one that a retraining mends."""
    return fault.change.kind in LASTING
