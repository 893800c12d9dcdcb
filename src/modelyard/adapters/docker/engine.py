"""Does a Docker engine answer, does it have the image, and how are containers kept in?"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.images import Image
from requests.exceptions import RequestException

from modelyard.errors import EngineUnavailableError, RolloutError

TIMEOUT_SECONDS = 300
"""For one call to the engine: a large build context on a busy machine takes minutes."""

REPLICA_USER = 10001
"""Who a replica runs as, where the user on this machine is root or not known to the engine."""

CONFINED: dict[str, Any] = {
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 256,
    "init": True,
}
"""What every container of ours is denied."""

HARDENED: dict[str, Any] = {**CONFINED, "read_only": True, "tmpfs": {"/tmp": "size=64m"}}
"""What is denied to every container that serves."""


def connect_engine() -> DockerClient:
    """Return a client of the engine that DOCKER_HOST names, or of this machine's.

    Raises EngineUnavailableError when none answers.
    """
    with warnings.catch_warnings():
        # The SDK drops the socket of a connection that was refused, and never closes it: it is
        # collected here, where nobody is warned of it, and not wherever the collector runs next.
        warnings.simplefilter("ignore", ResourceWarning)
        client, reason = _try_to_connect()
        if client is None:
            gc.collect()
    if client is None:
        raise EngineUnavailableError(
            f"No Docker engine answers ({reason}). Start Docker, or on Debian run "
            "scripts/install_docker_engine.sh, or set `service.target: local` in the model's "
            "config to serve without Docker."
        )
    return client


def _try_to_connect() -> tuple[DockerClient | None, str]:
    """Return a client, or why there is none."""
    try:
        client = docker.from_env(timeout=TIMEOUT_SECONDS)
        client.ping()
    except (DockerException, RequestException) as err:
        return None, str(err)
    return client, ""


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Translate the Docker SDK's errors; also a decorator.

    Raises RolloutError when the engine refuses, EngineUnavailableError when it has gone away.
    """
    try:
        yield
    except APIError as err:
        raise RolloutError(
            f"The Docker engine refused {doing}: {err.explanation or err}. What served before "
            "still serves; mend the cause and run it again."
        ) from err
    except (DockerException, RequestException) as err:
        raise EngineUnavailableError(
            f"The Docker engine stopped answering during {doing} ({err}). Start it and run this "
            "again: it goes on from what is there."
        ) from err


def require_image(client: DockerClient, name: str) -> Image:
    """Return the image that the engine has, or can pull, under a name.

    Raises RolloutError when it has none and no registry gives it.
    """
    try:
        return client.images.get(name)
    except ImageNotFound:
        pass
    try:
        return client.images.pull(name)
    except APIError as err:
        raise RolloutError(
            f"The Docker engine has no image {name} and cannot pull it ({err.explanation}). "
            f"Run `docker pull {name}` where a registry answers, or scripts/make_base_images.sh "
            "to make an equal, or name another in configs/platform.yaml under `docker`."
        ) from err


def container_user(client: DockerClient) -> str:
    """Return the user and group that can write to this user's folders from inside a container.

    On a rootless engine root inside is the user outside. A root user outside is never given to a
    container: REPLICA_USER is, and owns the folders that it writes to.
    """
    if "name=rootless" in client.info().get("SecurityOptions", ()):
        return "0:0"
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return f"{REPLICA_USER}:{REPLICA_USER}"
    return f"{os.geteuid()}:{os.getegid()}"
