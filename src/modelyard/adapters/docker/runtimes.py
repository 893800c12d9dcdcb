"""On which packages and which code do a release's replicas run?

The runtime is the image below a release's: Python, locked packages, and the code of a replica. It
depends on the requirements and not on the model, so it can be had before the model is trained, and
releases with the same requirements share it. Packages are resolved, fetched and checked against
their hashes on this machine; the build itself has no network.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from importlib import metadata
from pathlib import Path

from docker import DockerClient
from docker.models.images import Image
from filelock import FileLock

import modelyard
from modelyard.adapters.docker.builds import build, find_image, pack, run_inside
from modelyard.adapters.docker.containers import LOG_FOLDER
from modelyard.adapters.docker.engine import (
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
from modelyard.errors import RolloutError

RUNTIME_LABEL = "modelyard.runtime"
"""On a runtime and on every release built on it: what tells two runtimes apart."""
RUNTIME_REPOSITORY = "modelyard/runtime"
REPLICA_PARTS = ("__init__.py", "errors.py", "domain/**/*.py", "serving/**/*.py")

# Bytecode is compiled here since a read-only container can never cache it, and starting without is
# two to three times slower. Only syntax of the classic builder: Debian's engine has no other. One
# stage, and the packages as one file that the engine unpacks: each time that it handles thousands
# of small ones takes as long as all the rest.
RUNTIME_DOCKERFILE = f"""\
ARG BASE
FROM ${{BASE}}
ENV PATH=/opt/venv/bin:${{PATH}} PYTHONDONTWRITEBYTECODE=1 \
PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
EXPOSE {PORT}
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-I", "-c", \
"import http.client as h; c = h.HTTPConnection('127.0.0.1', {PORT}, timeout=3); \
c.request('GET', '/ready'); raise SystemExit(c.getresponse().status != 200)"]
RUN python -m venv --without-pip /opt/venv \
&& mkdir -p {LOG_FOLDER} && chown {REPLICA_USER}:{REPLICA_USER} {LOG_FOLDER}
ARG SITE
ADD packages.tar ${{SITE}}
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash ${{SITE}}
COPY application ${{SITE}}
RUN python -m compileall -q --invalidation-mode unchecked-hash ${{SITE}}/modelyard
COPY requirements.lock /opt/modelyard/requirements.lock
ARG KEY
LABEL {RUNTIME_LABEL}=${{KEY}}
USER {REPLICA_USER}:{REPLICA_USER}
"""

_DESCRIBE_PYTHON = """\
import json, platform, sys, sysconfig
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "machine": platform.machine(),
    "libc": platform.libc_ver()}))
"""


@engine_errors("the build of a runtime")
def prepare_runtime(
    requirements: str, *, base_image: str, home: Path, engine: DockerClient | None = None
) -> None:
    """Have the runtime of these pinned requirements ready, for a release that is still to come.

    Raises like `runtime_image`, and EngineUnavailableError when no engine answers.
    """
    engine = engine or connect_engine()
    runtime_image(engine, require_image(engine, base_image), requirements, home)


def runtime_image(engine: DockerClient, base: Image, requirements: str, home: Path) -> Image:
    """Return the runtime of these pinned requirements, built on first use.

    It carries its key as the label RUNTIME_LABEL. Who asks while another builds it waits for that
    one. Locked requirements are kept under `home`. Raises RolloutError when the requirements
    cannot be had, or the build fails.
    """
    folder = home / "images"
    folder.mkdir(parents=True, exist_ok=True)
    key = _runtime_key(base, requirements)
    with FileLock(folder / f"{key}.filelock"):
        return find_image(engine, f"{RUNTIME_REPOSITORY}:{key}") or _build_runtime(
            engine, base, requirements, key, folder
        )


def _runtime_key(base: Image, requirements: str) -> str:
    """Return what tells two runtimes apart: the digest of all that goes into one."""
    digest = hashlib.sha256()
    for part in (
        str(base.id),
        RUNTIME_DOCKERFILE,
        requirements,
        *container_requirements(),
        *(hashlib.sha256(content).hexdigest() for _, content in sorted(_application().items())),
    ):
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()[:20]


def _build_runtime(
    engine: DockerClient, base: Image, requirements: str, key: str, folder: Path
) -> Image:
    python = _describe_python(engine, base)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packages = Path(scratch) / "packages"
        lock = folder / f"{key}.requirements.lock"
        if not lock.exists():
            lock_requirements(requirements, python, lock)
        fetch_packages(lock, python, packages)
        archive = Path(scratch) / "packages.tar"
        with archive.open("wb") as file:
            pack({part.name: part for part in packages.iterdir()}, file)
        image = build(
            engine,
            {
                "Dockerfile": RUNTIME_DOCKERFILE.encode(),
                "requirements.lock": lock.read_bytes(),
                "packages.tar": archive,
                **{f"application/{name}": data for name, data in _application().items()},
            },
            arguments={"BASE": str(base.id), "SITE": _site(python), "KEY": key},
        )
    image.tag(RUNTIME_REPOSITORY, key)
    return image


def _describe_python(engine: DockerClient, base: Image) -> BasePython:
    """Ask the base image's own interpreter which wheels fit it."""
    code, output = run_inside(engine, base, ["python", "-c", _DESCRIBE_PYTHON])
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


def _site(python: BasePython) -> str:
    return f"/opt/venv/lib/python{python.version}/site-packages"
