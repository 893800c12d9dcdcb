"""An image holds one release, is proven before it is used, and tells nothing of this machine."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import IO

import prometheus_client
import pytest
import starlette
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from docker import DockerClient

from modelyard.adapters.docker import builds
from modelyard.adapters.docker.builds import BUILDER_VARIABLE, EPOCH, build
from modelyard.adapters.docker.engine import HARDENED, connect_engine, require_image
from modelyard.adapters.docker.images import BUNDLE_FOLDER, SBOM_FILE
from modelyard.adapters.docker.layers import PARTS, assemble, describe_python
from modelyard.adapters.docker.runtimes import RUNTIME_LABEL, RUNTIME_REPOSITORY, find_runtime
from modelyard.adapters.docker.wheels import fetch_packages, lock_requirements
from modelyard.adapters.uv import run_uv
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


def contents_of(engine: DockerClient, image: ImageRef) -> list[dict[str, tuple[object, ...]]]:
    """Return what each layer makes of those below it: every entry, with all an archive says of it.

    The whole so far, since a builder may name a folder of a layer below again or not.
    """
    with tempfile.TemporaryFile() as file:
        for chunk in engine.images.get(image.id).save():
            file.write(chunk)
        file.seek(0)
        with tarfile.open(fileobj=file) as saved:
            manifest = json.load(read_member(saved, "manifest.json"))
            layers, below = [], {}
            for name in manifest[0]["Layers"]:
                with tarfile.open(fileobj=read_member(saved, name)) as layer:
                    below = {**below, **{entry.name: describe(layer, entry) for entry in layer}}
                layers.append(below)
    return layers


def differences(
    one: list[dict[str, tuple[object, ...]]], other: list[dict[str, tuple[object, ...]]]
) -> list[str]:
    """Return in words how two images' layers differ, a line for each entry that does."""
    return [
        f"layer {number}: {name} is {before.get(name)} and {after.get(name)}"
        for number, (before, after) in enumerate(zip(one, other, strict=True))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def read_member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.extractfile(name)
    assert member is not None
    return member


def describe(layer: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[object, ...]:
    content = layer.extractfile(entry) if entry.isreg() else None
    digest = sha256(content.read()).hexdigest() if content else None
    link = entry.linkname if entry.issym() else ""
    return entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, link, digest


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
    runtime = find_runtime(docker_engine, base, requirements, releases.home)
    release = docker_engine.images.get(releases.images["1.0.0"].id)
    assert release.labels[RUNTIME_LABEL] == runtime.key
    assert release.attrs["RootFS"]["Layers"][:-1] == runtime.image.attrs["RootFS"]["Layers"]


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


def test_what_does_not_end_inside_an_image_is_killed_and_says_so(
    docker_engine: DockerClient,
) -> None:
    code = "import time; print('begun', flush=True); time.sleep(300)"
    base = require_image(docker_engine, BASE_IMAGE)
    exit_code, said = builds.run_inside(docker_engine, base, ["python", "-c", code], seconds=3)
    assert exit_code != 0
    assert said == "begun\nIt did not end within 3 s."


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


def test_an_image_has_no_shell_and_no_package_manager(
    docker_engine: DockerClient, releases: Releases
) -> None:
    code = """
import json, pathlib, shutil
names = ("sh", "bash", "perl", "apt", "dpkg", "pip", "python")
print(json.dumps({
    "programs": [n for n in names if shutil.which(n)],
    "scanned": sorted(p.name for p in pathlib.Path("/var/lib/dpkg/status.d").iterdir()),
    "licence": pathlib.Path("/usr/share/doc/libc6/copyright").stat().st_size > 1000,
}))
"""
    seen = json.loads(run_inside(docker_engine, releases.images["1.0.0"], code))
    assert seen["programs"] == ["python"]
    assert {"libc6", "libssl3", "python3.11-minimal"} <= set(seen["scanned"])
    assert not {"dash", "perl-base", "apt", "libsystemd0"} & set(seen["scanned"])
    assert seen["licence"]


def test_the_whole_of_a_base_image_is_kept_where_a_model_needs_it(
    docker_engine: DockerClient, releases: Releases
) -> None:
    image = releases.build(docker_engine, "1.0.0", whole_base=True)
    base = require_image(docker_engine, BASE_IMAGE).attrs["RootFS"]["Layers"]
    assert image.layers[: len(base)] == tuple(base)
    found = run_inside(docker_engine, image, "import shutil; print(shutil.which('sh'))")
    assert found.endswith("/sh")
    assert releases.build(docker_engine, "1.0.0").layers == releases.images["1.0.0"].layers


def test_the_same_parts_make_the_same_archives_at_any_time(
    docker_engine: DockerClient, tmp_path: Path
) -> None:
    base = require_image(docker_engine, BASE_IMAGE)
    python = describe_python(docker_engine, base)
    digests = []
    for number in range(2):
        packages, folder = tmp_path / f"packages-{number}", tmp_path / f"layers-{number}"
        folder.mkdir()
        for module in (starlette, prometheus_client):
            origin = Path(module.__path__[0])
            shutil.copytree(origin, packages / origin.name, copy_function=shutil.copy)
        assemble(
            docker_engine,
            base,
            python,
            packages=packages,
            application={"application.py": b"ready = True\n"},
            lock=b"starlette\n",
            whole_base=False,
            folder=folder,
        )
        digests.append({f: sha256((folder / f"{f}.tar").read_bytes()).hexdigest() for f in PARTS})
    assert digests[0] == digests[1]
    with tarfile.open(folder / "packages.tar") as archive:
        names = archive.getnames()
        assert {entry.mtime for entry in archive} == {EPOCH}
    assert names == sorted(names)
    assert any(name.endswith("starlette/__pycache__/routing.cpython-311.pyc") for name in names)


def test_wheels_unpack_the_same_by_any_interpreter(
    docker_engine: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = describe_python(docker_engine, require_image(docker_engine, BASE_IMAGE))
    lock = tmp_path / "requirements.lock"
    lock_requirements("uvicorn\n", python, lock)
    digests: list[dict[str, str]] = []
    for name in ("one", "another"):
        assert run_uv("venv", "--quiet", str(tmp_path / name)).returncode == 0
        monkeypatch.setattr(sys, "executable", str(tmp_path / name / "bin" / "python"))
        packages = tmp_path / f"packages-{name}"
        fetch_packages(lock, python, packages)
        files = (file for file in packages.rglob("*") if file.is_file())
        digests.append(
            {
                file.relative_to(packages).as_posix(): sha256(file.read_bytes()).hexdigest()
                for file in files
            }
        )
        recorded = {
            row.split(",")[0]
            for record in packages.glob("*.dist-info/RECORD")
            for row in record.read_text().splitlines()
        }
        assert recorded == set(digests[-1])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("builder", ["0", "1"], ids=["classic", "buildkit"])
def test_each_builder_makes_the_same_layers_of_a_release(
    docker_engine: DockerClient,
    releases: Releases,
    builder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = releases.images["2.0.0"]
    contents = contents_of(docker_engine, expected)
    for name in expected.tags:
        docker_engine.images.remove(name)
    docker_engine.images.remove(f"{RUNTIME_REPOSITORY}:{expected.labels[RUNTIME_LABEL]}")
    monkeypatch.setenv(BUILDER_VARIABLE, builder)
    again = releases.build(docker_engine, "2.0.0")
    releases.images["2.0.0"] = again  # the same content under another id, which other tests run
    # Not the layers' digests: BuildKit orders a layer's entries in another way where the engine has
    # the layer below already from elsewhere.
    assert not differences(contents, contents_of(docker_engine, again))
    assert again.labels == expected.labels
    assert run_inside(docker_engine, again, "print('runs')") == "runs"


def test_what_a_builder_says_of_a_failure_is_told(
    docker_engine: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for builder in ("0", "1"):
        monkeypatch.setenv(BUILDER_VARIABLE, builder)
        with pytest.raises(RolloutError, match=r"cannot be built: .*missing\.tar"):
            build(
                docker_engine,
                {"Dockerfile": b"FROM scratch\nADD missing.tar /\n"},
                tags=["modelyard/never:built"],
                arguments={},
            )


def test_a_bill_of_materials_is_in_the_image_and_beside_it(
    docker_engine: DockerClient, releases: Releases
) -> None:
    image = releases.images["1.0.0"]
    inside = run_inside(docker_engine, image, f"print(open({SBOM_FILE!r}).read())")
    assert inside == image.sbom.read_text().strip()
    bill = json.loads(inside)
    assert not JsonStrictValidator(SchemaVersion.V1_6).validate_str(inside)
    assert bill["metadata"]["component"]["type"] == "machine-learning-model"
    assert bill["metadata"]["component"]["hashes"][0]["content"] == releases.digests["1.0.0"]
    installed = json.loads(
        run_inside(
            docker_engine,
            image,
            "import json; from importlib.metadata import distributions as d;"
            "print(json.dumps(sorted((x.metadata['Name'].lower(), x.version) for x in d())))",
        )
    )
    listed = {(c["name"].lower().replace("_", "-"), c["version"]) for c in bill["components"]}
    assert {(name.replace("_", "-"), version) for name, version in installed} <= listed
    assert any(
        c["purl"].startswith("pkg:deb/debian/libc6@") for c in bill["components"] if "purl" in c
    )
