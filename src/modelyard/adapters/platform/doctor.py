"""What does this machine have and lack for the loop to run?"""

from __future__ import annotations

import importlib.metadata
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator

from packaging.requirements import Requirement

from modelyard.adapters.platform.part import HOST
from modelyard.adapters.platform.parts import read_platform
from modelyard.domain.values import Value
from modelyard.errors import ModelYardError
from modelyard.project import Project

_LEAST_FREE_GB = 2.0
"""Databases, logs and a few releases; images need more."""

_DISTRIBUTION = "modelyard"


class Check(Value):
    """One thing that was looked at."""

    name: str
    ok: bool
    required: bool
    """Whether the loop on local processes needs it."""
    found: str
    mend: str | None = None
    """What to do, where it is not ok."""


def examine(project: Project) -> list[Check]:
    """Look at everything that the platform needs; nothing is changed, nothing is started."""
    checks: tuple[Callable[[Project], Iterator[Check]], ...] = (
        _python,
        _packages,
        _configs,
        _home,
        _ports,
        _docker,
    )
    return [check for look in checks for check in look(project)]


def _python(_: Project) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = importlib.metadata.metadata(_DISTRIBUTION)["Requires-Python"]
    ok = Requirement(f"python{wanted}").specifier.contains(version)
    yield Check(
        name="Python",
        ok=ok,
        required=True,
        found=f"{version} at {sys.executable}",
        mend=None if ok else f"ModelYard needs Python {wanted}: `uv python install 3.11`.",
    )


def _packages(_: Project) -> Iterator[Check]:
    """Compare what is installed with what ModelYard was tested with."""
    wrong: list[str] = []
    wanted = [Requirement(text) for text in importlib.metadata.requires(_DISTRIBUTION) or ()]
    needed = [r for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    yield Check(
        name="Packages",
        ok=not wrong,
        required=True,
        found="; ".join(wrong) or f"{len(needed)} as required",
        mend="Install the locked versions: `uv sync`." if wrong else None,
    )


def _configs(project: Project) -> Iterator[Check]:
    wrong: list[str] = []
    for name in project.model_names():
        try:
            project.model(name)
        except ModelYardError as err:
            wrong.append(str(err).splitlines()[0])
    yield Check(
        name="Configs",
        ok=not wrong,
        required=True,
        found="; ".join(wrong) or f"{len(project.model_names())} in configs/models",
        mend="`modelyard validate` names each line." if wrong else None,
    )


def _home(project: Project) -> Iterator[Check]:
    try:
        with tempfile.TemporaryFile(dir=project.folder()):
            pass
        yield Check(name="Home folder", ok=True, required=True, found=f"{project.home} is writable")
    except OSError as err:
        yield Check(
            name="Home folder",
            ok=False,
            required=True,
            found=f"{project.platform.home}: {err.strerror}",
            mend="Make it writable, or name another as `home` in configs/platform.yaml.",
        )
        return
    free = shutil.disk_usage(project.home).free / 1e9
    ok = free >= _LEAST_FREE_GB
    yield Check(
        name="Free disk",
        ok=ok,
        required=True,
        found=f"{free:.1f} GB",
        mend=None if ok else f"Free {_LEAST_FREE_GB:.0f} GB, or move `home` to another disk.",
    )


def _ports(project: Project) -> Iterator[Check]:
    """Look whether the servers can have the ports that they are configured for."""
    running = {str(name): part for name, part in read_platform(project).items()}
    for name, port in project.platform.ports.model_dump(exclude_none=True).items():
        part = running.get(name)
        if part:
            yield Check(name=f"{name} server", ok=True, required=False, found=f"runs at {part.url}")
            continue
        taken = _is_taken(port)
        yield Check(
            name=f"{name} server",
            ok=not taken,
            required=False,
            found=f"port {port} is {'taken' if taken else 'free'}",
            mend=f"`modelyard up` takes the next free one; ports.{name} in configs/platform.yaml "
            "names another."
            if taken
            else None,
        )


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _docker(project: Project) -> Iterator[Check]:
    """Look for an engine and its images; only models with `service.target: docker` need them."""
    from modelyard.adapters.docker.engine import connect_engine

    wanting = [n for n in project.model_names() if _is_on_docker(project, n)]
    try:
        engine = connect_engine()
    except ModelYardError as err:
        yield Check(
            name="Docker engine",
            ok=False,
            required=bool(wanting),
            found="none answers" + (f"; {', '.join(wanting)} need it" if wanting else ""),
            mend=str(err).partition(". ")[2] or str(err),
        )
        return
    version = engine.version()["Version"]
    yield Check(name="Docker engine", ok=True, required=bool(wanting), found=f"answers, {version}")
    images = project.platform.docker
    for name in (images.base_image, images.gateway_image):
        ok = bool(engine.images.list(name=name))
        yield Check(
            name="Image",
            ok=ok,
            required=bool(wanting),
            found=f"{name} is {'there' if ok else 'not there'}",
            mend=None if ok else f"`docker pull {name}`, or scripts/make_base_images.sh.",
        )


def _is_on_docker(project: Project, name: str) -> bool:
    try:
        return project.model(name).service.target == "docker"
    except ModelYardError:
        return False  # said by the check of the configs
