"""What does a service see on each of its days, and what is the truth behind it?

Parcels, and the minutes that each takes at its depot. Nothing of it is data: the concept is a
formula that is known, so it is known as well how good a release truly is, on any day, whatever
its labels say. Days differ by themselves: temperature has a memory and a cycle of 60 days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
import pandas as pd

DAY = timedelta(days=1)
FIRST = datetime(2024, 3, 4, tzinfo=UTC)
"""Day 0 of the traffic; what came before is history."""
HISTORY_DAYS = 120
ROWS_A_DAY = 260
NOISE_SD = 4.0
FEATURES = ["distance", "weight", "temperature", "carrier"]
_CYCLE_DAYS = 60
_LABELS = (0.5, 1.9)
"""Days after the event between which an outcome becomes known."""
_LATE_DAYS = 8.0
_HISTORY_STREAM = 1_000
"""Days before the first one draw from streams of their own: a seed is not negative."""


class Kind(StrEnum):
    """What is wrong, or only looks so."""

    NULLS = "null spike"
    UNIT = "unit change"
    CATEGORY = "new category"
    CONCEPT = "concept shift"
    PRIOR = "prior shift"
    SEASON = "season"
    LATE = "late labels"
    MISSING = "missing labels"
    BROKEN = "release that does not start"
    DISK = "full disk"


LASTING = (Kind.CONCEPT, Kind.CATEGORY)
"""What does not end by itself: there is something to learn."""


@dataclass(frozen=True)
class Change:
    """One thing that is otherwise on the days from `day` on, for `days` of them or for good."""

    kind: Kind
    day: int
    days: int | None = None
    number: int = 0
    """How many of its kind came before."""

    def holds(self, day: int) -> bool:
        """Return whether it is there on a day."""
        return self.day <= day and (self.days is None or day < self.day + self.days)


@dataclass(frozen=True)
class Truth:
    """How long parcels really take, and what parcels there are."""

    base: float = 20.0
    per_km: float = 0.12
    per_kg: float = 1.5
    per_degree_below_5: float = 0.4
    carriers: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: {
            "north": (0.4, 0.0),
            "quick": (0.3, -6.0),
            "local": (0.2, 4.0),
            "bulky": (0.1, 12.0),
        }
    )
    """Weight in the draw, and minutes."""
    heaviness: float = 1.0
    volume: float = 1.0
    tilt: float = 0.0
    """Rows with outcome y come exp(tilt * y) times as often: the outcomes' own distribution moves,
    and what rows of one outcome look like does not."""

    def after(self, change: Change, day: int) -> Truth:
        """Return what it is while a change holds."""
        match change.kind:
            case Kind.CONCEPT:  # a new hall: what was far is quick, and each second time back
                sign = -1 if change.number % 2 == 0 else 1
                return replace(
                    self, per_km=self.per_km + sign * 0.045, per_kg=self.per_kg - sign * 0.5
                )
            case Kind.CATEGORY:
                new = {f"drone{change.number}": (0.22, 25.0 + 15.0 * change.number)}
                return replace(self, carriers={**self.carriers, **new})
            case Kind.PRIOR:
                return replace(self, tilt=0.02)
            case Kind.SEASON:
                assert change.days is not None
                wave = np.sin(np.pi * (day - change.day + 1) / (change.days + 1))
                return replace(self, heaviness=1 + 0.25 * wave, volume=1 + 0.4 * wave)
            case _:
                return self

    def minutes(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the expected minutes of rows as they really are, shape (rows,)."""
        effect = rows["carrier"].map({name: e for name, (_, e) in self.carriers.items()})
        cold = np.clip(5.0 - rows["temperature"].to_numpy(), 0.0, None)
        return (
            self.base
            + self.per_km * rows["distance"].to_numpy()
            + self.per_kg * rows["weight"].to_numpy()
            + self.per_degree_below_5 * cold
            + effect.to_numpy(dtype=np.float64)
        )


