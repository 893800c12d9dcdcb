"""In which environment was a model trained, and what must a replica install to serve it?"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modelyard.adapters.learning.pipelines import code_folder
from modelyard.config import Training
from modelyard.domain.records import pins_of
from modelyard.domain.values import Runtime


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


def pinned_requirements(training: Training, runtime: Runtime | None = None) -> str:
    """Return the pinned requirements of a replica that serves what this recipe trains.

    Without a runtime: of one that can do either.
    """
    if runtime is not None:
        return serving_requirements(model_packages(training), runtime)
    packages = model_packages(training)
    roots = dict.fromkeys(root for each in Runtime for root in _roots(packages, each))
    return pin_requirements(tuple(roots))


def serving_requirements(
    model_packages: tuple[str, ...], runtime: Runtime = Runtime.SKLEARN
) -> str:
    """Return the pinned requirements of a replica that serves a model of these packages.

    A compiled model needs none of them.
    """
    return pin_requirements(_roots(model_packages, runtime))


def select_requirements(pins: str, training: Training, runtime: Runtime) -> str:
    """Return those of some pinned requirements that a runtime needs for what a recipe trains.

    The versions are those of the pins, whatever was installed since.
    """
    needed = pins_of(serving_requirements(model_packages(training), runtime))
    return "".join(
        f"{name}=={version}\n" for name, version in sorted(pins_of(pins).items()) if name in needed
    )


def serving_extra(runtime: Runtime | None = None, **platform: str) -> list[str]:
    """Return what every replica needs, or what a runtime adds to it, from our own metadata.

    `platform` are marker variables, like sys_platform, of another machine than this one.
    """
    return _extra("serving" if runtime is None else f"serving-{runtime}", platform)


def _roots(model_packages: tuple[str, ...], runtime: Runtime) -> tuple[str, ...]:
    packages = model_packages if runtime is Runtime.SKLEARN else ()
    return (*serving_extra(), *serving_extra(runtime), *packages)


def training_requirements(model_packages: tuple[str, ...]) -> str:
    """Return the pinned requirements of a fit of a model of these packages."""
    return pin_requirements((*_extra("training", {}), *model_packages))


def model_packages(training: Training) -> tuple[str, ...]:
    """Return the distributions that a recipe imports, and scikit-learn.

    A module of the user's own belongs to no distribution: its code goes along with the model, and
    what that code imports is counted here, wherever in it the import stands.
    """
    folder = own_code(training)
    modules = {_top_module(training)} if folder is None else set(_imported_by(folder))
    owners = metadata.packages_distributions()
    found = {
        canonicalize_name(owner)
        for name in modules
        for owner in owners.get(name, ())
        if not _is_editable(owner)
    }
    return tuple(sorted({"scikit-learn", *found} - {"modelyard"}))


def own_code(training: Training) -> Path | None:
    """Return the user's module or package that a recipe comes from.

    None where there is none, or an installed distribution has it: its version says it all.
    """
    owners = metadata.packages_distributions().get(_top_module(training), ())
    return None if any(not _is_editable(owner) for owner in owners) else code_folder(training)


def _top_module(training: Training) -> str:
    return str(training.pipeline or training.estimator).replace(":", ".").split(".")[0]


def _is_editable(distribution: str) -> bool:
    """Say whether a distribution is a folder of the user's, which no index knows."""
    origin = metadata.distribution(distribution).read_text("direct_url.json")
    return bool(origin) and bool(json.loads(origin).get("dir_info", {}).get("editable"))


def _extra(name: str, platform: dict[str, str]) -> list[str]:
    def asked_for(requirement: Requirement, extra: str) -> bool:
        marker = requirement.marker
        return marker is not None and marker.evaluate({**platform, "extra": extra})

    own = map(Requirement, metadata.requires("modelyard") or ())
    return sorted(
        str(requirement).partition(";")[0]
        for requirement in own
        if asked_for(requirement, name) and not asked_for(requirement, "")
    )


def _imported_by(place: Path) -> Iterator[str]:
    """Yield the top-level modules that a module's or package's files import."""
    for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):  # a template, or for another Python: nothing imports it
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0]
