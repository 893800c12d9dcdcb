"""How do files on this machine become an image, and what does a command say inside of one?

An image is made of archives that the engine unpacks, and of nothing that runs: so what is in a
layer does not depend on when and by which builder it was made.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from docker import DockerClient
from docker.errors import ImageNotFound
from docker.models.containers import Container
from docker.models.images import Image
from requests.exceptions import RequestException

from modelyard.adapters.docker.engine import HARDENED, TIMEOUT_SECONDS
from modelyard.errors import RolloutError

RUN_SECONDS = 120

EPOCH = 315_532_800
"""Modification time of every file, in seconds: 1980, the earliest that a zip archive can tell."""

BUILDER_VARIABLE = "DOCKER_BUILDKIT"
"""The environment variable by which Docker's own command is told to use BuildKit (1) or not (0)."""


def build(
    engine: DockerClient,
    context: Mapping[str, Path | bytes],
    *,
    tags: Iterable[str],
    arguments: Mapping[str, str],
) -> Image:
    """Build an image from a context of these files and folders, without a network.

    By the builder that the engine recommends, or that BUILDER_VARIABLE asks for. The image gets
    the first tag from the build, since BuildKit finds what to build on by name only, and the
    others after it.

    Raises RolloutError with what the builder said.
    """
    first, *others = tags
    buildkit = _uses_buildkit(engine)
    arguments = {**arguments, "SOURCE_DATE_EPOCH": str(EPOCH)} if buildkit else arguments
    with tempfile.TemporaryFile() as archive:
        pack(context, archive)
        archive.seek(0)
        # The SDK's own call knows the classic builder alone.
        answer = engine.api.post(
            _address(engine, "build"),
            params={
                "t": first,
                "version": 2 if buildkit else 1,
                "networkmode": "none",
                "buildargs": json.dumps(arguments),
                "rm": True,
                "forcerm": True,
            },
            data=archive,
            headers={"Content-Type": "application/x-tar"},
            stream=True,
            timeout=TIMEOUT_SECONDS,
        )
        with answer:
            _follow(answer.iter_lines(), answer.ok)
    image = engine.images.get(first)
    for tag in others:
        image.tag(tag)
    return image


def _uses_buildkit(engine: DockerClient) -> bool:
    asked = os.environ.get(BUILDER_VARIABLE, "").lower()
    if asked:
        return asked not in ("0", "false")
    ping = engine.api.get(f"{engine.api.base_url}/_ping", timeout=TIMEOUT_SECONDS)
    return ping.headers.get("Builder-Version") == "2"


def _address(engine: DockerClient, path: str) -> str:
    return f"{engine.api.base_url}/v{engine.api.api_version}/{path}"


def _follow(lines: Iterable[bytes], accepted: bool) -> None:
    """Read what a builder says until its end. Raises RolloutError when that is a failure."""
    said: list[str] = []
    for line in lines:
        message: dict[str, Any] = json.loads(line)
        said.append(str(message.get("stream", "")))
        if "error" in message or not accepted:
            reason = message.get("error") or message.get("message")
            raise RolloutError(f"The image cannot be built: {reason}\n{''.join(said)[-2000:]}")


def run_inside(
    engine: DockerClient, image: Image, command: list[str], *, seconds: float = RUN_SECONDS
) -> tuple[int, str]:
    """Run a command in a container that can reach nothing; return exit code and output.

    What has not ended after `seconds` is killed, and the output ends with that.
    """
    container = engine.containers.create(
        image, entrypoint=[], command=command, network_mode="none", mem_limit="1g", **HARDENED
    )
    try:
        container.start()
        late = _kill_late(container, seconds)
        code = container.wait()["StatusCode"]
        said = container.logs().decode(errors="replace").strip()
        return code, f"{said}\nIt did not end within {seconds:g} s.".strip() if late else said
    finally:
        container.remove(force=True)


def _kill_late(container: Container, seconds: float) -> bool:
    """Wait for a container's end, and bring it about after so long; say whether that was needed."""
    try:
        container.wait(timeout=seconds)
    except RequestException:  # also what an engine's end looks like: then the next call fails
        container.reload()
        if container.status != "running":
            return False
        container.kill()
        return True
    return False


def find_image(engine: DockerClient, name: str) -> Image | None:
    """Return the image of that name, if the engine has it."""
    try:
        return engine.images.get(name)
    except ImageNotFound:
        return None


def read_file(engine: DockerClient, image: Image, path: str) -> bytes:
    """Return a file of an image; nothing is run for it."""
    container = engine.containers.create(image, entrypoint=[], command=["none"])
    try:
        chunks, _ = container.get_archive(path)
        with tarfile.open(fileobj=BytesIO(b"".join(chunks))) as archive:
            content = archive.extractfile(archive.getmembers()[0])
            assert content is not None
            return content.read()
    finally:
        container.remove(force=True)


def pack(context: Mapping[str, Path | bytes], archive: IO[bytes]) -> None:
    """Write a tar that is the same for the same content: times, owners and modes are not ours.

    Equal contexts let the engine reuse its layers, and no name or id of this machine gets in.
    """
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for name, content in sorted(context.items()):
            if isinstance(content, Path):
                tar.add(content, arcname=name, filter=plain)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(plain(entry), BytesIO(content))


def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return an entry of an archive without what depends on who wrote it, and when."""
    executable = entry.isdir() or entry.mode & 0o100
    entry.mode = 0o777 if entry.issym() else 0o755 if executable else 0o644
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = EPOCH
    entry.pax_headers = {}
    return entry
