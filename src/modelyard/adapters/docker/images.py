"""How does a release become a container image that is proven to predict as it was trained?

Two images: a runtime, one for each set of locked requirements, and on top of it the release, which
adds the bundle alone. Packages are resolved, fetched and checked against their hashes on this
machine; the build itself has no network. A release's image gets its tags after it has predicted
its golden rows right.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Mapping
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import IO

from docker import DockerClient
from docker.errors import BuildError, ImageNotFound
from docker.models.images import Image
from filelock import FileLock

import modelyard
from modelyard.adapters.docker.containers import (
    DIGEST_LABEL,
    LOG_FOLDER,
    MODEL_LABEL,
    VERSION_LABEL,
)
from modelyard.adapters.docker.engine import (
    HARDENED,
    REPLICA_USER,
    connect_engine,
    engine_errors,
    require_image,
)
from modelyard.adapters.docker.haproxy import PORT
from modelyard.adapters.docker.wheels import (
    BasePython,
    container_requirements,
    fetch_packages,
    lock_requirements,
)
from modelyard.domain.values import ImageRef
from modelyard.errors import BundleError, RolloutError
from modelyard.serving.bundle import MANIFEST, REQUIREMENTS, Manifest, bundle_digest

RUNTIME_LABEL = "modelyard.runtime"
RUNTIME_REPOSITORY = "modelyard/runtime"
BUNDLE_FOLDER = "/opt/modelyard/bundle"
REPLICA_PARTS = ("__init__.py", "errors.py", "domain/**/*.py", "serving/**/*.py")
CHECK_SECONDS = 120
GRACE_SECONDS = 3
"""For idle connections when a replica stops: its only client, the gateway, has left by then."""

# Bytecode is compiled here since a read-only container can never cache it, and starting without is
# two to three times slower. Only syntax of the classic builder: Debian's engine has no other.
RUNTIME_DOCKERFILE = f"""\
ARG BASE
FROM ${{BASE}} AS packages
ARG SITE
RUN python -m venv --without-pip /opt/venv
COPY packages ${{SITE}}
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash ${{SITE}}

FROM ${{BASE}} AS application
ARG SITE
COPY application /application
RUN python -m compileall -q --invalidation-mode unchecked-hash \
-s /application -p ${{SITE}} /application

FROM ${{BASE}}
ARG SITE
COPY --from=packages /opt/venv /opt/venv
COPY --from=application /application ${{SITE}}
COPY requirements.lock /opt/modelyard/requirements.lock
RUN mkdir -p {LOG_FOLDER} && chown {REPLICA_USER}:{REPLICA_USER} {LOG_FOLDER}
ENV PATH=/opt/venv/bin:${{PATH}} PYTHONDONTWRITEBYTECODE=1 \
PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
ARG KEY
LABEL {RUNTIME_LABEL}=${{KEY}}
USER {REPLICA_USER}:{REPLICA_USER}
EXPOSE {PORT}
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-I", "-c", \
"import http.client as h; c = h.HTTPConnection('127.0.0.1', {PORT}, timeout=3); \
c.request('GET', '/ready'); raise SystemExit(c.getresponse().status != 200)"]
"""

RELEASE_DOCKERFILE = """\
ARG RUNTIME
FROM ${{RUNTIME}}
COPY bundle {bundle}
LABEL {labels}
CMD {command}
"""

_DESCRIBE_PYTHON = """\
import json, platform, sys, sysconfig
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "machine": platform.machine(),
    "libc": platform.libc_ver()}))
"""

_CHECK_GOLDEN = """\
import sys
from pathlib import Path
from modelyard.errors import ModelYardError
from modelyard.serving.bundle import load_bundle
try:
    load_bundle(Path(sys.argv[1]), sys.argv[2]).check_golden()
except ModelYardError as err:
    sys.exit(str(err))
