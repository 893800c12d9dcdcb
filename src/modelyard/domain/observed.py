"""What did one look at a rollout count, and what does its analysis hold against it?"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from pydantic import NonNegativeInt

from modelyard.domain.sequential import Trials
from modelyard.domain.traffic import Traffic
from modelyard.domain.values import Value

MEASUREMENTS = 7
"""That may each err: errors, refusals, slow answers, empty answers, disagreement, variety,
performance."""


class Allowance(Value):
    """What is forgiven in one kind of failure."""

    margin: float
    """How much higher the new release's share may be than the former's."""
    most: float
    """The share that it may have where there is no former release to compare with; above 0."""


class Evidence(Value):
    """How much it takes to be sure, and to have seen enough."""

    false_aborts: float = 0.01
    """Share of the rollouts of releases that are no worse that may be aborted, at most."""
    least: int = 200
    """Requests or rows below which nothing is said in a release's favour."""

    @property
    def proof(self) -> float:
        """Natural logarithm of the evidence that convicts; all measurements share the errors."""
        return math.log(MEASUREMENTS / self.false_aborts)


class AnalysisRules(Value):
    """What a release is held to while it has a part of the traffic."""

    evidence: Evidence = Evidence()
    errors: Allowance = Allowance(margin=0.001, most=0.01)
    slow: Allowance = Allowance(margin=0.01, most=0.05)
    slow_after: timedelta = timedelta(milliseconds=250)
    """An answer that takes longer is slow."""
    disagreement: float = 0.1
    """How much more often than on the holdout both releases may answer otherwise."""
    loss: float = 0.01
    """Loss that labels may show, as a share of the former release's metric."""
    labels: int = 0
    """Rows with a label that a step waits for."""
    restarts: int = 1
    """How often replicas of the new release may end by themselves."""
    dry_run: frozenset[str] = frozenset()
    """Measurements that are shown, and of no consequence."""


class Expected(Value):
    """How far apart both releases were on the holdout, where nothing was wrong."""

    tolerance: float
    """Numbers that are closer are the same answer; 0 for classes."""
    share: float
    """Share of the holdout's rows that they answered otherwise."""


class Rescored(Value):
    """Rows of the traffic that both releases have answered."""

    rows: NonNegativeInt
    differing: NonNegativeInt
    silent: NonNegativeInt
    """Rows for which the new release has no finite answer."""
    former_silent: NonNegativeInt
    answers: tuple[str, ...]
    """The new release's different answers; two are enough."""
    former_answers: tuple[str, ...]


class Seen(Value):
    """What a look counted since the one before it."""

    until: datetime
    """Rows that were answered before it were compared."""
    wanted: NonNegativeInt
    """Replicas of the new release."""
    ready: NonNegativeInt
    replicas: dict[str, int]
    """Those that are there, by id, with how often each was started again."""
    ended: NonNegativeInt = 0
    """How many ended by themselves since the look before."""
    traffic: Traffic | None = None
    """The counts so far, which the next look subtracts from its own."""
    errors: Trials | None = None
    """None where nothing counts requests."""
    refused: Trials | None = None
    slow: Trials | None = None
    rescored: Rescored | None = None
    """None where the releases cannot be asked the same rows."""
