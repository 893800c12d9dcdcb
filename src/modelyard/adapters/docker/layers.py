"""Which archives does a replica's file system consist of?

An interpreter, the packages, and the code of a replica, each a layer. They are put together inside
the base image, whose Python compiles them and knows what it is linked to; the archives that leave
it are the same for the same content.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from docker import DockerClient
from docker.models.containers import Container
from docker.models.images import Image

from modelyard.adapters.docker.builds import pack, plain, run_inside
from modelyard.adapters.docker.containers import LOG_FOLDER
from modelyard.adapters.docker.engine import CONFINED, REPLICA_USER
from modelyard.domain.values import Value
from modelyard.errors import RolloutError

VENV = "opt/venv"
PARTS = ("interpreter", "packages", "application")
"""What changes least comes first."""
LOCK_FILE = "/opt/modelyard/requirements.lock"
CONTENTS_FILE = "/opt/modelyard/contents.json"

_ASSEMBLE_SECONDS = 900
_WORK = "work"

_DESCRIBE = """\
import json, os, platform, sys
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "full_version":
    platform.python_version(), "executable": os.path.realpath(sys.executable),
    "machine": platform.machine(), "libc": platform.libc_ver()}))
"""


@dataclass(frozen=True)
class BasePython:
    """The interpreter of a base image."""

    version: str
    """Major and minor."""
    full_version: str
    executable: str
    platform: str
    """As uv names it."""

    @property
    def site(self) -> str:
        """Where a replica's packages are, without the leading slash."""
        return f"{VENV}/lib/python{self.version}/site-packages"


class SystemPackage(Value):
    """A Debian package of which something is in an image."""

    name: str
    version: str
    arch: str


class RuntimeContents(Value):
    """What a runtime took from its base image."""

    python: str
    """Full version."""
    packages: tuple[SystemPackage, ...]
    """None where the base image has no record of its packages."""


def describe_python(engine: DockerClient, base: Image) -> BasePython:
    """Ask the base image's own interpreter which wheels fit it."""
    code, output = run_inside(engine, base, ["python", "-c", _DESCRIBE])
    if code != 0:
        raise RolloutError(
            f"The base image {base.tags or base.id} has no usable `python`: {output}\nName an "
            "image like python:3.11-slim as `docker.base_image` in configs/platform.yaml."
        )
    found = json.loads(output)
    libc, libc_version = found["libc"]
    suffix = f"manylinux_{libc_version.replace('.', '_')}" if libc else "unknown-linux-musl"
    return BasePython(
        version=found["version"],
        full_version=found["full_version"],
        executable=found["executable"],
        platform=f"{found['machine']}-{suffix}",
    )


def assemble(
    engine: DockerClient,
    base: Image,
    python: BasePython,
    *,
    packages: Path,
    application: Mapping[str, bytes],
    lock: bytes,
    whole_base: bool,
    folder: Path,
) -> None:
    """Write one archive for each of PARTS into `folder`.

    Args:
        packages: folder of the unpacked wheels.
        application: files beside them, by path.
        lock: which packages these are: kept as LOCK_FILE, beside CONTENTS_FILE.
        whole_base: whether the archives go on top of the base image, or stand alone.

    Raises RolloutError when the base image's interpreter cannot do it.
    """
    # Not read-only: this container is where the files are put together.
    container = engine.containers.create(
        base,
        entrypoint=[],
        command=[
            *("python", f"/{_WORK}/interpreter.py"),
            *("whole" if whole_base else "needed", f"/{python.site}"),
        ],
        user="0:0",
        network_mode="none",
        **CONFINED,
    )
    try:
        _put(container, packages, application)
        container.start()
        code = container.wait(timeout=_ASSEMBLE_SECONDS)["StatusCode"]
        output = container.logs(stdout=True, stderr=code != 0).decode(errors="replace").strip()
        if code != 0:
            raise RolloutError(
                f"The base image {base.tags or base.id} cannot give its Python to a replica: "
                f"{output[-2000:]}"
            )
        _layer(container, folder, "interpreter", "", _environment(python, whole_base))
        _layer(container, folder, "packages", python.site)
        about = {LOCK_FILE: lock, CONTENTS_FILE: output.encode()}
        _layer(container, folder, "application", python.site, _files(about))
    finally:
        container.remove(force=True)


