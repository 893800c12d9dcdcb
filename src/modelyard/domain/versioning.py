"""Which semantic version does a release get, compared with the one it follows?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from modelyard.domain.records import pins_of
from modelyard.domain.releases import ReleaseFacts
from modelyard.domain.values import Contract, Value

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_MINOR = re.compile(r"\d+")


class Bump(StrEnum):
    """The part of the version that a change raises, as semver.org 2.0.0 means it for a service."""

    MAJOR = "MAJOR"
    """Who calls the service must change something."""
    MINOR = "MINOR"
    """Same contract, another recipe: features, estimator, parameters, preprocessing, code; or a
    dependency that changed by more than a patch."""
    PATCH = "PATCH"
    """Same contract and recipe, new rows or patched dependencies."""


_RANK = {Bump.PATCH: 0, Bump.MINOR: 1, Bump.MAJOR: 2}


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


def derive_bump(before: ReleaseFacts, after: ReleaseFacts, asked: Bump | None = None) -> Derivation:
    """Compare what two releases are made of; the highest bump that any fact asks for wins.

    `asked` is what a person wants: it can raise the bump, and never lower it.
    """
    derived = _derived(before, after)
    if asked is None or _RANK[asked] <= _RANK[derived.bump]:
        return derived
    wish = f"{asked} was asked for; the facts alone make it {derived.bump}"
    return Derivation(bump=asked, reasons=(wish, *derived.reasons))


def _derived(before: ReleaseFacts, after: ReleaseFacts) -> Derivation:
    breaks = contract_breaks(before.contract, after.contract)
    if breaks:
        return Derivation(bump=Bump.MAJOR, reasons=breaks)
    changes = (
        *contract_additions(before.contract, after.contract),
        *recipe_changes(before.recipe, after.recipe),
        *(str(change) for change in environment_changes(before, after) if not change.is_patch),
    )
    if changes:
        return Derivation(bump=Bump.MINOR, reasons=changes)
    return Derivation(bump=Bump.PATCH, reasons=("same contract and recipe",))


def column_breaks(before: Contract, after: Contract) -> dict[str, str]:
    """Return the input columns that a caller of `before` would stumble over, with what it is."""
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    breaks = {name: f"input column {name} was removed" for name in old if name not in new}
    for name, column in new.items():
        if name not in old:
            if column.required:
                breaks[name] = f"input column {name} is newly required"
        elif column.kind is not old[name].kind:
            breaks[name] = f"input column {name} is {column.kind}, was {old[name].kind}"
        elif column.required and not old[name].required:
            breaks[name] = f"input column {name} is required, was optional"
    return breaks


def contract_breaks(before: Contract, after: Contract) -> tuple[str, ...]:
    """List what a caller of `before` would stumble over in `after`, columns first."""
    breaks = list(column_breaks(before, after).values())
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


class EnvironmentChange(Value):
    """A dependency, or Python, in another version than before."""

    name: str
    before: str
    after: str

    @property
    def is_patch(self) -> bool:
        """Return whether major and minor number are the same."""
        return _MINOR.findall(self.before)[:2] == _MINOR.findall(self.after)[:2]

    def __str__(self) -> str:
        return f"{self.name} {self.before} → {self.after}"


def environment_changes(before: ReleaseFacts, after: ReleaseFacts) -> tuple[EnvironmentChange, ...]:
    """List Python and the dependencies whose versions differ, or that came or went."""
    old, new = _versions(before), _versions(after)
    return tuple(
        EnvironmentChange(name=name, before=old.get(name, "absent"), after=new.get(name, "absent"))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _versions(facts: ReleaseFacts) -> dict[str, str]:
    python = facts.environment.get("python")
    return {**({"Python": python} if python else {}), **pins_of(facts.requirements)}


def _flat(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
