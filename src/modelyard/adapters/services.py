"""Which models are served from this machine, and how do they all stop and come back?"""

from __future__ import annotations

from modelyard.adapters.local import LocalTarget
from modelyard.adapters.workspace import Workspace
from modelyard.errors import EngineUnavailableError
from modelyard.project import Project


def resume_services(project: Project) -> list[str]:
    """Start again the local services that `stop_services` stopped; return the models."""
    target = _local(project)
    return [model for model in target.models() if target.resume(model)]


def stop_services(project: Project) -> list[str]:
    """Leave no process and no container of any service; return the models that had one.

    Local services are remembered, and `resume_services` brings them back on the same address.
    Containers are removed: the next delivery or rollback puts them back.
    """
    target = _local(project)
    stopped = [model for model in target.models() if _runs(target, model)]
    for model in stopped:
        target.stop(model)
    return stopped + _remove_containers(project)


def _local(project: Project) -> LocalTarget:
    target = Workspace(project).target("local")
    assert isinstance(target, LocalTarget)
    return target


def _runs(target: LocalTarget, model: str) -> bool:
    return bool((status := target.status(model)) and status.replicas)


def _remove_containers(project: Project) -> list[str]:
    from modelyard.adapters.containers import MODEL_LABEL, PLATFORM_LABEL
    from modelyard.adapters.engine import connect_engine
    from modelyard.adapters.platform import platform_id

    try:
        engine = connect_engine()
    except EngineUnavailableError:
        return []  # no engine runs, so no container does
    ours = f"{PLATFORM_LABEL}={platform_id(project)}"
    containers = engine.containers.list(all=True, filters={"label": ours})
    models = sorted({container.labels[MODEL_LABEL] for container in containers})
    for model in models:
        Workspace(project).target("docker").remove(model)
    return models
