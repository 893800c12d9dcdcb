"""What must change in Prefect so that it has what configs/ say, and nothing else of ours?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.specifications import AutomationSpec, DeploymentSpec
from modelyard.adapters.platform.deployments import Change
from modelyard.errors import ConflictError


@dataclass(frozen=True)
class Found:
    """One deployment or automation that is tagged as ModelYard's."""

    project: str | None
    """Id of the project that made it."""
    fields: dict[str, Any]


@dataclass(frozen=True)
class State:
    """What a Prefect server has of ModelYard's, of every project, by name."""

    work_pools: frozenset[str] = frozenset()
    deployments: dict[str, Found] = field(default_factory=dict)
    automations: dict[str, Found] = field(default_factory=dict)


def plan(
    state: State,
    project: str,
    work_pool: str,
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
    changes = []
    if work_pool not in state.work_pools:
        changes.append(Change(action="create", kind="work pool", name=work_pool))
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
            changes.append(Change(action="create", kind=kind, name=name))
            continue
        had = found[name].fields
        differs = {k: (had.get(k), v) for k, v in fields.items() if had.get(k) != v}
        if differs:
            changes.append(Change(action="update", kind=kind, name=name, fields=differs))
    return changes


def _unwanted(
    kind: Any, wanted: dict[str, Any], found: dict[str, Found], project: str
) -> list[Change]:
    return [
        Change(action="delete", kind=kind, name=name)
        for name in sorted(found)
        if name not in wanted and found[name].project == project
    ]
