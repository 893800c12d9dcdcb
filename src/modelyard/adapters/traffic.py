"""Which release gets a model's traffic, and can it?"""

from __future__ import annotations

from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import Release
from modelyard.domain.values import Fleet, Service, ServiceStatus
from modelyard.errors import RefusedError
from modelyard.serving.bundle import bundle_digest


def fleet_of(workspace: Workspace, release: Release) -> Fleet:
    """Return the fleet of a release as its model's config wants it, with all of the traffic."""
    service, build = workspace.project.model(release.model).service, release.build
    return Fleet(
        version=str(release.version),
        bundle=str(workspace.project.home / build.bundle),
        digest=build.digest,
        image=build.image,
        replicas=service.replicas,
        limits=service.limits.of_a_replica(),
    )


def service_of(workspace: Workspace, model: str, fleets: tuple[Fleet, ...]) -> Service:
    """Return a model's service of these fleets as its config wants it."""
    service = workspace.project.model(model).service
    return Service(model=model, port=service.port, fleets=fleets, sticky=service.rollout.sticky)


def put_in_traffic(workspace: Workspace, release: Release) -> ServiceStatus:
    """Ask the model's target for one fleet of this release with all of the traffic."""
    target = workspace.project.model(release.model).service.target
    fleets = (fleet_of(workspace, release),)
    status = workspace.target(target).sync(service_of(workspace, release.model, fleets))
    workspace.leave_other_targets(release.model, target)
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
