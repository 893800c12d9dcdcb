"""What is true of each model, and of the platform, now?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from modelyard.adapters.platform.part import Part, answers
from modelyard.adapters.platform.parts import expected_platform
from modelyard.adapters.platform.prefect_api import PrefectApi
from modelyard.adapters.workspace import Workspace
from modelyard.domain.rollout import fold
from modelyard.domain.values import ReplicaState, ServiceStatus
from modelyard.errors import ModelYardError
from modelyard.project import Project

_TIMEOUT_SECONDS = 3
"""For what Prefect is asked: `status` must answer quickly, and without a server as well."""


def overview(project: Project) -> dict[str, Any]:
    """Return `{"platform": [...], "models": [...]}`, JSON-shaped, models by name.

    A part that cannot be asked leaves its fields empty and is named among the model's `problems`.
    """
    workspace = Workspace(project)
    parts = list(expected_platform(project).values())
    described = [_part(part) for part in parts]
    prefect = next((p["url"] for p in described if p["name"] == "prefect" and p["answers"]), None)
    next_runs = _next_runs(prefect) if prefect else {}
    return {
        "platform": described,
        "models": [_model(workspace, name, next_runs.get(name)) for name in project.model_names()],
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "url": part.url,
        "pid": part.process.pid if part.process else None,
        "log": part.log,
        # a worker has no address to ask
        "answers": part.runs() and (part.url is None or answers(part)),
    }


def _next_runs(url: str) -> dict[str, datetime]:
    try:
        with PrefectApi(url, timeout_seconds=_TIMEOUT_SECONDS) as api:
            return api.next_runs("modelyard")
    except ModelYardError:
        return {}


def _model(workspace: Workspace, name: str, next_run: datetime | None) -> dict[str, Any]:
    problems: list[str] = []
    champion = None
    windows = incidents = ()
    service: ServiceStatus | None = None
    target: str | None = None
    try:
        champion = workspace.ledger.champion(name)
        windows = workspace.ledger.windows(name, last=1)
        incidents = workspace.ledger.incidents(name)
    except ModelYardError as err:
        problems.append(str(err))
    try:
        target = workspace.project.model(name).service.target
        service = workspace.target(target).status(name)
    except ModelYardError as err:
        problems.append(str(err))
    return {
        "name": name,
        "champion": champion.version if champion else None,
        "url": service.url if service else None,
        "replicas": _replicas(service) if service else None,
        "target": service.target if service else target,
        "rollout": _rollout(workspace, name) if not problems else None,
        "last_window": windows[0].model_dump(mode="json") if windows else None,
        "incidents": [incident.model_dump(mode="json") for incident in incidents],
        "next_run": next_run.isoformat() if next_run else None,
        "problems": problems,
    }


def _rollout(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """Return where a model's rollout is; None where no release is being rolled out."""
    release = workspace.ledger.unfinished(name)
    history = workspace.ledger.rollout(release.id) if release else ()
    if release is None or not history:
        return None
    state = fold(history)
    return {
        "version": release.version,
        "phase": state.phase.value,
        "weight": state.current.weight,
        "step": state.step + 1,
        "steps": len(state.plan.steps),
        "why": state.why,
        "look": state.looks[-1].model_dump(mode="json", exclude={"seen"}) if state.looks else None,
    }


def _replicas(service: ServiceStatus) -> dict[str, Any]:
    return {
        "ready": sum(r.state is ReplicaState.READY for r in service.replicas),
        "total": len(service.replicas),
        "restarts": sum(r.restarts for r in service.replicas),
        "versions": sorted({r.version for r in service.replicas}),
    }
