"""What must a place that serves models be able to do?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from modelyard.domain.traffic import Traffic
from modelyard.domain.values import Service, ServiceStatus


class Target(Protocol):
    """The narrow port that rollout strategies are written against."""

    def sync(self, service: Service) -> ServiceStatus:
        """Make true what a service says, and return once it is; idempotent.

        Raises RolloutError when a new fleet does not become ready; what served before still
        serves. Raises RefusedError for what this target cannot do.
        """
        ...

    def set_weights(self, model: str, weights: Mapping[str, int]) -> None:
        """Give each version its share of the traffic, in percent; they sum up to 100."""
        ...

    def get_weights(self, model: str) -> dict[str, int]:
        """Return each version's share of the traffic in percent; empty without a service."""
        ...

    def traffic(self, model: str) -> Traffic | None:
        """Return what was counted for each fleet, and how long its replicas took to answer.

        None where nothing counts, or no service runs.
        """
        ...

    def status(self, model: str) -> ServiceStatus | None:
        """Return what is true now, or None where the model has no service."""
        ...

    def remove(self, model: str) -> None:
        """End a service and all that belongs to it; nothing happens where there is none."""
        ...

    def models(self) -> tuple[str, ...]:
        """Return the models that have a service here, running or stopped, sorted."""
        ...

    def stop(self, model: str) -> None:
        """End a service's replicas and keep what it was, for `resume`; idempotent."""
        ...

    def resume(self, model: str) -> ServiceStatus | None:
        """Start again what `stop` stopped; None where the model has no service."""
        ...
