"""An image holds one release, is proven before it is used, and tells nothing of this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from docker import DockerClient

from modelyard.adapters.docker.engine import HARDENED, connect_engine, require_image
from modelyard.adapters.docker.images import BUNDLE_FOLDER
from modelyard.adapters.docker.runtimes import RUNTIME_LABEL, runtime_image
from modelyard.domain.values import ImageRef
from modelyard.errors import BundleError, EngineUnavailableError, RolloutError
from modelyard.serving.bundle import bundle_digest
from tests.docker_releases import BASE_IMAGE, Releases, write_release
from tests.serving_bundles import falsify_golden

# Images are built once, and the engine is not fought over.
pytestmark = pytest.mark.xdist_group("docker")

SECRET = "image-test-secret-5f1c"


def run_inside(engine: DockerClient, image: ImageRef, code: str) -> str:
    output = engine.containers.run(
        image.id, ["python", "-c", code], network_mode="none", remove=True, **HARDENED
    )
    return output.decode().strip()


def test_an_image_says_what_it_holds_and_how_it_is_run(
    docker_engine: DockerClient, releases: Releases
) -> None:
    image = releases.images["1.0.0"]
    config = docker_engine.images.get(image.id).attrs["Config"]
    digest = releases.digests["1.0.0"]
    assert image.tags == (
        f"modelyard/{releases.model}:1.0.0-{digest[:12]}",
        f"modelyard/{releases.model}:1.0.0",
    )
    assert image.labels["modelyard.digest"] == digest
    assert image.labels["org.opencontainers.image.title"] == releases.model
    assert image.labels["org.opencontainers.image.version"] == "1.0.0"
    assert image.labels["org.opencontainers.image.revision"] == "0123abc"
    assert image.labels["org.opencontainers.image.base.name"] == BASE_IMAGE
    assert image.labels["org.opencontainers.image.base.digest"].startswith("sha256:")
    assert config["User"] == "10001:10001"
    assert "/ready" in " ".join(config["Healthcheck"]["Test"])
    assert digest in config["Cmd"]


def test_an_image_holds_what_a_replica_needs_and_no_more(
    docker_engine: DockerClient, releases: Releases
) -> None:
    code = """
import importlib.util as u, json, os, pathlib, modelyard
site = pathlib.Path(modelyard.__file__).parents[1]
names = ("prefect", "mlflow", "docker", "evidently", "modelyard.adapters", "modelyard.serving.app")
print(json.dumps({
    "found": [n for n in names if u.find_spec(n)], "uid": os.getuid(),
    "compiled": len(list((site / "numpy").glob("__pycache__/*.pyc"))),
    "environment": dict(os.environ),
    "owned": [str(p) for p in pathlib.Path("/opt").rglob("*") if os.access(p, os.W_OK)][:3],
}))
"""
    seen = json.loads(run_inside(docker_engine, releases.images["1.0.0"], code))
    assert seen["found"] == ["modelyard.serving.app"]
    assert seen["uid"] == 10001
    assert seen["compiled"] > 0
    assert seen["owned"] == []
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"


def test_no_path_or_secret_of_this_machine_gets_into_an_image(
    docker_engine: DockerClient, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    image = docker_engine.images.get(releases.build(docker_engine, "2.0.0").id)
    about = json.dumps([image.attrs["Config"], image.history()])
    code = f"""
import pathlib
needles = [{str(releases.home)!r}.encode(), {SECRET!r}.encode()]
folders = ({BUNDLE_FOLDER!r}, "/opt/venv/lib/python3.11/site-packages/modelyard")
files = [f for folder in folders for f in pathlib.Path(folder).rglob("*") if f.is_file()]
print(len(files) > 10, [str(f) for f in files if any(n in f.read_bytes() for n in needles)])
"""
    assert run_inside(docker_engine, releases.images["2.0.0"], code) == "True []"
    for needle in (str(releases.home), str(Path.cwd()), SECRET):
        assert needle not in about


def test_two_releases_with_the_same_requirements_share_all_but_the_bundle(
    docker_engine: DockerClient, releases: Releases
) -> None:
    first, second = (
        docker_engine.images.get(image.id).attrs["RootFS"]["Layers"]
        for image in releases.images.values()
    )
    assert first[:-1] == second[:-1]
    assert first[-1] != second[-1]


def test_a_runtime_that_was_prepared_is_the_one_that_a_release_is_built_on(
    docker_engine: DockerClient, releases: Releases
) -> None:
    base = require_image(docker_engine, BASE_IMAGE)
    requirements = (releases.bundles["1.0.0"] / "requirements.txt").read_text()
    runtime = runtime_image(docker_engine, base, requirements, releases.home)
    release = docker_engine.images.get(releases.images["1.0.0"].id)
    assert release.labels[RUNTIME_LABEL] == runtime.labels[RUNTIME_LABEL]
    assert release.attrs["RootFS"]["Layers"][:-1] == runtime.attrs["RootFS"]["Layers"]


def test_building_the_same_bundle_again_does_nothing(
    docker_engine: DockerClient, releases: Releases
) -> None:
    begun = time.monotonic()
    assert releases.build(docker_engine, "1.0.0") == releases.images["1.0.0"]
    assert time.monotonic() - begun < 2


def test_a_bundle_that_does_not_predict_as_recorded_gets_no_image(
    docker_engine: DockerClient, releases: Releases, tmp_path: Path
) -> None:
    bundle = tmp_path / "1.0.0"
    write_release(bundle, releases.model, "1.0.0")
    falsify_golden(bundle)
    digest = bundle_digest(bundle)
    with pytest.raises(BundleError, match="does not predict as recorded: golden row 1"):
        releases.build(docker_engine, "1.0.0", bundle, digest)
    left = docker_engine.images.list(filters={"label": f"modelyard.digest={digest}"})
    assert left == []
    assert docker_engine.images.get(releases.images["1.0.0"].tags[1]).id == (
        releases.images["1.0.0"].id
    )


def test_a_bundle_that_was_changed_is_refused_before_it_is_built(
    docker_engine: DockerClient, releases: Releases, tmp_path: Path
) -> None:
    bundle = tmp_path / "1.0.0"
    digest = write_release(bundle, releases.model, "1.0.0")
    (bundle / "requirements.txt").write_text("scikit-learn\n")
    with pytest.raises(BundleError, match=f"not {digest}"):
        releases.build(docker_engine, "1.0.0", bundle, digest)


def test_requirements_that_cannot_be_had_are_named(
    docker_engine: DockerClient, releases: Releases, tmp_path: Path
) -> None:
    bundle = tmp_path / "1.0.0"
    digest = write_release(bundle, releases.model, "1.0.0", "scikit-learn==0.0.0.1\n")
    with pytest.raises(RolloutError, match=r"scikit-learn==0\.0\.0\.1"):
        releases.build(docker_engine, "1.0.0", bundle, digest)


def test_an_image_that_is_not_there_is_named_with_how_to_get_it(
    docker_engine: DockerClient,
) -> None:
    # nothing listens on that port: no registry is asked
    with pytest.raises(RolloutError, match=r"127\.0\.0\.1:1/missing.*make_base_images"):
        require_image(docker_engine, "127.0.0.1:1/missing:none")


def test_without_an_engine_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nothing.sock'}")
    with pytest.raises(EngineUnavailableError, match=r"install_docker_engine.*target: local"):
        connect_engine()
