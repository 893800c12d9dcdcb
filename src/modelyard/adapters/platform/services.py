"""Which models are served from this machine, and how do they all stop and come back?"""

from __future__ import annotations

from collections.abc import Iterator

from modelyard.adapters.target import Target
from modelyard.adapters.workspace import Workspace
from modelyard.domain.values import ServiceStatus
from modelyard.errors import EngineUnavailableError
from modelyard.project import Project


def resume_services(project: Project) -> list[ServiceStatus]:
    """Start again what `stop_services` stopped, on the same addresses; return what then serves."""
    resumed = (target.resume(model) for target in _targets(project) for model in target.models())
    return [status for status in resumed if status is not None]


def stop_services(project: Project) -> list[str]:
    """Leave no process and no container of any service; return the models that had one.

    What they served is remembered, and `resume_services` brings them back.
    """
    stopped = []
    for target in _targets(project):
        for model in target.models():
            status = target.status(model)
            if status is not None and status.replicas:
                stopped.append(model)
            target.stop(model)
    return stopped


def _targets(project: Project) -> Iterator[Target]:
    workspace = Workspace(project)
    yield workspace.target("local")
    try:
        yield workspace.target("docker")
    except EngineUnavailableError:
        return  # no engine runs, so no container does
