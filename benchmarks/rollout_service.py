"""How is a service of several releases run on the Docker engine, for one run and no longer?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from docker import DockerClient
from docker.models.containers import Container

from benchmarks.docker_releases import Release, fit_models, own_images, package
from modelyard.adapters.docker.engine import connect_engine
from modelyard.adapters.docker.target import DockerTarget
from modelyard.domain.values import Fleet, Service, ServiceStatus

GATEWAY_IMAGE = "haproxy:lts"
VERSIONS = ("1.0.0", "2.0.0", "3.0.0")


@dataclass(frozen=True)
class Yard:
    """A platform of its own on the engine, and releases of one model that it can serve."""

    engine: DockerClient
    folder: Path
    model: str
    releases: Mapping[str, Release]
    images: Mapping[str, str]
    body: bytes
    """A request of one row."""
    expected: Mapping[str, float]
    """What each release has to answer to it."""

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the target, for another process that changes the same service."""
        return {
            "run_folder": self.folder / "run",
            "log_root": self.folder / "log",
            "host": "127.0.0.1",
            "gateway_image": GATEWAY_IMAGE,
            "platform_id": self.model,
        }

    @property
    def target(self) -> DockerTarget:
        return DockerTarget(**self.settings, engine=self.engine)

    @property
    def log_folder(self) -> Path:
        return self.folder / "log" / self.model

    def service(
        self, weights: Mapping[str, int], replicas: int = 1, sticky: str | None = None
    ) -> Service:
        """Return a service of these releases with these shares, the oldest first."""
        fleets = tuple(
            Fleet(
                version=version,
                bundle=str(self.releases[version].bundle),
                digest=self.releases[version].digest,
                image=self.images[version],
                replicas=replicas,
                weight=weight,
            )
            for version, weight in weights.items()
        )
        return Service(model=self.model, fleets=fleets, sticky=sticky)

    def sync(
        self, weights: Mapping[str, int], replicas: int = 1, sticky: str | None = None
    ) -> ServiceStatus:
        return self.target.sync(self.service(weights, replicas, sticky))

    def containers(self, role: str) -> list[Container]:
        labels = [f"modelyard.platform={self.model}", f"modelyard.role={role}"]
        return self.engine.containers.list(all=True, ignore_removed=True, filters={"label": labels})

    def gateway(self) -> Container:
        (gateway,) = self.containers("gateway")
        return gateway


def kill(container: Container) -> None:
    """Kill all that runs in a container with signal 9, so that the engine restarts it.

    From inside: what `docker kill` ends was ended by hand for the engine, and stays so.
    """
    shell = "kill -9 -1"
    python = "import os; os.kill(-1, 9)"
    is_gateway = container.labels["modelyard.role"] == "gateway"
    container.exec_run(["bash", "-c", shell] if is_gateway else ["python", "-c", python])


def own_address(container: Container) -> str:
    """Return a container's address on its network, which the engine's machine reaches."""
    container.reload()
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def process_of(container: Container) -> psutil.Process:
    """Return a container's first process, as this machine sees it."""
    container.reload()
    return psutil.Process(container.attrs["State"]["Pid"])


@contextmanager
def yard() -> Iterator[Yard]:
    """Make releases and their images, yield them, and leave nothing behind."""
    engine = connect_engine()
    # Replicas write their logs there as another user.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        with own_images(engine) as model:
            rows, pipelines = fit_models(len(VERSIONS))
            releases = {
                version: package(folder, model, version, pipeline, rows)
                for version, pipeline in zip(VERSIONS, pipelines, strict=True)
            }
            asked = rows.head(1)
            made = Yard(
                engine=engine,
                folder=folder,
                model=model,
                releases=releases,
                images={v: r.build(engine, folder).id for v, r in releases.items()},
                body=json.dumps({"dataframe_records": asked.to_dict("records")}).encode(),
                expected={
                    version: float(pipeline.predict(asked)[0])
                    for version, pipeline in zip(VERSIONS, pipelines, strict=True)
                },
            )
            try:
                yield made
            finally:
                made.target.remove(model)
