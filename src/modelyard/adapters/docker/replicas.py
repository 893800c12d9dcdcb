"""What does a replica's container say of itself?"""

from __future__ import annotations

from dataclasses import dataclass

from docker.models.containers import Container

from modelyard.domain.values import Fleet
from modelyard.serving.replica import limit_options

VERSION_LABEL = "modelyard.version"
DIGEST_LABEL = "modelyard.digest"
IMAGE_LABEL = "modelyard.image"
LIMITS_LABEL = "modelyard.limits"
ADDRESS_LABEL = "modelyard.address"
SLOT_LABEL = "modelyard.slot"
NUMBER_LABEL = "modelyard.number"


@dataclass(frozen=True)
class Replica:
    """One replica's container, as it was when it was looked up."""

    container: Container

    @property
    def id(self) -> str:
        """Container id, short."""
        return str(self.container.short_id)

    @property
    def start(self) -> str:
        """This start of it: what it has counted, it counts from nought when it starts again."""
        return f"{self.id}@{self.container.attrs['State']['StartedAt']}"

    @property
    def version(self) -> str:
        return self.container.labels[VERSION_LABEL]

    @property
    def address(self) -> str:
        return self.container.labels[ADDRESS_LABEL]

    @property
    def slot(self) -> str:
        """Its fleet's slot in the gateway."""
        return self.container.labels.get(SLOT_LABEL, "")

    @property
    def number(self) -> int:
        """Its server's number in that slot."""
        return int(self.container.labels.get(NUMBER_LABEL, "0"))

    @property
    def running(self) -> bool:
        return self.container.status == "running"

    @property
    def ended(self) -> bool:
        return self.container.status in {"exited", "dead", "paused", "removing"}

    @property
    def healthy(self) -> bool:
        """What the image's own health check says."""
        return self.container.health == "healthy"

    @property
    def restarts(self) -> int:
        return int(self.container.attrs["RestartCount"])

    def serves(self, fleet: Fleet) -> bool:
        """Whether this is a replica of exactly that release, with these limits."""
        labels = self.container.labels
        return (
            labels[VERSION_LABEL],
            labels[DIGEST_LABEL],
            labels[IMAGE_LABEL],
            labels.get(LIMITS_LABEL, ""),
        ) == (fleet.version, fleet.digest, fleet.image, limits_of(fleet))

    def last_words(self) -> str:
        """Return the end of what it printed."""
        return last_words(self.container)


def limits_of(fleet: Fleet) -> str:
    """Return what a fleet's replicas are limited to, as its containers are labelled."""
    return " ".join(limit_options(fleet.limits))


def last_words(container: Container) -> str:
    """Return the end of what a container printed."""
    printed = container.logs(tail=20)
    assert isinstance(printed, bytes)
    return printed.decode(errors="replace").strip()
