"""Is the release in traffic?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from modelyard.adapters.mirroring import mirror_releases
from modelyard.adapters.notifications import send_waiting
from modelyard.adapters.pages import artifact_key, rollback_page
from modelyard.adapters.pictures.plot_style import as_png
from modelyard.adapters.pictures.rollout_plots import plot_rollout
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.rollout_page import rollout_page
from modelyard.adapters.rollouts.conducting import Conductor, rolling_out
from modelyard.adapters.traffic import check_stored, put_in_traffic
from modelyard.adapters.workspace import Workspace
from modelyard.config.service import ServiceConfig
from modelyard.domain.alerts import Notice, NoticeKind
from modelyard.domain.incidents import what_to_do
from modelyard.domain.mirror import Finding
from modelyard.domain.monitoring import IncidentCause
from modelyard.domain.releases import Build, Delivery, Registration, Release, ReleaseState
from modelyard.domain.rollout import Answer, RolloutReport
from modelyard.domain.values import ReplicaState, ServiceStatus
from modelyard.errors import RefusedError, UnknownReleaseError
from modelyard.ledger import Description, Incident, Ledger


@step("Start rollout")
def start_rollout(delivery: Delivery, registration: Registration, build: Build) -> None:
    """Record that the release is to come into traffic, and by which plan.

    Idempotent: a rollout keeps the plan that it was started with.
    """
    workspace = Workspace.find()
    strategy = workspace.project.model(delivery.model).service.rollout.strategy
    workspace.ledger.once(
        delivery.id, ReleaseState.ROLLING_OUT, Build, lambda: build, why=strategy.replace("_", "-")
    )
    Conductor(workspace, workspace.ledger.release_by_id(delivery.id)).start()
    mirror_releases(workspace, delivery.model)


@step("Roll out")
def advance_rollout(release_id: str) -> RolloutReport:
    """Look at a rollout and carry it on as far as it goes now: a step, a promotion, an abort.

    Idempotent: what was done is left alone, and what was decided and not done is done. An abort
    opens the model's one incident of this cause and tells people, a promotion resolves it.
    """
    workspace = Workspace.find()
    conductor = Conductor(workspace, workspace.ledger.release_by_id(release_id))
    report = conductor.advance()
    if report.ended:
        _tell(workspace, report)
    _show(workspace, report)
    return report


def find_rollout(model: str) -> str | None:
    """Return the id of the release whose rollout has not ended, if there is one."""
    ledger = Workspace.find().ledger
    release = ledger.unfinished(model)
    if release is not None and release.state is ReleaseState.ROLLING_OUT:
        return release.id
    return ledger.open_rollout(model)


def count_news(release_id: str) -> int:
    """Return how much has happened in a rollout: more than before is news."""
    return Workspace.find().ledger.rollout_length(release_id)


@step("Answer rollout")
def tell_rollout(model: str, answer: Answer, reason: str) -> None:
    """Record what a person says to the rollout that is under way.

    Raises UnknownReleaseError where none is, RefusedError for an answer that is not asked.
    """
    workspace = Workspace.find()
    Conductor(workspace, rolling_out(workspace, model)).tell(answer, reason)


@step("Reconcile service")
def reconcile_service(model: str) -> list[Finding]:
    """Make the champion serve as its config says, and say what was otherwise.

    Idempotent; nothing is done while a release is being rolled out. Replicas that somebody removed
    or that a restart of the machine ended are started, and those that nobody asked for are removed.
    """
    workspace = Workspace.find()
    champion = workspace.ledger.champion(model)
    if champion is None or find_rollout(model) is not None:
        return []
    service = workspace.project.model(model).service
    before = workspace.target(service.target).status(model)
    version = str(champion.version)
    after = put_in_traffic(workspace, champion)
    return [
        Finding(words=words, mended=True) for words in _differences(before, after, version, service)
    ]


def _differences(
    before: ServiceStatus | None, after: ServiceStatus, version: str, wanted: ServiceConfig
) -> Iterator[str]:
    if before is None:
        yield f"{version} had no service"
        return
    if before.weights != after.weights:
        shares = ", ".join(f"{name} {share} %" for name, share in before.weights.items())
        yield f"the traffic went to {shares or 'nobody'}, not to {version} alone"
    ready = sum(r.version == version and r.state is ReplicaState.READY for r in before.replicas)
    if ready != wanted.replicas:
        yield f"{ready} of {wanted.replicas} replicas of {version} were ready"
    for orphan in after.orphans:
        yield f"replicas of {orphan} ran that nobody asked for"


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
    why = f"roll back: {reason}"
    rollout = None
    if interrupted is not None and interrupted.state is ReleaseState.ROLLING_OUT:
        rollout = Conductor(workspace, interrupted)
        with suppress(RefusedError):  # it was decided against already
            rollout.tell(Answer.ABORT, why)
    status = put_in_traffic(workspace, release)
    page = rollback_page(release, champion, reason, status)
    publish_page(artifact_key("release", release.model), page, f"Serves at {status.url}")
    if interrupted is not None:
        workspace.ledger.record(interrupted.id, ReleaseState.ABORTED, interrupted.delivery, why=why)
    workspace.ledger.promote(
        release.id,
        expected=champion.id if champion else None,
        why=why,
        former=ReleaseState.ROLLED_BACK,
    )
    mirror_releases(workspace, release.model)
    if rollout is not None:
        rollout.advance()
    return status


def _proven(release: Release) -> Release:
    if release.payload(ReleaseState.CHAMPION) is None:
        raise RefusedError(
            f"{release.model} {release.version} is {release.state} and never was champion: there "
            f"is nothing to go back to. `modelyard releases {release.model}` lists them."
        )
    return release


def _show(workspace: Workspace, report: RolloutReport) -> None:
    picture = as_png(plot_rollout(report.events))
    page = rollout_page(report, picture)
    publish_page(artifact_key("rollout", report.model), page, report.words)
    if report.ended:
        release = workspace.ledger.release(report.model, report.version)
        run = release.candidate.mlflow_run_id
        workspace.tracking.log_pictures(run, {"rollout": picture})
        workspace.tracking.log_text(run, page, "rollout.md")


def _tell(workspace: Workspace, report: RolloutReport) -> None:
    """Open or resolve the incident, and tell people of a rollout that was aborted."""
    model, ledger, now = report.model, workspace.ledger, datetime.now(UTC)
    if report.promoted:
        ledger.resolve_incident(model, IncidentCause.ROLLOUT, now, now=now)
        return
    ledger.raise_incident(model, IncidentCause.ROLLOUT, now, partial(_describe, report), now=now)
    send_waiting(workspace, model)


def _describe(report: RolloutReport, was: Incident | None) -> Description:
    left = f"{report.former} has all of the traffic" if report.former else "nothing serves"
    advice = what_to_do(report.model, IncidentCause.ROLLOUT)
    opened = Notice(
        kind=NoticeKind.OPENED,
        title=f"{report.model}: the rollout of {report.version} was aborted",
        body=f"{report.state.why}\n\n{left}. {advice}",
    )
    return Description(
        details={"version": report.version, "reasons": [report.state.why]},
        notice=None if was else opened,
    )
