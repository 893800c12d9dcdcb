"""Is the release in traffic?"""

from __future__ import annotations

from modelyard.adapters.mirroring import mirror_releases
from modelyard.adapters.pages import artifact_key, rollback_page
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.traffic import check_stored, put_in_traffic
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import Build, Delivery, Registration, Release, ReleaseState
from modelyard.domain.values import ServiceStatus
from modelyard.errors import RefusedError, RolloutError, UnknownReleaseError
from modelyard.ledger import Ledger


@step("Roll out")
def roll_out(delivery: Delivery, registration: Registration, build: Build) -> ServiceStatus:
    """Put the release in traffic: its fleet starts and becomes ready before the old one drains.

    Idempotent: a fleet that serves already is left alone. Raises RolloutError where the fleet does
    not become ready; the release is then aborted, and what served before still serves.
    """
    workspace = Workspace.find()
    workspace.ledger.once(
        delivery.id, ReleaseState.ROLLING_OUT, Build, lambda: build, why="blue-green"
    )
    mirror_releases(workspace, delivery.model)
    try:
        return put_in_traffic(workspace, delivery.model, registration.version, build)
    except RolloutError as err:
        workspace.ledger.record(delivery.id, ReleaseState.ABORTED, build, why=str(err))
        mirror_releases(workspace, delivery.model)
        raise


@step("Choose release")
def choose_former_release(model: str, to: str | None = None) -> Release:
    """Return the release to go back to: the one named, or the champion before this one.

    While a rollout is unfinished, what it may have put in traffic is left for the champion itself.
    Raises UnknownReleaseError where there is none, RefusedError for one that never was champion or
    whose bundle is gone or was changed.
    """
    workspace = Workspace.find()
    release = _choose(workspace.ledger, model, to)
    check_stored(workspace, release)
    return release


def _choose(ledger: Ledger, model: str, to: str | None) -> Release:
    champion = ledger.champion(model)
    if to is not None:
        return _proven(ledger.release(model, to))
    interrupted = ledger.unfinished(model)
    if champion and interrupted and interrupted.state is ReleaseState.ROLLING_OUT:
        return champion
    # Those that were rolled back were left for a reason: they come back by name only.
    former = [r for r in ledger.releases(model) if r.state is ReleaseState.RETIRED]
    if champion is None or not former:
        raise UnknownReleaseError(
            f"{model} has no former release to go back to. `modelyard releases {model}` lists them."
        )
    return max(former, key=lambda release: release.changed_at)


@step("Put back")
def put_back(release: Release, reason: str) -> ServiceStatus:
    """Put a former release back in traffic from its stored bundle or image, without a rebuild.

    Idempotent. The champion that it replaces becomes rolled back, and a delivery that was
    interrupted is given up: it was compared with that champion, and must not come back by itself.
    """
    workspace = Workspace.find()
    champion = workspace.ledger.champion(release.model)
    interrupted = workspace.ledger.unfinished(release.model)
    status = put_in_traffic(workspace, release.model, str(release.version), release.build)
    page = rollback_page(release, champion, reason, status)
    publish_page(artifact_key("release", release.model), page, f"Serves at {status.url}")
    why = f"roll back: {reason}"
    if interrupted is not None:
        workspace.ledger.record(interrupted.id, ReleaseState.ABORTED, interrupted.delivery, why=why)
    workspace.ledger.promote(
        release.id,
        expected=champion.id if champion else None,
        why=why,
        former=ReleaseState.ROLLED_BACK,
    )
    mirror_releases(workspace, release.model)
    return status


def _proven(release: Release) -> Release:
    if release.payload(ReleaseState.CHAMPION) is None:
        raise RefusedError(
            f"{release.model} {release.version} is {release.state} and never was champion: there "
            f"is nothing to go back to. `modelyard releases {release.model}` lists them."
        )
    return release
