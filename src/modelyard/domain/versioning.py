"""Which semantic version does a release get, compared with the one it follows?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from modelyard.domain.values import Contract, Value

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


class Bump(StrEnum):
    """The part of the version that a change raises, as semver.org 2.0.0 means it for a service."""

    MAJOR = "MAJOR"
    """Who calls the service must change something."""
    MINOR = "MINOR"
    """Same contract, another recipe: features, estimator, parameters, preprocessing, code."""
    PATCH = "PATCH"
    """Same contract and recipe, new rows or other versions of dependencies."""


class Derivation(Value):
    """A bump with the facts that it follows from."""

    bump: Bump
    reasons: tuple[str, ...]


def parse_version(version: str) -> tuple[int, int, int]:
    """Return the three numbers of a version. Raises ValueError where it has no such form."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not a version of the form MAJOR.MINOR.PATCH")
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch


def next_version(versions: Iterable[str], bump: Bump | None) -> str:
    """Return the version after the highest of `versions`; 1.0.0 where there is none.

    Without a champion to compare with, `bump` is None and counts as MAJOR.
    Counting from the highest and not from the champion keeps versions unique after a rollback.
    """
    numbers = sorted(parse_version(version) for version in versions)
    if not numbers:
        return "1.0.0"
    major, minor, patch = numbers[-1]
    if bump in (None, Bump.MAJOR):
        return f"{major + 1}.0.0"
    if bump is Bump.MINOR:
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def derive_bump(
    before: Contract, after: Contract, recipe_before: dict[str, Any], recipe_after: dict[str, Any]
) -> Derivation:
    """Compare two releases' contracts and recipes; the highest bump that any fact asks for wins."""
    breaks = contract_breaks(before, after)
    if breaks:
        return Derivation(bump=Bump.MAJOR, reasons=breaks)
    changes = contract_additions(before, after) + recipe_changes(recipe_before, recipe_after)
    if changes:
        return Derivation(bump=Bump.MINOR, reasons=changes)
    return Derivation(bump=Bump.PATCH, reasons=("same contract and recipe",))


def contract_breaks(before: Contract, after: Contract) -> tuple[str, ...]:
    """List what a caller of `before` would stumble over in `after`."""
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    breaks = [f"input column {name} was removed" for name in old if name not in new]
    for name, column in new.items():
        if name not in old:
            if column.required:
                breaks.append(f"input column {name} is newly required")
        elif column.kind is not old[name].kind:
            breaks.append(f"input column {name} is {column.kind}, was {old[name].kind}")
        elif column.required and not old[name].required:
            breaks.append(f"input column {name} is required, was optional")
    if before.task is not after.task:
        breaks.append(f"the task is {after.task}, was {before.task}")
    if before.target != after.target:
        breaks.append(f"the target is {after.target}, was {before.target}")
    if before.classes != after.classes:
        breaks.append(f"the classes are {list(after.classes)}, were {list(before.classes)}")
    if before.positive != after.positive:
        breaks.append(f"the positive class is {after.positive}, was {before.positive}")
    return tuple(breaks)


def contract_additions(before: Contract, after: Contract) -> tuple[str, ...]:
    """List what `after` takes beyond `before` without breaking its callers."""
    old = {column.name for column in before.columns}
    added = [c.name for c in after.columns if c.name not in old and not c.required]
    relaxed = {c.name for c in after.columns if not c.required}
    return tuple(f"optional input column {name} was added" for name in added) + tuple(
        f"input column {c.name} became optional"
        for c in before.columns
        if c.required and c.name in relaxed
    )


def recipe_changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    """List the parts of the training recipe that differ, flattened to one line each."""
    old, new = _flat(before), _flat(after)
    return tuple(
        f"{name}: {old.get(name, 'not set')} → {new.get(name, 'not set')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _flat(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
