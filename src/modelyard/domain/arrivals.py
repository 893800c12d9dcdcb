"""Did rows stop coming for a part of the window?

A window has so many rows whether they came evenly or stopped at noon. What is a gap, and what a
night or a Sunday, the windows before tell: only where each of them had rows is their absence news.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

import numpy as np

from modelyard.domain.values import Value
from modelyard.domain.windows import Window

SLOTS = 24
"""Equal parts of a window whose rows are counted: of a day's, hours."""
_MIN_FORMER = 5
"""Windows of the same length that must be known."""
_MIN_ROWS = 20
"""Rows that each of them must have had where there are none now: of independent arrivals, none
where 20 are due is seen once in 480 million times."""


class Gap(Value):
    """A time without rows, where each window before had some."""

    start: datetime
    end: datetime
    least: int
    """Rows that came in the same part of the window before that had fewest there."""
    share: float
    """Part of its rows that a window usually has there, 0..1."""


def slots_of(window: Window, times: np.ndarray) -> np.ndarray:
    """Return how many of some UTC times (datetime64) are in each part of a window."""
    start = np.datetime64(window.start.replace(tzinfo=None), "us")
    length = np.timedelta64(window.end - window.start).astype("timedelta64[us]")
    passed = (times.astype("datetime64[us]") - start) / length
    return np.bincount((passed * SLOTS).astype(int).clip(0, SLOTS - 1), minlength=SLOTS)


def find_gap(window: Window, arrived: Sequence[int], former: Sequence[Sequence[int]]) -> Gap | None:
    """Return the gap of a window that usually holds most rows; None where there is none.

    Args:
        arrived: rows in each part of the window.
        former: the same of windows before of the same length; too few tell nothing.
    """
    if not arrived or len(former) < _MIN_FORMER:
        return None
    before = np.array(former)
    usual = np.median(before, axis=0)
    gaps = []
    for first, last in _silences(arrived):
        least = int(before[:, first:last].sum(axis=1).min())
        if least >= _MIN_ROWS:
            share = float(usual[first:last].sum() / max(usual.sum(), 1.0))
            gaps.append(_gap(window, first, last, least, share))
    return max(gaps, key=lambda gap: gap.share, default=None)


def _silences(arrived: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of parts without a row."""
    for is_silent, run in groupby(range(len(arrived)), key=lambda slot: not arrived[slot]):
        if is_silent:
            slots = list(run)
            yield slots[0], slots[-1] + 1


def _gap(window: Window, first: int, last: int, least: int, share: float) -> Gap:
    part = (window.end - window.start) / SLOTS
    return Gap(
        start=window.start + first * part,
        end=window.start + last * part,
        least=least,
        share=share,
    )
