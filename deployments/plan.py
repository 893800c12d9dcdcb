"""What must change in Prefect so that it has what configs/ say, and nothing else of ours?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.automations import AutomationSpec
from deployments.specifications import DeploymentSpec
from deployments.work_pools import WorkPoolSpec, told_template
from modelyard.adapters.platform.deployments import Change
from modelyard.errors import ConflictError

_TOLD = ("type", "at_once", "schedule", "expect", "does", "deployment")
"""What is told of something that is created; an update tells all that becomes different."""


@dataclass(frozen=True)
class Found:
    """One deployment or automation that is tagged as ModelYard's."""

    project: str | None
    """Id of the project that made it."""
    fields: dict[str, Any]


@dataclass(frozen=True)
class State:
    """What a Prefect server has of ModelYard's, of every project, by name."""

    work_pools: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of every work pool, whoever made it; of others' only the type."""
    deployments: dict[str, Found] = field(default_factory=dict)
    automations: dict[str, Found] = field(default_factory=dict)


def plan(
    state: State,
    project: str,
    work_pool: WorkPoolSpec,
    deployments: Sequence[DeploymentSpec],
    automations: Sequence[AutomationSpec],
) -> list[Change]:
    """Return the changes in the order to make them; none where Prefect is as it should be.

    Automations name deployments, so they come after them and go before them. What another project
    made is left alone; ConflictError where it has a name that this one needs.
    """
    wanted_deployments = {spec.name: spec.fields for spec in deployments}
    wanted_automations = {spec.name: spec.fields for spec in automations}
    _refuse_foreign(state.deployments, wanted_deployments, project)
    _refuse_foreign(state.automations, wanted_automations, project)
    changes = _work_pool(work_pool, state.work_pools.get(work_pool.name))
    changes += _wanted("deployment", wanted_deployments, state.deployments)
    changes += _wanted("automation", wanted_automations, state.automations)
    changes += _unwanted("automation", wanted_automations, state.automations, project)
    changes += _unwanted("deployment", wanted_deployments, state.deployments, project)
    return changes


def _refuse_foreign(found: dict[str, Found], wanted: dict[str, Any], project: str) -> None:
    foreign = [n for n in wanted if n in found and found[n].project != project]
    if foreign:
        raise ConflictError(
            f"Another project has {', '.join(foreign)} on this Prefect server. Rename the model "
            "in one of the two, or delete those there if that project is gone (or was moved)."
        )


def _wanted(kind: Any, wanted: dict[str, Any], found: dict[str, Found]) -> list[Change]:
    changes = []
    for name, fields in wanted.items():
        if name not in found:
            changes.append(_creation(kind, name, fields))
            continue
        differs = _differences(found[name].fields, fields)
        if differs:
            changes.append(Change(action="update", kind=kind, name=name, fields=differs))
    return changes


def _work_pool(wanted: WorkPoolSpec, found: dict[str, Any] | None) -> list[Change]:
    kind: Any = "work pool"
    if found is None:
        return [_creation(kind, wanted.name, wanted.fields)]
    if found["type"] != wanted.type:
        raise ConflictError(
            f"The work pool {wanted.name} is of type {found['type']} and not {wanted.type}, and a "
            "work pool's type cannot be changed. Name another as orchestration.work_pool in "
            "configs/platform.yaml, or delete this one in Prefect."
        )
    differs = _differences(found, {k: v for k, v in wanted.fields.items() if k in found})
    if not differs:
        return []
    if "template" in differs:
        before, after = (told_template(template) for template in differs.pop("template"))
        told = _differences(before, after) or {"template": ("as it was", "another value or layout")}
        differs |= told
    return [Change(action="update", kind=kind, name=wanted.name, fields=differs)]


def _creation(kind: Any, name: str, fields: dict[str, Any]) -> Change:
    shown = {key: (None, fields[key]) for key in _TOLD if fields.get(key)}
    return Change(action="create", kind=kind, name=name, fields=shown)


def _differences(had: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (had.get(key), value) for key, value in wanted.items() if had.get(key) != value}


def _unwanted(
    kind: Any, wanted: dict[str, Any], found: dict[str, Found], project: str
) -> list[Change]:
    return [
        Change(action="delete", kind=kind, name=name)
        for name in sorted(found)
        if name not in wanted and found[name].project == project
    ]
