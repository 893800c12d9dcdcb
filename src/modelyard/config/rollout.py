"""What may a user write about how a release comes into traffic?"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelyard.config.section import Section
from modelyard.config.values import Duration, PositiveDuration, Share
from modelyard.domain.observed import Allowance, AnalysisRules, Evidence
from modelyard.domain.rollout_plan import Strategy
from modelyard.domain.values import HeaderName

_USUAL = AnalysisRules()


def _rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    if not steps or list(steps) != sorted(set(steps)):
        raise ValueError("do not rise; write percents like [5, 25, 50]")
    return steps


class Analysis(Section):
    """What a release is held to while it has a part of the traffic, beside the former release."""

    interval: PositiveDuration | None = None
    """How often it is looked at; by default a twentieth of the bake, 10s to 1h."""
    least_requests: Annotated[int, Field(ge=1)] = _USUAL.evidence.least
    """Requests, or rows, below which a step has not proven itself."""
    false_aborts: Annotated[float, Field(gt=0, le=0.5)] = _USUAL.evidence.false_aborts
    """Share of the rollouts of sound releases that may be aborted, however often one looks."""
    errors: Share = _USUAL.errors.margin
    """How much higher the share of failed requests may be than the former release's."""
    most_errors: Annotated[float, Field(gt=0, lt=1)] = _USUAL.errors.most
    """Share of failed requests where there is no former release to compare with."""
    slow_after_ms: Annotated[float, Field(gt=0)] = _USUAL.slow_after / timedelta(milliseconds=1)
    """An answer that takes longer is slow."""
    slow: Share = _USUAL.slow.margin
    """How much higher the share of slow answers may be than the former release's."""
    most_slow: Annotated[float, Field(gt=0, lt=1)] = _USUAL.slow.most
    """Share of slow answers where there is no former release to compare with."""
    disagreement: Share = _USUAL.disagreement
    """How much more often than on the gate's holdout both releases may answer otherwise."""
    loss: Share = _USUAL.loss
    """Loss that labels may show: a share of the former release's primary metric."""
    labels: Annotated[int, Field(ge=0)] = 0
    """Rows with a label that a step waits for, as long as patience lasts; 0 waits for none and
    judges by those that there are."""
    restarts: Annotated[int, Field(ge=0)] = _USUAL.restarts
    """How often replicas of the new release may end by themselves."""
    failures: Annotated[int, Field(ge=0)] = 0
    """Failed looks in one step that are forgiven."""
    dry_run: tuple[str, ...] = ()
    """Measurements that are shown and decide nothing, by the names that the rollout's page has."""

    def rules(self) -> AnalysisRules:
        """Return these rules as a rollout keeps them."""
        return AnalysisRules(
            evidence=Evidence(false_aborts=self.false_aborts, least=self.least_requests),
            errors=Allowance(margin=self.errors, most=self.most_errors),
            slow=Allowance(margin=self.slow, most=self.most_slow),
            slow_after=timedelta(milliseconds=self.slow_after_ms),
            disagreement=self.disagreement,
            loss=self.loss,
            labels=self.labels,
            restarts=self.restarts,
            dry_run=frozenset(self.dry_run),
        )


class Rollout(Section):
    """How a release comes into traffic. The local target knows blue_green alone."""

    strategy: Strategy = Strategy.BLUE_GREEN
    """rolling: replica by replica; blue_green: the whole fleet at once, the former one stays ready
    while the new one bakes; canary: by steps; shadow: first on a copy of the traffic."""
    steps: Annotated[tuple[Annotated[int, Field(ge=1, le=99)], ...], AfterValidator(_rising)] = (
        5,
        25,
        50,
    )
    """Percents of the traffic that a canary gets, one after the other, before it gets all."""
    bake: Duration = timedelta(0)
    """How long each step is watched before the next; 0s: its replicas have to be ready, no more."""
    sticky: HeaderName | None = None
    """Request header that names a user, who then stays with one release."""
    approval: bool = False
    """Whether a person is waited for before a release gets all of the traffic."""
    patience: PositiveDuration = timedelta(days=1)
    """How long a step that has baked may leave it open whether it is sound; then a person is asked.
    """
    while_rolling_out: Literal["refuse", "queue", "supersede"] = "refuse"
    """What becomes of a delivery of other rows that is asked for meanwhile: it is refused, it is
    made once the rollout has ended, or the rollout is aborted for it."""
    analysis: Analysis = Analysis()
