"""A proven image goes to a registry, and is run from there by its digest."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from docker import DockerClient
from docker.errors import ImageNotFound
from docker.models.images import Image

from modelyard.adapters.docker.builds import build
from modelyard.adapters.docker.engine import HARDENED, connect_engine
from modelyard.adapters.docker.registry import fetch_image, push_image
from modelyard.domain.values import Runtime
from modelyard.errors import RolloutError
from modelyard.project import Project
from tests.docker_releases import Releases
from tests.projects import MODEL, load_mlflow, make_project, working_in
from tests.projects import build as deliver
from tests.services import wait_for

pytestmark = pytest.mark.xdist_group("docker")

USER, PASSWORD = "yard", "correct-9a70"
HTPASSWD = f"{USER}:$2b$04$sLdnpm6m1kv5x9etz3rvIeqdKSqd6mED.n3OADUeip4oStIQ8vjWa\n"


@contextmanager
def registry(folder: Path, *, password: bool = False) -> Iterator[str]:
    """Run a registry of our own on a free port and yield its address."""
    program = shutil.which("docker-registry")
    if program is None:
        reason = "no docker-registry is installed (Debian's package of that name)"
        assert not os.environ.get("REQUIRE_DOCKER"), reason
        pytest.skip(reason)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    auth = ""
    if password:
        (folder / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: yard, path: {folder / 'htpasswd'}}}}}\n"
    config = folder / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'store'}}}}}\n"
        f"http: {{addr: {address}}}\n{auth}"
    )
    process = subprocess.Popen(
        [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        try:
            return httpx.get(f"http://{address}/v2/").status_code in (200, 401)
        except httpx.TransportError:
            return False

    try:
        wait_for(answers)
        yield address
    finally:
        process.terminate()
        process.wait()


def forget(engine: DockerClient, address: str) -> None:
    """Remove what the engine has from a registry."""
    for image in engine.images.list():
        for name in [*image.tags, *image.attrs["RepoDigests"]]:
            if name.startswith(address):
                with suppress(ImageNotFound):  # a digest goes with the last tag of its repository
                    engine.images.remove(name)


def test_an_image_is_pushed_and_runs_by_its_digest_on_an_engine_that_never_built_it(
    docker_engine: DockerClient, releases: Releases, tmp_path: Path
) -> None:
    with registry(tmp_path) as address:
        image = releases.build(docker_engine, "1.0.0", registry=f"{address}/team")
        assert image.name is not None
        repository, _, digest = image.name.partition("@")
        assert repository == f"{address}/team/modelyard/{releases.model}"
        manifest = httpx.get(
            f"http://{address}/v2/team/modelyard/{releases.model}/manifests/1.0.0",
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
        assert manifest.headers["Docker-Content-Digest"] == digest
        assert releases.build(docker_engine, "1.0.0", registry=f"{address}/team") == image

        forget(docker_engine, address)
        fetched = fetch_image(docker_engine, image.name)
        assert fetched.attrs["RootFS"]["Layers"] == list(image.layers)
        said = docker_engine.containers.run(
            image.name, ["python", "-c", "print('runs')"], remove=True, **HARDENED
        )
        assert said.decode().strip() == "runs"
        forget(docker_engine, address)


@pytest.fixture
def small(docker_engine: DockerClient) -> Iterator[list[Image]]:
    """Two images of a few bytes."""
    names = [f"modelyard/small-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    context = {
        "Dockerfile": b"FROM scratch\nARG NAME\nADD file /\nLABEL name=${NAME}\n",
        "file": b"",
    }
    yield [build(docker_engine, context, tags=[n], arguments={"NAME": n}) for n in names]
    for name in names:
        docker_engine.images.remove(name)


def test_a_tag_that_somebody_moved_changes_nothing(
    docker_engine: DockerClient, small: list[Image], tmp_path: Path
) -> None:
    first, second = small
    with registry(tmp_path) as address:
        name = push_image(docker_engine, first, address, "small", ["1.0.0"])
        assert push_image(docker_engine, second, address, "small", ["1.0.0"]) != name
        forget(docker_engine, address)
        assert fetch_image(docker_engine, name).labels == first.labels
        forget(docker_engine, address)


def test_credentials_come_from_dockers_own_configuration_and_are_never_told(
    docker_engine: DockerClient,
    small: list[Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    secrets: list[str] = []

    def logged_in(address: str, password: str) -> DockerClient:
        secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
        secrets.extend((password, secret))
        login = {"auths": {address: {"auth": secret}}}
        (tmp_path / "config.json").write_text(json.dumps(login))
        return connect_engine()

    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with registry(tmp_path, password=True) as address:
        with (
            closing(logged_in(address, "wrong-f3c1")) as engine,
            pytest.raises(RolloutError, match=rf"docker login {address}") as refused,
        ):
            push_image(engine, small[0], address, "small", ["1.0.0"])
        with closing(logged_in(address, PASSWORD)) as engine:
            name = push_image(engine, small[0], address, "small", ["1.0.0"])
            forget(engine, address)
            assert fetch_image(engine, name).labels == small[0].labels
            forget(engine, address)
    assert not any(secret in f"{caplog.text} {refused.value}" for secret in secrets)


def test_a_registry_that_does_not_answer_is_named(
    docker_engine: DockerClient, releases: Releases
) -> None:
    with pytest.raises(RolloutError, match=r"127\.0\.0\.1:1 .*docker\.registry"):
        releases.build(docker_engine, "1.0.0", registry="127.0.0.1:1")
    forget(docker_engine, "127.0.0.1:1")


def test_an_image_that_is_nowhere_is_named(docker_engine: DockerClient) -> None:
    with pytest.raises(RolloutError, match=r"is not on this engine\. Build it again"):
        fetch_image(docker_engine, "modelyard/never:built")
    with pytest.raises(RolloutError, match=r"The registry 127\.0\.0\.1:1"):
        fetch_image(docker_engine, f"127.0.0.1:1/modelyard/never@sha256:{'0' * 64}")


def test_a_delivery_records_the_image_its_layers_and_its_bill_of_materials(
    docker_engine: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_mlflow()
    project = make_project(tmp_path / "project")
    config = project.root / "configs" / "models" / f"{MODEL}.yaml"
    config.write_text(config.read_text().replace("target: local", "target: docker"))
    with registry(tmp_path) as address:
        platform = project.root / "configs" / "platform.yaml"
        platform.write_text(f"home: .modelyard\ndocker: {{registry: {address}}}\n")
        with working_in(Project(project.root), monkeypatch) as workspace:
            built = deliver()
            image = docker_engine.images.get(built.build.image or "")
            try:
                assert str(built.build.image).startswith(f"{address}/modelyard/{MODEL}@sha256:")
                assert built.build.image_layers == tuple(image.attrs["RootFS"]["Layers"])
                assert built.build.runtime is Runtime.COMPILED
                bill = (project.home / str(built.build.sbom)).read_bytes()
                stored = workspace.tracking.client.download_artifacts(
                    built.candidate.mlflow_run_id, f"image/{Path(str(built.build.sbom)).name}"
                )
                assert Path(stored).read_bytes() == bill
                assert json.loads(bill)["metadata"]["component"]["version"] == "1.0.0"
            finally:
                for tag in image.tags:  # by name: nobody else's names go with them
                    docker_engine.images.remove(tag)
