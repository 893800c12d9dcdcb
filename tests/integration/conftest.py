"""What integration tests share: targets, the Docker engine, releases on it, empty databases."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from modelyard.adapters.docker.engine import connect_engine, require_image
from modelyard.errors import EngineUnavailableError, RolloutError
from tests.docker_releases import BASE_IMAGE, GATEWAY_IMAGE, Releases, build_releases
from tests.docker_yard import DockerYard
from tests.local_yard import MODEL, Yard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """A folder with a local target; the tests of the Docker target have a yard of their own."""
    made = Yard(tmp_path)
    yield made
    made.target.remove(MODEL)
    assert made.processes() == []


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerClient]:
    """An engine with both base images; where REQUIRE_DOCKER=1 its absence is a failure."""
    try:
        engine = connect_engine()
        for image in (BASE_IMAGE, GATEWAY_IMAGE):
            require_image(engine, image)
    except (EngineUnavailableError, RolloutError) as err:
        if os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail(f"REQUIRE_DOCKER=1, but: {err}")
        pytest.skip(str(err))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def releases(
    docker_engine: DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Releases]:
    """Two releases of a model of its own; the runtime image stays, as the cache that it is."""
    model = f"bikes-{uuid.uuid4().hex[:8]}"
    yield build_releases(docker_engine, tmp_path_factory.mktemp("releases"), model)
    for image in docker_engine.images.list(filters={"label": f"modelyard.model={model}"}):
        for name in image.tags:
            docker_engine.images.remove(name)


@pytest.fixture(scope="module")
def docker_yard(
    docker_engine: DockerClient, releases: Releases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerYard]:
    """One platform for a whole file: each test first syncs what it needs."""
    made = DockerYard(docker_engine, releases, tmp_path_factory.mktemp("yard"))
    yield made
    made.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of both kinds that the ledger can live in."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    new: Callable[[str], str] = request.getfixturevalue("databases")
    return new("ledger")
