"""How does a proven image get to other engines, and how is it known there?

By its digest: a tag in a registry can come to mean another image, a digest cannot. Who may push is
told to Docker and not to ModelYard: `docker login` keeps it in Docker's own configuration or
credential store, where the SDK looks it up.
"""

from __future__ import annotations

from collections.abc import Iterable

from docker import DockerClient
from docker.errors import APIError, ImageNotFound
from docker.models.images import Image

from modelyard.errors import RolloutError


def push_image(
    engine: DockerClient, image: Image, registry: str, repository: str, tags: Iterable[str]
) -> str:
    """Push an image under its tags and return the name that means just it, NAME@sha256:....

    Idempotent: a registry that has a layer is not sent it again.

    Raises RolloutError when the registry does not answer or refuses.
    """
    name = f"{registry}/{repository}"
    digest = ""
    for tag in tags:
        image.tag(name, tag)
        for message in engine.images.push(name, tag=tag, stream=True, decode=True):
            if "error" in message:
                raise RolloutError(_refusal(name, registry, str(message["error"])))
            digest = (message.get("aux") or {}).get("Digest", digest)
    if not digest:
        raise RolloutError(f"The registry {registry} took {name} and told no digest of it.")
    return f"{name}@{digest}"


def fetch_image(engine: DockerClient, name: str) -> Image:
    """Return an image that the engine has, or pull one that is named by its digest.

    Raises RolloutError when there is none.
    """
    try:
        return engine.images.get(name)
    except (ImageNotFound, ValueError) as err:
        if "@" not in name:
            raise RolloutError(
                f"The image {name or '(none was built)'} is not on this engine. Build it again "
                "from its bundle."
            ) from err
    try:
        return engine.images.pull(name)
    except APIError as err:
        registry = name.partition("/")[0]
        raise RolloutError(_refusal(name, registry, str(err.explanation or err))) from err


def _refusal(name: str, registry: str, said: str) -> str:
    return (
        f"The registry {registry} and {name}: {said}. Check `docker.registry` in "
        f"configs/platform.yaml, that it answers, and `docker login {registry}` as the user that "
        "runs ModelYard."
    )