"""


@engine_errors("the image build")
def build_image(
    bundle_folder: Path,
    *,
    model: str,
    version: str,
    digest: str,
    base_image: str,
    home: Path,
    engine: DockerClient | None = None,
) -> ImageRef:
    """Build a release's image, prove it on its golden rows, and return it.

    Idempotent: the image of the same bundle on the same runtime is returned as it is. Locked
    requirements are kept under `home`.

    Raises BundleError when the bundle is not the one of `digest` or does not predict as recorded
    inside the image, RolloutError when its requirements cannot be had or the build fails,
    EngineUnavailableError when no engine answers.
    """
    engine = engine or connect_engine()
    found = bundle_digest(bundle_folder)
    if found != digest:
        raise BundleError(
            f"The bundle {bundle_folder} has the digest {found}, not {digest} of {model} "
            f"{version}. Write it again before building its image."
        )
    base = require_image(engine, base_image)
    repository = f"modelyard/{model}"
    tags = (f"{version}-{digest[:12]}", version)
    folder = home / "images"
    folder.mkdir(parents=True, exist_ok=True)
    runtime_key = _runtime_key(base, bundle_folder / REQUIREMENTS)
    with FileLock(folder / f"{runtime_key}.filelock"):
        runtime = _find(engine, f"{RUNTIME_REPOSITORY}:{runtime_key}") or _build_runtime(
            engine, base, bundle_folder / REQUIREMENTS, runtime_key, folder
        )
    image = _find(engine, f"{repository}:{tags[0]}")
    if image is None or image.labels.get(RUNTIME_LABEL) != runtime_key:
        labels = _release_labels(bundle_folder, model, version, digest, base_image, base)
        image = _build_release(engine, runtime, bundle_folder, digest, labels)
        _check_golden(engine, image, model, version, digest)
    for tag in tags:
        image.tag(repository, tag)
    return ImageRef(
        id=str(image.id),
        tags=tuple(f"{repository}:{tag}" for tag in tags),
        size_bytes=image.attrs["Size"],
        labels=image.labels,
    )


def _runtime_key(base: Image, requirements: Path) -> str:
    """Return what tells two runtimes apart: the digest of all that goes into one."""
    digest = hashlib.sha256()
    for part in (
        str(base.id),
        RUNTIME_DOCKERFILE,
        requirements.read_text(),
        *container_requirements(),
        *(hashlib.sha256(content).hexdigest() for _, content in sorted(_application().items())),
    ):
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()[:20]


def _build_runtime(
    engine: DockerClient, base: Image, requirements: Path, key: str, folder: Path
) -> Image:
    python = _describe_python(engine, base)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packages = Path(scratch) / "packages"
        lock = folder / f"{key}.requirements.lock"
        if not lock.exists():
            lock_requirements(requirements, python, lock)
        fetch_packages(lock, python, packages)
        image = _build(
            engine,
            {
                "Dockerfile": RUNTIME_DOCKERFILE.encode(),
                "requirements.lock": lock.read_bytes(),
                "packages": packages,
                **{f"application/{name}": data for name, data in _application().items()},
            },
            arguments={"BASE": str(base.id), "SITE": _site(python), "KEY": key},
        )
    image.tag(RUNTIME_REPOSITORY, key)
    return image


def _describe_python(engine: DockerClient, base: Image) -> BasePython:
    """Ask the base image's own interpreter which wheels fit it."""
    code, output = _run(engine, base, ["python", "-c", _DESCRIBE_PYTHON])
    if code != 0:
        raise RolloutError(
            f"The base image {base.tags or base.id} has no usable `python`: {output}\nName an "
            "image like python:3.11-slim as `docker.base_image` in configs/platform.yaml."
        )
    found = json.loads(output)
    libc, libc_version = found["libc"]
    suffix = f"manylinux_{libc_version.replace('.', '_')}" if libc else "unknown-linux-musl"
    return BasePython(found["version"], f"{found['machine']}-{suffix}")


def _application() -> dict[str, bytes]:
    """Return what of the modelyard package a replica runs, by path: the very code imported here.

    Copied and not built as a wheel: that needs a build backend and the sources of the project,
    and an installation has neither. The rest of the package stays out, so that a change to it
    leaves the runtime as it is.
    """
    package = Path(modelyard.__file__).parent
    version = metadata.version("modelyard")
    about = f"Metadata-Version: 2.1\nName: modelyard\nVersion: {version}\n"
    files = (file for part in REPLICA_PARTS for file in package.glob(part))
    return {f"modelyard-{version}.dist-info/METADATA": about.encode()} | {
        f"modelyard/{file.relative_to(package).as_posix()}": file.read_bytes() for file in files
    }


