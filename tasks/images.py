"""Which files serve the release, and what do they run on?"""

from __future__ import annotations

import shutil

from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.learning.environment import pinned_requirements, select_requirements
from modelyard.adapters.learning.packaging import package_release
from modelyard.adapters.learning.pipelines import code_folder
from modelyard.adapters.prefect.steps import step
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.releases import (
    Build,
    Candidate,
    Delivery,
    Registration,
    ReleaseState,
    rows_learnt,
)
from modelyard.domain.values import Runtime
from modelyard.serving.model_file import ModelFile


@step("Prepare runtime", retries=0)
def prepare_runtime(delivery: Delivery, dry_run: bool = False) -> None:
    """Have the image ready that the release's image is built on, where the target runs containers.

    It depends on the requirements alone: it can be built while the model is trained. Idempotent by
    what goes into it. `build_release` waits for it, and makes up for it where this failed.
    """
    workspace = Workspace.find()
    config = workspace.project.model(delivery.model)
    if dry_run or config.service.target != "docker":
        return
    from modelyard.adapters.docker import runtimes  # needs the Docker SDK and an engine

    project = workspace.project
    runtimes.prepare_runtime(
        pinned_requirements(config.training, _expected_runtime(config)),
        base_image=project.platform.docker.base_image,
        whole_base=project.platform.docker.whole_base,
        home=project.home,
    )


@step("Build")
def build_release(delivery: Delivery, candidate: Candidate, registration: Registration) -> Build:
    """Write the release's bundle, and build its container image where the target runs containers.

    Idempotent by the version: a bundle appears whole or not at all.
    """
    workspace = Workspace.find()
    return workspace.ledger.once(
        delivery.id,
        ReleaseState.BUILT,
        Build,
        lambda: _build(workspace, delivery, candidate, registration),
        why="bundle written and its golden rows predicted",
    )


def _build(
    workspace: Workspace, delivery: Delivery, candidate: Candidate, registration: Registration
) -> Build:
    project = workspace.project
    config = project.model(delivery.model)
    folder = project.bundle_folder(delivery.model, registration.version)
    holdout = load_snapshot(delivery.holdout, project)
    # A killed try may have written its bundle before the ledger heard of it.
    shutil.rmtree(folder, ignore_errors=True)
    packaged = package_release(
        folder,
        model=delivery.model,
        version=registration.version,
        contract=delivery.contract,
        model_file=ModelFile.model_validate(candidate.model_file),
        model_folder=project.home / candidate.folder,
        holdout=holdout,
        requirements=lambda runtime: select_requirements(
            candidate.requirements, config.training, runtime
        ),
        provenance=_provenance(delivery, candidate),
        code=code_folder(config.training),
        wanted=config.service.runtime,
    )
    built = Build(
        bundle=str(folder.relative_to(project.home)),
        digest=packaged.digest,
        runtime=packaged.runtime,
        runtime_reason=packaged.reason,
    )
    if config.service.target != "docker":
        return built
    return _with_image(workspace, candidate, built, delivery.model, registration.version)


def _expected_runtime(config: ModelConfig) -> Runtime:
    """Return what most pipelines can be served by; the proof may still say otherwise."""
    return Runtime.SKLEARN if config.service.runtime == "sklearn" else Runtime.COMPILED


def _with_image(
    workspace: Workspace, candidate: Candidate, built: Build, model: str, version: str
) -> Build:
    from modelyard.adapters.docker.images import build_image  # needs the Docker SDK and an engine

    project = workspace.project
    settings = project.platform.docker
    image = build_image(
        project.home / built.bundle,
        model=model,
        version=version,
        digest=built.digest,
        base_image=settings.base_image,
        whole_base=settings.whole_base,
        registry=settings.registry,
        home=project.home,
    )
    workspace.tracking.log_file(candidate.mlflow_run_id, image.sbom, "image")
    return built.model_copy(
        update={
            "image": image.name or image.id,
            "image_layers": image.layers,
            "sbom": str(image.sbom.relative_to(project.home)),
        }
    )


def _provenance(delivery: Delivery, candidate: Candidate) -> dict[str, str]:
    learnt = rows_learnt(delivery, with_holdout=candidate.learnt_holdout)
    return {
        "delivery": delivery.id,
        "mlflow_run_id": candidate.mlflow_run_id,
        "data_fingerprint": learnt.fingerprint,
        "learnt_rows": str(learnt.rows),
        "learnt_holdout": "yes" if learnt.with_holdout else "no",
        **({"learnt_until": learnt.span.end.isoformat()} if learnt.span.end else {}),
        **candidate.environment,
    }
