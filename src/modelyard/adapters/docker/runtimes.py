"""On which packages and which code do a release's replicas run?

The runtime is the image below a release's: Python, locked packages, and the code of a replica. It
depends on the requirements and not on the model, so it can be had before the model is trained, and
releases with the same requirements share it. Packages are resolved, fetched and checked against
their hashes on this machine; the build itself has no network.
"""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from docker import DockerClient
from docker.models.images import Image
from filelock import FileLock

import modelyard
from modelyard.adapters.docker import interpreter, layers, wheels
from modelyard.adapters.docker.builds import build, find_image, read_file
from modelyard.adapters.docker.engine import (
    REPLICA_USER,
    connect_engine,
    engine_errors,
    require_image,
)
from modelyard.adapters.docker.haproxy import PORT
from modelyard.adapters.docker.layers import (
    CONTENTS_FILE,
    LOCK_FILE,
    PARTS,
    VENV,
    RuntimeContents,
    assemble,
    describe_python,
)
from modelyard.adapters.docker.wheels import (
    container_requirements,
    fetch_packages,
    lock_requirements,
)

RUNTIME_LABEL = "modelyard.runtime"
"""On a runtime and on every release built on it: what tells two runtimes apart."""
RUNTIME_REPOSITORY = "modelyard/runtime"
BASE_REPOSITORY = "modelyard/base"
REPLICA_PARTS = ("__init__.py", "errors.py", "domain/**/*.py", "serving/**/*.py")

_LAYERS = "\n".join(f"ADD {part}.tar /" for part in PARTS)

# Nothing runs in it, and the engine gets each layer as one archive: it takes as long for thousands
# of small files as for all the rest. Only syntax that every builder knows.
RUNTIME_DOCKERFILE = f"""\
ARG BASE
FROM ${{BASE}}
{_LAYERS}
ENV PATH=/{VENV}/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 \
PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 ORT_DISABLE_TELEMETRY=1
EXPOSE {PORT}
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-I", "-c", \
"import http.client as h; c = h.HTTPConnection('127.0.0.1', {PORT}, timeout=3); \
c.request('GET', '/ready'); raise SystemExit(c.getresponse().status != 200)"]
ARG KEY
LABEL {RUNTIME_LABEL}=${{KEY}}
USER {REPLICA_USER}:{REPLICA_USER}
"""


@dataclass(frozen=True)
class Runtime:
    """A runtime and what is in it."""

    image: Image
    key: str
    """Digest of all that went into it."""
    lock: str
    """Its packages, as pip's requirements with hashes."""
    contents: RuntimeContents

    @property
    def name(self) -> str:
        return f"{RUNTIME_REPOSITORY}:{self.key}"


@engine_errors("the build of a runtime")
def prepare_runtime(
    requirements: str,
    *,
    base_image: str,
    home: Path,
    whole_base: bool = False,
    engine: DockerClient | None = None,
) -> None:
    """Have the runtime of these pinned requirements ready, for a release that is still to come.

    Raises like `find_runtime`, and EngineUnavailableError when no engine answers.
    """
    engine = engine or connect_engine()
    base = require_image(engine, base_image)
    find_runtime(engine, base, requirements, home, whole_base=whole_base)


def find_runtime(
    engine: DockerClient, base: Image, requirements: str, home: Path, *, whole_base: bool = False
) -> Runtime:
    """Return the runtime of these pinned requirements, built on first use.

    Of the base image it has Python and what that is linked to, or, with `whole_base`, everything.
    It carries its key as the label RUNTIME_LABEL. Who asks while another builds it waits for that
    one. Locked requirements are kept under `home`. Raises RolloutError when the requirements
    cannot be had, or the build fails.
    """
    folder = home / "images"
    folder.mkdir(parents=True, exist_ok=True)
    key = _runtime_key(base, requirements, whole_base)
    with FileLock(folder / f"{key}.filelock"):
        image = find_image(engine, f"{RUNTIME_REPOSITORY}:{key}")
        if image is None:
            image = _build_runtime(engine, base, requirements, key, folder, whole_base)
    return Runtime(
        image=image,
        key=key,
        lock=read_file(engine, image, LOCK_FILE).decode(),
        contents=RuntimeContents.model_validate_json(read_file(engine, image, CONTENTS_FILE)),
    )


def _runtime_key(base: Image, requirements: str, whole_base: bool) -> str:
    """Return what tells two runtimes apart: the digest of all that goes into one."""
    digest = hashlib.sha256()
    for part in (
        str(base.id),
        str(whole_base),
        RUNTIME_DOCKERFILE,
        requirements,
        *container_requirements(),
        *(inspect.getsource(module) for module in (interpreter, layers, wheels)),
        *(hashlib.sha256(content).hexdigest() for _, content in sorted(_application().items())),
    ):
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()[:20]


def _build_runtime(
    engine: DockerClient,
    base: Image,
    requirements: str,
    key: str,
    folder: Path,
    whole_base: bool,
) -> Image:
    python = describe_python(engine, base)
    lock = folder / f"{key}.requirements.lock"
    if not lock.exists():
        lock_requirements(requirements, python, lock)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packages = Path(scratch) / "packages"
        fetch_packages(lock, python, packages)
        assemble(
            engine,
            base,
            python,
            packages=packages,
            application=_application(),
            lock=lock.read_bytes(),
            whole_base=whole_base,
            folder=Path(scratch),
        )
        return build(
            engine,
            {
                "Dockerfile": RUNTIME_DOCKERFILE.encode(),
                **{f"{part}.tar": Path(scratch) / f"{part}.tar" for part in PARTS},
            },
            tags=[f"{RUNTIME_REPOSITORY}:{key}"],
            arguments={"BASE": _named(base) if whole_base else "scratch", "KEY": key},
        )


def _named(base: Image) -> str:
    """Return a name that is this base image's alone: BuildKit finds none by its id."""
    name = f"{BASE_REPOSITORY}:{str(base.id).removeprefix('sha256:')[:20]}"
    base.tag(name)
    return name


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