def _put(container: Container, packages: Path, application: Mapping[str, bytes]) -> None:
    inside = resources.files("modelyard.adapters.docker") / "interpreter.py"
    files: dict[str, Path | bytes] = {
        f"{_WORK}/interpreter.py": inside.read_bytes(),
        f"{_WORK}/packages": packages,
        **{f"{_WORK}/application/{name}": data for name, data in application.items()},
    }
    with tempfile.TemporaryFile() as archive:
        pack(files, archive)
        archive.seek(0)
        container.put_archive("/", archive)  # pyright: ignore[reportArgumentType]  # a file is streamed


_Entries = dict[str, tuple[tarfile.TarInfo, IO[bytes] | None]]


def _environment(python: BasePython, whole_base: bool) -> _Entries:
    """Return what makes an interpreter the replica's own, and the folders that it may write to."""
    config = (
        f"home = {PurePosixPath(python.executable).parent}\n"
        "include-system-site-packages = false\n"
        f"version = {python.full_version}\n"
    )
    link = tarfile.TarInfo(f"{VENV}/bin/python")
    link.type, link.linkname = tarfile.SYMTYPE, python.executable
    entries = {**_files({f"/{VENV}/pyvenv.cfg": config.encode()}), link.name: (plain(link), None)}
    log = _folder(LOG_FOLDER.lstrip("/"))
    log.uid = log.gid = REPLICA_USER
    entries[log.name] = (log, None)
    if not whole_base:
        temporary = _folder("tmp")
        temporary.mode = 0o1777
        entries["tmp"] = (temporary, None)
    return entries


def _layer(
    container: Container, folder: Path, part: str, place: str, more: _Entries | None = None
) -> None:
    """Take a folder of the container out as an archive that puts it to its final place."""
    chunks, _ = container.get_archive(f"/{_WORK}/{part}")
    with tempfile.TemporaryFile(dir=folder) as raw:
        for chunk in chunks:
            raw.write(chunk)
        raw.seek(0)
        with tarfile.open(fileobj=raw) as taken:
            entries: _Entries = dict(more or {})
            for entry in taken:
                name = str(PurePosixPath(place, *PurePosixPath(entry.name).parts[1:]))
                if name == "." or entry.isdir():
                    continue
                entry.name = name
                entries[name] = (plain(entry), taken.extractfile(entry) if entry.isreg() else None)
            _write_layer(entries, folder / f"{part}.tar")


def _write_layer(entries: _Entries, target: Path) -> None:
    """Write entries in the order of their names, with every folder above them.

    A folder that an archive does not name would get the time of the build.
    """
    folders = _folders_above(entries)
    every = {**{name: (_folder(name), None) for name in folders}, **entries}
    with tarfile.open(target, "w") as tar:
        for _, (entry, content) in sorted(every.items()):
            tar.addfile(entry, content)


def _folders_above(names: Iterable[str]) -> set[str]:
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return parents - {"."}


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE
    return plain(entry)


def bundle_layer(bundle: Path, place: str, more: Mapping[str, bytes], target: Path) -> None:
    """Write the archive of a release's own layer: its bundle's files, and others by their path."""
    with ExitStack() as opened:
        entries: _Entries = {}
        for file in (f for f in bundle.rglob("*") if f.is_file()):
            entry = tarfile.TarInfo(f"{place}/{file.relative_to(bundle).as_posix()}".lstrip("/"))
            entry.size = file.stat().st_size
            entries[entry.name] = (plain(entry), opened.enter_context(file.open("rb")))
        _write_layer({**entries, **_files(more)}, target)


def _files(contents: Mapping[str, bytes]) -> _Entries:
    entries: _Entries = {}
    for path, content in contents.items():
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size = len(content)
        entries[entry.name] = (plain(entry), BytesIO(content))
    return entries
