"""Which wheels does a replica need on another interpreter than this one, and where are they?

Resolved and fetched by uv, which keeps what it fetched in its own cache.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from modelyard.adapters.learning.environment import serving_extra
from modelyard.adapters.uv import run_uv
from modelyard.errors import RolloutError


@dataclass(frozen=True)
class BasePython:
    """The interpreter of a base image, as uv names its platform."""

    version: str
    platform: str


def lock_requirements(requirements: str, python: BasePython, lock: Path) -> None:
    """Write a release's pins, and what a replica needs beside them, with every wheel's hash."""
    draft = lock.with_suffix(".part")
    _uv(
        "compile",
        *("-", "--output-file", str(draft)),
        *("--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
        python=python,
        given="\n".join((requirements, *container_requirements())),
    )
    draft.replace(lock)


def fetch_packages(lock: Path, python: BasePython, target: Path) -> None:
    """Unpack the locked wheels, each checked against its hash, from the index or uv's cache."""
    _uv(
        "install",
        *("--requirements", str(lock), "--target", str(target)),
        *("--require-hashes", "--no-deps", "--quiet"),
        python=python,
    )
    # A quarter of scientific packages is their own tests. Should one need them after all, the
    # golden rows say so.
    for tests in list(target.rglob("tests")):
        shutil.rmtree(tests, ignore_errors=True)


def _uv(command: str, *words: str, python: BasePython, given: str = "") -> None:
    done = run_uv(
        *("pip", command, *words, "--only-binary", ":all:"),
        *("--python", sys.executable, "--python-version", python.version),
        *("--python-platform", python.platform),
        given=given,
    )
    if done.returncode != 0:
        raise RolloutError(
            f"The release's requirements cannot be had for Python {python.version} on "
            f"{python.platform}:\n{done.stderr.strip()[-2000:]}\nCheck the bundle's "
            "requirements.txt and that the package index answers."
        )


def container_requirements() -> list[str]:
    """Return what a replica in a container needs beside the model's own packages."""
    return serving_extra(sys_platform="linux", platform_system="Linux")