class City:
    """All days of one simulated service."""

    def __init__(self, changes: Sequence[Change], days: int, seed: int) -> None:
        self._changes, self._seed = changes, seed
        rng = np.random.default_rng([seed, 0])
        count = HISTORY_DAYS + days
        weather = np.zeros(count)
        for number in range(1, count):
            weather[number] = 0.6 * weather[number - 1] + rng.normal(0, 1.2)
        self._weather = weather
        parts = [self._of_day(day) for day in range(-HISTORY_DAYS, days)]
        self.rows = pd.concat(parts, ignore_index=True)
        """Rows as the service and the warehouse get them, in the order of time, with `day` and
        `expected`, which nobody but the simulation knows."""

    def truth(self, day: int) -> Truth:
        """Return what is true on a day."""
        truth = Truth()
        for change in self._changes:
            if change.holds(day):
                truth = truth.after(change, day)
        return truth

    def fresh(self, day: int, count: int = 20_000) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        """Return other rows of a day without any fault, their outcomes, and the expected ones."""
        rng = np.random.default_rng([self._seed, 2, day])
        rows, expected = self._draw(day, count, rng)
        return rows, expected + rng.normal(0, NOISE_SD, len(rows)), expected

    def _of_day(self, day: int) -> pd.DataFrame:
        rng = np.random.default_rng([self._seed, 1, day + _HISTORY_STREAM])
        start = FIRST + day * DAY
        count = int(
            ROWS_A_DAY * self.truth(day).volume * (0.85 if start.weekday() == 6 else 1.0)
            + rng.integers(-12, 13)
        )
        rows, expected = self._draw(day, count, rng)
        count = len(rows)
        at = start + pd.to_timedelta(np.sort(rng.uniform(0, 86_399, count)).round(), unit="s")
        known = pd.DatetimeIndex(at) + pd.to_timedelta(
            np.round(rng.uniform(*_LABELS, count) * 86_400), unit="s"
        )
        made = rows.assign(
            parcel=[f"p{day + HISTORY_DAYS}-{number}" for number in range(count)],
            sent_at=at,
            known_at=known,
            minutes=(expected + rng.normal(0, NOISE_SD, count)).round(2),
            day=day,
            expected=expected,
        )
        for change in self._changes:
            if change.holds(day):
                made = _spoil(made, change.kind, rng)
        return made

    def _draw(
        self, day: int, count: int, rng: np.random.Generator
    ) -> tuple[pd.DataFrame, np.ndarray]:
        truth = self.truth(day)
        drawn = count if not truth.tilt else 30 * count
        names = list(truth.carriers)
        shares = np.array([truth.carriers[name][0] for name in names])
        place = HISTORY_DAYS + day
        middle = 10 + 5 * np.sin(2 * np.pi * place / _CYCLE_DAYS) + self._weather[place]
        of_day = np.random.default_rng([self._seed, 3, place])
        rows = pd.DataFrame(
            {
                "distance": rng.lognormal(5.0 + of_day.normal(0, 0.03), 0.6, drawn).round(1),
                "weight": (
                    rng.gamma(2.0, 3.0 * (1 + of_day.normal(0, 0.02)), drawn) * truth.heaviness
                ).round(2),
                "temperature": rng.normal(middle, 3.0, drawn).round(1),
                "carrier": rng.choice(names, drawn, p=shares / shares.sum()),
            }
        )
        expected = truth.minutes(rows)
        if truth.tilt:
            odds = np.exp(truth.tilt * (expected - expected.max()))
            chosen = rng.choice(drawn, count, replace=False, p=odds / odds.sum())
            rows, expected = rows.iloc[np.sort(chosen)], expected[np.sort(chosen)]
        return rows.reset_index(drop=True), expected


def _spoil(rows: pd.DataFrame, kind: Kind, rng: np.random.Generator) -> pd.DataFrame:
    """Return a day's rows as a fault leaves them."""
    match kind:
        case Kind.NULLS:
            lost = rng.random(len(rows)) < 0.45
            return rows.assign(weight=rows["weight"].mask(lost))
        case Kind.UNIT:  # metres instead of kilometres
            return rows.assign(distance=rows["distance"] * 1_000)
        case Kind.LATE:
            return rows.assign(known_at=rows["known_at"] + _LATE_DAYS * DAY)
        case Kind.MISSING:
            every = np.ones(len(rows), dtype=bool)
            return rows.assign(
                known_at=rows["known_at"].mask(every), minutes=rows["minutes"].mask(every)
            )
        case _:
            return rows
