"""In which environment was a model trained, and what must a replica install to serve it?"""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pin_requirements(roots: tuple[str, ...]) -> str:
    """Return `roots` and all that they need, each pinned to the installed version, a line each.

    Raises importlib.metadata.PackageNotFoundError for a root that is not installed.
    """
    pins: dict[str, str] = {}
    waiting = [Requirement(root) for root in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        distribution = metadata.distribution(name)
        pins[name] = distribution.version
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras or {""}
            ):
                waiting.append(needed)
    return "".join(f"{name}=={pins[name]}\n" for name in sorted(pins))


def serving_requirements(model_packages: tuple[str, ...]) -> str:
    """Return the pinned requirements of a replica that serves a model of these packages."""
    return pin_requirements((*serving_extra(), *model_packages))


def serving_extra(**platform: str) -> list[str]:
    """Return what a replica needs beside the model's own packages, from our own metadata.

    `platform` are marker variables, like sys_platform, of another machine than this one.
    """

    def asked_for(requirement: Requirement, extra: str) -> bool:
        marker = requirement.marker
        return marker is not None and marker.evaluate({**platform, "extra": extra})

    own = map(Requirement, metadata.requires("modelyard") or ())
    return sorted(
        str(requirement).partition(";")[0]
        for requirement in own
        if asked_for(requirement, "serving") and not asked_for(requirement, "")
    )


def model_packages(estimator: str) -> tuple[str, ...]:
    """Return the distributions that an estimator's import path comes from, and scikit-learn.

    A module of the user's own belongs to no distribution: a bundle carries its code instead.
    """
    top = estimator.replace(":", ".").split(".")[0]
    owners = metadata.packages_distributions().get(top, ())
    return tuple(sorted({"scikit-learn", *(canonicalize_name(owner) for owner in owners)}))


def describe_environment(root: Path) -> dict[str, str]:
    """Return Python, platform and the revision of the project's code."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        **describe_code(root),
    }


def describe_code(root: Path) -> dict[str, str]:
    """Return the git commit of `root` and whether its tree is dirty; nothing outside of git."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = _git(root, "status", "--porcelain")
    return {"git_commit": commit, "git_dirty": "yes" if dirty else "no"}


def _git(root: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=30
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
