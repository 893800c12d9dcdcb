"""A platform of its own on the Docker engine, for tests."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.models.containers import Container

from benchmarks.interrupted_syncs import start_elsewhere
from modelyard.adapters.docker.target import DockerTarget
from modelyard.domain.values import Service, ServiceStatus
from tests.docker_releases import GATEWAY_IMAGE, Releases

CLIENTS = (True, True, False, False)
"""Of those that send load, two keep their connection."""


@dataclass
class DockerYard:
    """A platform of its own on the engine, with the releases of one model."""

    engine: DockerClient
    releases: Releases
    folder: Path
    platform_id: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")

    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.model = self.releases.model
        self.log_folder = self.folder / "log" / self.model
        self.target = DockerTarget(**self._settings(), engine=self.engine)

    def sync(self, version: str, replicas: int = 1) -> ServiceStatus:
        return self.target.sync(self.releases.service(version, replicas))

    def canary(self, percent: int) -> Service:
        fleets = (
            self.releases.fleet("1.0.0", weight=100 - percent),
            self.releases.fleet("2.0.0", weight=percent),
        )
        return Service(model=self.model, fleets=fleets)

    def gateway(self) -> Container:
        (gateway,) = self.containers("gateway")
        return gateway

    def containers(self, role: str | None = None) -> list[Container]:
        labels = [f"modelyard.platform={self.platform_id}"]
        labels += [f"modelyard.role={role}"] if role else []
        return self.engine.containers.list(all=True, ignore_removed=True, filters={"label": labels})

    def networks(self) -> list[str]:
        label = f"modelyard.platform={self.platform_id}"
        return [n.name for n in self.engine.networks.list(filters={"label": label})]

    def sync_elsewhere(self, service: Service, *killed_before: str) -> BaseProcess:
        """Start a sync in a process of its own, which kills itself before a certain effect.

        Effects are told as `start_elsewhere` says.
        """
        return start_elsewhere(self._settings(), "sync", (service,), killed_before)

    def _settings(self) -> dict[str, Any]:
        return {
            "run_folder": self.folder / "run",
            "log_root": self.folder / "log",
            "host": self.host,
            "gateway_image": GATEWAY_IMAGE,
            "platform_id": self.platform_id,
        }

    def remove(self) -> None:
        for model in self.target.models():
            self.target.remove(model)
        assert self.containers() == []
        assert self.networks() == []
