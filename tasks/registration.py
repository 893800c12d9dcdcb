"""Which version is the release, what changed, and does MLflow say the same?"""

from __future__ import annotations

from datetime import UTC, datetime

from modelyard.adapters.data.row_changes import compare_rows
from modelyard.adapters.mirroring import mirror_releases
from modelyard.adapters.pages import artifact_key, reconciliation_page, release_page
from modelyard.adapters.pictures.plot_style import as_png
from modelyard.adapters.pictures.release_plots import plot_metric_history
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.changelog import compare_releases, write_changelog
from modelyard.domain.gate import Gated
from modelyard.domain.mirror import Finding
from modelyard.domain.releases import (
    Build,
    Candidate,
    Delivery,
    Registration,
    Release,
    ReleaseState,
    facts_of,
)
from modelyard.domain.rollout import RolloutReport
from modelyard.domain.versioning import Bump, derive_bump
from modelyard.errors import RolloutError
from modelyard.serving.bundle import example_row


@step("Reconcile registry")
def reconcile_registry(model: str) -> list[Finding]:
    """Mend what MLflow's registry says otherwise than the ledger, and say what it was.

    Idempotent: where they agree, nothing is done.
    """
    findings = list(mirror_releases(Workspace.find(), model))
    if findings:
        page = reconciliation_page(model, findings)
        publish_page(artifact_key("reconciled", model), page, f"{len(findings)} differences")
    return findings


@step("Register")
def register_release(delivery: Delivery, candidate: Candidate, gated: Gated) -> Registration:
    """Give the release its semantic version and change log, in the ledger and then in MLflow.

    Idempotent by the delivery; what MLflow mirrors is written again where it differs.
    """
    workspace = Workspace.find()
    facts = facts_of(delivery, candidate)
    former = _former(workspace, delivery)
    derivation = changes = None
    if former is not None:
        asked = Bump(delivery.bump) if delivery.bump else None
        derivation = derive_bump(former.facts, facts, asked)
        rows = compare_rows(former.facts, facts, workspace.project)
        changes = compare_releases(former.facts, facts, rows)

    def register(version: str) -> Registration:
        day = datetime.now(UTC).date()
        return Registration(
            version=version,
            bump=derivation.bump if derivation else None,
            bump_reasons=derivation.reasons if derivation else (),
            changelog=write_changelog(
                version, day, delivery.reason, facts, gated, derivation, changes
            ),
        )

    bump = derivation.bump if derivation else None
    registration = workspace.ledger.number(delivery.id, bump, register)
    mirror_releases(workspace, delivery.model)
    _tell_run(workspace, delivery.model, candidate, registration)
    return registration


@step("Show release")
def show_release(
    delivery: Delivery, registration: Registration, build: Build, rollout: RolloutReport
) -> None:
    """Leave a page that says what was released and where it serves.

    Raises RolloutError for a release that was taken out of traffic again.
    """
    service = rollout.service
    if service is None or (rollout.ended and not rollout.promoted):
        raise RolloutError(rollout.state.why)
    workspace = Workspace.find()
    metric = workspace.project.model(delivery.model).evaluation.primary_metric
    history = [
        (release.version, Gated.model_validate(gated))
        for release in workspace.ledger.releases(delivery.model)
        if release.version and (gated := release.payload(ReleaseState.GATED))
    ]
    picture = as_png(plot_metric_history(history, metric))
    release = workspace.ledger.release_by_id(delivery.id)
    workspace.tracking.log_pictures(release.candidate.mlflow_run_id, {"metric_history": picture})
    example = example_row(workspace.project.home / build.bundle)
    page = release_page(registration, build, service, example, picture)
    publish_page(artifact_key("release", delivery.model), page, f"Serves at {service.url}")


def _former(workspace: Workspace, delivery: Delivery) -> Release | None:
    """Return the champion, or, while there is none, the newest other release with a version."""
    champion = workspace.ledger.champion(delivery.model)
    releases = workspace.ledger.releases(delivery.model)
    numbered = [release for release in releases if release.version and release.id != delivery.id]
    return champion or (numbered[-1] if numbered else None)


def _tell_run(
    workspace: Workspace, model: str, candidate: Candidate, registration: Registration
) -> None:
    tracking, run = workspace.tracking, candidate.mlflow_run_id
    tracking.name_run(run, f"{model} {registration.version}", registration.changelog)
    tracking.log_text(run, registration.changelog, "CHANGELOG.md")
