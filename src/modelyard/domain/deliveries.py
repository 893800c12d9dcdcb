"""What came of a delivery?"""

from __future__ import annotations

from modelyard.domain.gate import Gated
from modelyard.domain.releases import Delivery, Registration
from modelyard.domain.values import ServiceStatus, Value


class DeliveryOutcome(Value):
    """What a delivery led to: a release in traffic, or the reasons why there is none."""

    delivery_id: str
    model: str
    gated: Gated
    version: str | None = None
    url: str | None = None

    @classmethod
    def kept(cls, delivery: Delivery, gated: Gated) -> DeliveryOutcome:
        """Say that no release came of it: the gate kept the champion, or it was a dry run."""
        return cls(delivery_id=delivery.id, model=delivery.model, gated=gated)

    @classmethod
    def released(
        cls, delivery: Delivery, gated: Gated, registration: Registration, service: ServiceStatus
    ) -> DeliveryOutcome:
        """Say which version serves where."""
        return cls(
            delivery_id=delivery.id,
            model=delivery.model,
            gated=gated,
            version=registration.version,
            url=service.url,
        )
