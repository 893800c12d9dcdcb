"""How do files on this machine become an image, and what does a command say inside of one?"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import IO

from docker import DockerClient
from docker.errors import BuildError, ImageNotFound
from docker.models.images import Image

from modelyard.adapters.docker.engine import HARDENED
from modelyard.errors import RolloutError

RUN_SECONDS = 120


def build(
    engine: DockerClient,
    context: Mapping[str, Path | bytes],
    *,
    arguments: Mapping[str, str],
) -> Image:
    """Build an image from a context of these files and folders, without a network.

    Raises RolloutError with the end of what the build printed.
    """
    with tempfile.TemporaryFile() as archive:
        pack(context, archive)
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


def run_inside(engine: DockerClient, image: Image, command: list[str]) -> tuple[int, str]:
    """Run a command in a container that can reach nothing; return exit code and output."""
    container = engine.containers.create(
        image, entrypoint=[], command=command, network_mode="none", mem_limit="1g", **HARDENED
    )
    try:
        container.start()
        code = container.wait(timeout=RUN_SECONDS)["StatusCode"]
        return code, container.logs().decode(errors="replace").strip()
    finally:
        container.remove(force=True)


def find_image(engine: DockerClient, name: str) -> Image | None:
    """Return the image of that name, if the engine has it."""
    try:
        return engine.images.get(name)
    except ImageNotFound:
        return None


def pack(context: Mapping[str, Path | bytes], archive: IO[bytes]) -> None:
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
