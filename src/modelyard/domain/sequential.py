"""Does one release fail more often than the other, asked as often as one likes?

A test that is looked at again and again alarms sooner or later, with no difference at all. What is
computed here is an e-value instead: evidence against "no more often than the other" that is at most
1 on average while that is true. However often one looks, and whenever one stops, it ever reaches
1/a in at most a share a of all rollouts (Ville 1939).

Source: Turner, Ly and Grünwald (2024), "Generic E-variables for exact sequential k-sample tests
that allow for optional stopping", theorem 1, and its one-sided case; mixed over alternatives, which
keeps the property (Wald 1945, Robbins 1970).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from modelyard.domain.values import Value

_TIMES_THE_ODDS = np.array([1.3, 2.0, 4.0, 10.0, 40.0, 200.0])


class Trials(Value):
    """What both releases were asked in one stretch of time, and how often it went wrong."""

    hits: int
    """Of the new release."""
    count: int
    former_hits: int
    former_count: int

    @property
    def excess(self) -> float:
        """The new release's share of hits less the former's, NaN where one was asked nothing."""
        if not self.count or not self.former_count:
            return math.nan
        return self.hits / self.count - self.former_hits / self.former_count


def pooled(stretches: Sequence[Trials]) -> Trials:
    """Return the sum of all stretches."""
    return Trials(
        hits=sum(s.hits for s in stretches),
        count=sum(s.count for s in stretches),
        former_hits=sum(s.former_hits for s in stretches),
        former_count=sum(s.former_count for s in stretches),
    )


def log_evidence(stretches: Sequence[Trials]) -> float:
    """Return the natural logarithm of the evidence that the new release's share of hits is higher.

    0 says nothing, log(100) may be taken for proof at one error in a hundred rollouts. What makes
    both releases fail at the same time, such as a broken caller, is no evidence: shares may differ
    from one stretch to the next, and are compared inside each.
    """
    if not stretches:
        return 0.0
    table = np.array(
        [(s.hits, s.count, s.former_hits, s.former_count) for s in stretches], dtype=np.float64
    )
    hits, count, former_hits, former_count = table.T[:, :, np.newaxis]
    new, former = _ALTERNATIVES
    # If both had the same share, this one: what both are weighed against.
    same = (count * new + former_count * former) / np.maximum(count + former_count, 1)
    same = np.where(same > 0, same, former)
    gained = (
        hits * np.log(new / same)
        + (count - hits) * np.log((1 - new) / (1 - same))
        + former_hits * np.log(former / same)
        + (former_count - former_hits) * np.log((1 - former) / (1 - same))
    ).sum(axis=0)
    return _log_mean(gained)


def log_evidence_above(hits: int, count: int, share: float) -> float:
    """Return likewise the evidence that what hits `hits` times of `count` has a higher share.

    For what there is no other release to compare with. `share` is above 0 and below 1.
    """
    odds = share / (1 - share) * _TIMES_THE_ODDS
    higher = odds / (1 + odds)
    gained = hits * np.log(higher / share) + (count - hits) * np.log((1 - higher) / (1 - share))
    return _log_mean(gained)


def _log_mean(logarithms: np.ndarray) -> float:
    """Return the logarithm of the mean of numbers that are given by theirs."""
    most = float(logarithms.max())
    return most + math.log(float(np.exp(logarithms - most).mean()))


def _alternatives() -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of shares, the new release's and the former's, one to fit what may be wrong.

    From one failure in ten thousand to every second request, at odds from a third higher to 200
    times as high. Fixed before anything was seen: evidence is their average.
    """
    former_odds = np.geomspace(1e-4, 1.0, 15)
    odds, ratio = np.meshgrid(former_odds, _TIMES_THE_ODDS)
    new = (odds * ratio / (1 + odds * ratio)).ravel()
    former = (odds / (1 + odds)).ravel()
    return new, former


_ALTERNATIVES = _alternatives()
