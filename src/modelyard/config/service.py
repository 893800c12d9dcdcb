"""What may a user write about what answers predictions?"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from modelyard.config.rollout import Rollout
from modelyard.config.section import Section
from modelyard.config.values import PositiveDuration, Size
from modelyard.domain.values import ReplicaLimits

_USUAL = ReplicaLimits()


class ServiceLimits(Section):
    """What one replica takes on before it refuses a request."""

    body: Annotated[Size, Field(ge=1024, le=256 * 2**20)] = _USUAL.body_bytes
    """Size of one request; a larger one gets 413."""
    rows: Annotated[int, Field(ge=1)] = _USUAL.rows
    """Rows of one request; one with more gets 413."""
    deadline: Annotated[PositiveDuration, Field(le=timedelta(seconds=60))] = timedelta(
        seconds=_USUAL.seconds
    )
    """Time to answer a request in, at most 60s; one that takes longer gets 504."""
    queue: Annotated[int, Field(ge=1, le=65536)] = _USUAL.waiting
    """Requests that may wait for their prediction; one more gets 429."""

    def of_a_replica(self) -> ReplicaLimits:
        return ReplicaLimits(
            body_bytes=self.body,
            rows=self.rows,
            seconds=self.deadline.total_seconds(),
            waiting=self.queue,
        )


class ServiceConfig(Section):
    """What answers predictions."""

    target: Literal["local", "docker"] = "local"
    """Replicas are processes of this machine, or containers of its Docker engine."""
    runtime: Literal["auto", "compiled", "sklearn"] = "auto"
    """auto: compiled to ONNX where that is proven to predict the same, else scikit-learn itself;
    compiled: a release that cannot be compiled is not built."""
    replicas: Annotated[int, Field(ge=1, le=64)] = 2
    port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """Port of the service; by default a free one, which it keeps."""
    limits: ServiceLimits = ServiceLimits()
    rollout: Rollout = Rollout()
