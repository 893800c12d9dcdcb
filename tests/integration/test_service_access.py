"""Do the limits and the API keys of a service hold on each target, and do keys stay secret?"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from docker import DockerClient

from modelyard.adapters.docker.target import DockerTarget
from modelyard.adapters.local import LocalTarget
from modelyard.adapters.target import Target
from modelyard.domain.values import Fleet, ReplicaLimits, Service, ServiceStatus
from modelyard.serving.bundle import bundle_digest
from tests.docker_releases import GATEWAY_IMAGE, Releases
from tests.local_yard import Yard
from tests.services import wait_for
from tests.serving_bundles import plain_bundle

ROW = {"instances": [{"x": 5}]}
OPEN = ("/live", "/ready", "/metrics", "/version", "/openapi.json", "/v2/health/ready")


class Place:
    """A target with one release of a model, and all that a key could leak into."""

    def __init__(self, target: Target, model: str, fleet: Fleet, left: Callable[[], str]) -> None:
        self.target, self.model, self.fleet, self.left = target, model, fleet, left

    def sync(self, limits: ReplicaLimits | None = None) -> ServiceStatus:
        fleet = self.fleet.model_copy(update={"limits": limits or ReplicaLimits()})
        return self.target.sync(Service(model=self.model, fleets=(fleet,)))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with one key, in a folder of its own."""
    file = tmp_path / "keys" / "api-keys"
    file.parent.mkdir()
    file.write_text(f"{secrets.token_hex(16)}\n")
    return file


@pytest.fixture(params=["local", pytest.param("docker", marks=pytest.mark.xdist_group("docker"))])
def place(request: pytest.FixtureRequest, tmp_path: Path, keys: Path) -> Iterator[Place]:
    kind = local if request.param == "local" else docker
    yield from kind(request, tmp_path, keys)


def local(request: pytest.FixtureRequest, folder: Path, keys: Path) -> Iterator[Place]:
    yard = Yard(folder / "yard")
    target = LocalTarget(folder / "yard" / "run", folder / "yard" / "log", api_keys=keys)
    bundle = folder / "yard" / "1.0.0"
    bundle.parent.mkdir()
    plain_bundle(bundle, "1.0.0", 2.0)
    fleet = Fleet(version="1.0.0", bundle=str(bundle), digest=bundle_digest(bundle), replicas=1)

    def left() -> str:
        processes = [f"{p.cmdline()} {p.environ()}" for p in yard.processes()]
        return "".join([*processes, *written(folder / "yard")])

    yield Place(target, "bikes", fleet, left)
    target.remove("bikes")
    assert yard.processes() == []


def docker(request: pytest.FixtureRequest, folder: Path, keys: Path) -> Iterator[Place]:
    engine: DockerClient = request.getfixturevalue("docker_engine")
    releases: Releases = request.getfixturevalue("releases")
    platform_id = f"test-{uuid.uuid4().hex[:8]}"
    target = DockerTarget(
        run_folder=folder / "run",
        log_root=folder / "log",
        host="127.0.0.1",
        gateway_image=GATEWAY_IMAGE,
        platform_id=platform_id,
        engine=engine,
        api_keys=keys,
    )

    def left() -> str:
        label = f"modelyard.platform={platform_id}"
        found = engine.containers.list(all=True, filters={"label": label})
        assert len(found) == 2
        images = [json.dumps([c.image.attrs, c.image.history()]) for c in found if c.image]
        seen = [f"{json.dumps(c.attrs)} {c.logs().decode()}" for c in found]
        return "".join([*seen, *images, *written(folder / "run"), *written(folder / "log")])

    yield Place(target, releases.model, releases.fleet("1.0.0"), left)
    target.remove(releases.model)


def written(folder: Path) -> list[str]:
    """Return all files below a folder, as text."""
    return [file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file()]


def test_who_shows_no_key_gets_no_prediction_and_keys_are_changed_while_it_serves(
    place: Place, keys: Path
) -> None:
    status = place.sync()
    old, new = keys.read_text().strip(), secrets.token_hex(16)

    def ask(key: str | None) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.post(f"{status.url}/invocations", json=ROW, headers=headers).status_code

    assert [ask(None), ask(new), ask(old)] == [401, 401, 200]
    infer = httpx.post(f"{status.url}/v2/models/{place.model}/infer", json={})
    assert (infer.status_code, infer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert {httpx.get(f"{status.url}{path}").status_code for path in OPEN} == {200}

    draft = keys.with_name("draft")
    draft.write_text(f"{old}\n{new}\n")
    draft.replace(keys)
    wait_for(lambda: ask(new) == 200)
    assert ask(old) == 200, "both hold until the old one is taken out"
    keys.write_text(f"{new}\n")
    wait_for(lambda: ask(old) == 401)
    assert ask(new) == 200
    assert place.target.status(place.model) == status, "no replica was started anew"

    left = place.left()
    assert status.url.rpartition(":")[2] in left, "what is looked through is not empty"
    assert old not in left
    assert new not in left


def test_limits_reach_the_replicas_and_new_ones_replace_them(place: Place, keys: Path) -> None:
    first = place.sync()
    limits = ReplicaLimits(body_bytes=1024, rows=2, seconds=5.0, waiting=8)
    status = place.sync(limits)
    assert {r.id for r in status.replicas}.isdisjoint({r.id for r in first.replicas})
    assert place.sync(limits) == status, "the same limits change nothing"
    key = {"Authorization": f"Bearer {keys.read_text().strip()}"}

    def ask(rows: int, padding: str = "") -> httpx.Response:
        body = {"instances": [{"x": 5}] * rows, "padding": padding}
        return httpx.post(f"{status.url}/invocations", json=body, headers=key)

    assert ask(2).is_success
    assert ask(3).status_code == 413
    assert "more than the 2 that" in ask(3).json()["error"]["message"]
    assert ask(1, padding="x" * 1024).status_code == 413
    described = httpx.get(f"{status.url}/openapi.json").json()
    rows = described["components"]["schemas"]["Invocation"]["oneOf"][0]["properties"]
    assert rows["dataframe_records"]["maxItems"] == 2
