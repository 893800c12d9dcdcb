"""Which release gets a model's traffic, and can it?"""

from __future__ import annotations

from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import Build, Release
from modelyard.domain.values import Fleet, Service, ServiceStatus
from modelyard.errors import RefusedError
from modelyard.serving.bundle import bundle_digest


def put_in_traffic(workspace: Workspace, model: str, version: str, build: Build) -> ServiceStatus:
    """Ask the model's target for one fleet of this release with all of the traffic."""
    config = workspace.project.model(model)
    fleet = Fleet(
        version=version,
        bundle=str(workspace.project.home / build.bundle),
        digest=build.digest,
        image=build.image,
        replicas=config.service.replicas,
        limits=config.service.limits.of_a_replica(),
    )
    status = workspace.target(config.service.target).sync(
        Service(model=model, port=config.service.port, fleets=(fleet,))
    )
    workspace.leave_other_targets(model, config.service.target)
    return status


def check_stored(workspace: Workspace, release: Release) -> None:
    """Raise RefusedError where a release's files are gone or are no longer what was released."""
    folder = workspace.project.home / release.build.bundle
    name = f"{release.model} {release.version}"
    if not folder.is_dir():
        raise RefusedError(
            f"{name} cannot serve again: its bundle {folder} was deleted. Restore it from a backup,"
            " or deliver a new release."
        )
    if (found := bundle_digest(folder)) != release.build.digest:
        raise RefusedError(
            f"{name} cannot serve again: its bundle {folder} was changed (digest {found[:12]}, "
            f"released was {release.build.digest[:12]}). Restore it from a backup."
        )
