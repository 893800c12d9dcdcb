"""By which steps does a release come into traffic?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from modelyard.domain.observed import AnalysisRules, Expected
from modelyard.domain.values import Value


class Strategy(StrEnum):
    """How a release takes over from the former one."""

    ROLLING = "rolling"
    """Replica by replica: never more than one beside those that were there."""
    BLUE_GREEN = "blue_green"
    """The whole fleet at once; the former one stays ready until the new one has proven itself."""
    CANARY = "canary"
    """A growing share of the traffic."""
    SHADOW = "shadow"
    """First a copy of the traffic, whose answers nobody gets; then as blue_green."""


class Step(Value):
    """One stretch of a rollout."""

    weight: int
    """Percent of the traffic that the new release has."""
    bake: timedelta = timedelta(0)
    """How long it has to prove itself before the next step."""
    mirrored: bool = False
    """Whether it gets a copy of the former release's requests."""
    replicas: int | None = None
    """Replicas of the new release, where these are the step's measure; None: all of them."""
    former_replicas: int | None = None
    """Likewise of the former one."""


class Plan(Value):
    """What a rollout was started with; a config that changes meanwhile changes the next one."""

    strategy: Strategy
    steps: tuple[Step, ...]
    approval: bool = False
    """Whether a person is waited for before the release has all of the traffic."""
    patience: timedelta = timedelta(days=1)
    """How long a step may go on that has baked and does not tell, before a person is asked."""
    look_every: timedelta = timedelta(seconds=30)
    failure_limit: int = 0
    """Failed looks in one step that are forgiven."""
    error_limit: int = 4
    """Looks in a row that could not be measured and are forgiven."""
    rules: AnalysisRules = AnalysisRules()
    expected: Expected | None = None
    """None where both releases cannot be asked the same rows."""


def plan_steps(
    strategy: Strategy, *, weights: Sequence[int], bake: timedelta, replicas: int
) -> tuple[Step, ...]:
    """Return the steps of a strategy.

    Args:
        weights: percents of a canary, rising, each below 100.
        bake: of each step.
        replicas: how many the fleet will have.
    """
    match strategy:
        case Strategy.ROLLING:
            return tuple(
                Step(
                    weight=round(100 * n / replicas),
                    bake=bake,
                    replicas=n,
                    former_replicas=replicas - n,
                )
                for n in range(1, replicas + 1)
            )
        case Strategy.CANARY:
            return tuple(Step(weight=weight, bake=bake) for weight in weights)
        case Strategy.SHADOW:
            return Step(weight=0, bake=bake, mirrored=True), Step(weight=100, bake=bake)
        case Strategy.BLUE_GREEN:
            return (Step(weight=100, bake=bake),)
