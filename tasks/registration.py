"""Which version is the release, what changed, and does MLflow say the same?"""

from __future__ import annotations

from datetime import UTC, datetime

from modelyard.adapters.pages import artifact_key, release_page
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.changelog import Facts, write_changelog
from modelyard.domain.gate import Gated
from modelyard.domain.releases import (
    Build,
    Candidate,
    Delivery,
    Registration,
    Release,
    ReleaseState,
)
from modelyard.domain.values import ServiceStatus
from modelyard.domain.versioning import Derivation, derive_bump, next_version
from modelyard.errors import ConflictError
from modelyard.serving.bundle import example_row


@step("Register")
def register_release(delivery: Delivery, candidate: Candidate, gated: Gated) -> Registration:
    """Give the release its semantic version and change log, in the ledger and then in MLflow.

    Idempotent by the delivery; what MLflow mirrors is written again each time.
    """
    workspace = Workspace.find()
    done = workspace.ledger.release_by_id(delivery.id).payload(ReleaseState.REGISTERED)
    if done is None:
        registration = _registration(workspace, delivery, candidate, gated)
        why = "; ".join(registration.bump_reasons) or "first release"
        workspace.ledger.number(delivery.id, registration.version, registration, why=why)
    else:
        registration = Registration.model_validate(done)
    _mirror(workspace, delivery, candidate, registration)
    workspace.tracking.point(delivery.model, "challenger", registration.mlflow_version)
    return registration


@step("Promote")
def promote_release(
    delivery: Delivery,
    registration: Registration,
    build: Build,
    gated: Gated,
    service: ServiceStatus,
) -> None:
    """Make the release champion if the one it was compared with still is, and tell MLflow.

    The ledger comes last: what is interrupted before it is done again when the delivery goes on,
    and there is nothing after it that could be missing. Raises ConflictError where another release
    became champion meanwhile.
    """
    workspace = Workspace.find()
    workspace.tracking.point(delivery.model, "champion", registration.mlflow_version)
    workspace.tracking.point(delivery.model, "challenger", None)
    example = example_row(workspace.project.home / build.bundle)
    page = release_page(registration, build, service, example)
    publish_page(artifact_key("release", delivery.model), page, f"Serves at {service.url}")
    try:
        workspace.ledger.promote(
            delivery.id, expected=gated.champion_id, why=f"rolled out: {delivery.reason}"
        )
    except ConflictError:
        _point_at_champion(workspace, delivery.model)
        raise


def _point_at_champion(workspace: Workspace, model: str) -> None:
    champion = workspace.ledger.champion(model)
    version = None
    if champion is not None:
        registered = champion.payload(ReleaseState.REGISTERED)
        version = Registration.model_validate(registered).mlflow_version
    workspace.tracking.point(model, "champion", version)


def _registration(
    workspace: Workspace, delivery: Delivery, candidate: Candidate, gated: Gated
) -> Registration:
    releases = workspace.ledger.releases(delivery.model)
    champion = workspace.ledger.champion(delivery.model)
    derivation = _derive(champion, delivery, candidate)
    version = next_version(
        (r.version for r in releases if r.version), derivation.bump if derivation else None
    )
    changelog = write_changelog(
        version,
        datetime.now(UTC).date(),
        delivery.reason,
        _facts(delivery, candidate, {n: m.value for n, m in gated.metrics.items()}),
        _facts(champion.delivery, champion.candidate, gated.champion_metrics) if champion else None,
        gated.decision.reasons,
    )
    mlflow_version = workspace.tracking.register(
        delivery.model,
        candidate.mlflow_run_id,
        candidate.mlflow_model_uri,
        delivery.id,
        {"semver": version},
    )
    return Registration(
        version=version,
        mlflow_version=mlflow_version,
        bump=derivation.bump if derivation else None,
        bump_reasons=derivation.reasons if derivation else (),
        changelog=changelog,
    )


def _derive(
    champion: Release | None, delivery: Delivery, candidate: Candidate
) -> Derivation | None:
    if champion is None:
        return None
    return derive_bump(
        champion.delivery.contract,
        delivery.contract,
        champion.candidate.recipe,
        candidate.recipe,
    )


def _facts(delivery: Delivery, candidate: Candidate, metrics: dict[str, float]) -> Facts:
    return Facts(
        contract=delivery.contract,
        recipe=candidate.recipe,
        training=delivery.training,
        requirements=candidate.requirements,
        metrics=metrics,
    )


def _mirror(
    workspace: Workspace, delivery: Delivery, candidate: Candidate, registration: Registration
) -> None:
    tags = {
        "semver": registration.version,
        "reason": delivery.reason,
        "data_fingerprint": delivery.training.fingerprint,
    }
    tracking = workspace.tracking
    tracking.describe(delivery.model, registration.mlflow_version, registration.changelog, tags)
    tracking.name_run(
        candidate.mlflow_run_id, f"{delivery.model} {registration.version}", registration.changelog
    )
    tracking.log_text(candidate.mlflow_run_id, registration.changelog, "CHANGELOG.md")
