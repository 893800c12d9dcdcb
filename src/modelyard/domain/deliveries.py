"""What came of a delivery?"""

from __future__ import annotations

from modelyard.domain.data_checks import Checked
from modelyard.domain.gate import Gated
from modelyard.domain.releases import Delivery, Registration
from modelyard.domain.retraining import RetrainingDecision
from modelyard.domain.rollout import RolloutReport
from modelyard.domain.values import Value


class DeliveryOutcome(Value):
    """What a delivery led to: a release in traffic, or the reasons why there is none."""

    delivery_id: str
    model: str
    checked: Checked | None = None
    """What was found in the rows before training."""
    gated: Gated | None = None
    """None where nothing was trained, since the rows do not allow it."""
    version: str | None = None
    url: str | None = None
    rollout: RolloutReport | None = None
    """Where its rollout is; None where no release came of it."""

    @classmethod
    def blocked(cls, delivery: Delivery, checked: Checked) -> DeliveryOutcome:
        """Say that nothing was trained: the rows do not allow it."""
        return cls(delivery_id=delivery.id, model=delivery.model, checked=checked)

    @classmethod
    def kept(
        cls, delivery: Delivery, gated: Gated, checked: Checked | None = None
    ) -> DeliveryOutcome:
        """Say that no release came of it: the gate kept the champion, or it was a dry run."""
        return cls(delivery_id=delivery.id, model=delivery.model, checked=checked, gated=gated)

    @classmethod
    def released(
        cls,
        delivery: Delivery,
        gated: Gated,
        registration: Registration,
        rollout: RolloutReport,
        checked: Checked | None = None,
    ) -> DeliveryOutcome:
        """Say which version serves where, or how far its rollout is."""
        return cls(
            delivery_id=delivery.id,
            model=delivery.model,
            checked=checked,
            gated=gated,
            version=registration.version,
            url=None if rollout.service is None else rollout.service.url,
            rollout=rollout,
        )


class Retraining(Value):
    """What the controller decided, and what came of it."""

    decision: RetrainingDecision
    delivery: DeliveryOutcome | None = None
    """None where it was not to retrain."""

    @property
    def words(self) -> str:
        """Say what happened, in a few words."""
        done = self.delivery
        if done is None:
            return str(self.decision.verdict)
        if done.gated is None:
            return "blocked by its training data"
        if done.version is None:
            return "retrained, champion kept"
        return f"retrained as {done.version}"