def _release_labels(
    bundle_folder: Path, model: str, version: str, digest: str, base_name: str, base: Image
) -> dict[str, str]:
    """Return labels with the names of the OCI image specification, and our own."""
    manifest = Manifest.model_validate_json((bundle_folder / MANIFEST).read_bytes())
    base_digests = base.attrs.get("RepoDigests") or ()
    labels = {
        "org.opencontainers.image.title": model,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": manifest.provenance.get("git_commit", ""),
        "org.opencontainers.image.base.name": base_name,
        # an image that was never in a registry has no digest there
        "org.opencontainers.image.base.digest": next(
            (d.partition("@")[2] for d in base_digests), str(base.id)
        ),
        MODEL_LABEL: model,
        VERSION_LABEL: version,
        DIGEST_LABEL: digest,
    }
    return {name: value for name, value in labels.items() if value}


def _build_release(
    engine: DockerClient, runtime: Image, bundle: Path, digest: str, labels: Mapping[str, str]
) -> Image:
    command = [
        *("python", "-m", "modelyard.serving.replica", "--host", "0.0.0.0", "--port", str(PORT)),
        *("--bundle", BUNDLE_FOLDER, "--digest", digest, "--log", LOG_FOLDER),
        *("--grace", str(GRACE_SECONDS)),
    ]
    dockerfile = RELEASE_DOCKERFILE.format(
        bundle=BUNDLE_FOLDER,
        # one instruction, since each is a container and a tenth of a second
        labels=" ".join(f"{name}={_quoted(value)}" for name, value in labels.items()),
        command=json.dumps(command),
    )
    return _build(
        engine,
        {"Dockerfile": dockerfile.encode(), "bundle": bundle},
        arguments={"RUNTIME": str(runtime.id)},
    )


def _quoted(text: str) -> str:
    """Return text as a Dockerfile's word that means just that."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")


def _check_golden(
    engine: DockerClient, image: Image, model: str, version: str, digest: str
) -> None:
    """Predict the golden rows inside the image; an image that fails is removed."""
    code, output = _run(engine, image, ["python", "-c", _CHECK_GOLDEN, BUNDLE_FOLDER, digest])
    if code != 0:
        engine.images.remove(image.id, force=True)
        raise BundleError(
            f"The image of {model} {version} was built and refused, since it does not predict as "
            f"the model that was trained. It said:\n{output}"
        )


def _site(python: BasePython) -> str:
    return f"/opt/venv/lib/python{python.version}/site-packages"


def _run(engine: DockerClient, image: Image, command: list[str]) -> tuple[int, str]:
    """Run a command in a container that can reach nothing; return exit code and output."""
    container = engine.containers.create(
        image, entrypoint=[], command=command, network_mode="none", mem_limit="1g", **HARDENED
    )
    try:
        container.start()
        code = container.wait(timeout=CHECK_SECONDS)["StatusCode"]
        return code, container.logs().decode(errors="replace").strip()
    finally:
        container.remove(force=True)


def _build(
    engine: DockerClient,
    context: Mapping[str, Path | bytes],
    *,
    arguments: Mapping[str, str],
) -> Image:
    """Build an image from a context of these files and folders, without a network."""
    with tempfile.TemporaryFile() as archive:
        _pack(context, archive)
        archive.seek(0)
        try:
            image, _ = engine.images.build(
                fileobj=archive,
                custom_context=True,
                network_mode="none",
                buildargs=dict(arguments),
                rm=True,
                forcerm=True,
            )
        except BuildError as err:
            said = "".join(str(line.get("stream", "")) for line in err.build_log)
            raise RolloutError(f"The image cannot be built: {err}\n{said[-2000:]}") from err
    return image


def _pack(context: Mapping[str, Path | bytes], archive: IO[bytes]) -> None:
    """Write a tar that is the same for the same content: times, owners and modes are not ours.

    Equal contexts let the engine reuse its layers, and no name or id of this machine gets in.
    """

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = 0
        entry.mode = 0o755 if entry.isdir() else 0o644
        return entry

    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for name, content in sorted(context.items()):
            if isinstance(content, Path):
                tar.add(content, arcname=name, filter=plain)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(plain(entry), BytesIO(content))


def _find(engine: DockerClient, name: str) -> Image | None:
    try:
        return engine.images.get(name)
    except ImageNotFound:
        return None
