"""What did the recipe learn from the training rows?"""

from __future__ import annotations

from pathlib import Path

from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.learning.environment import pinned_requirements
from modelyard.adapters.learning.fitting import fit_recipe
from modelyard.adapters.learning.pipelines import describe_recipe
from modelyard.adapters.prefect.steps import step
from modelyard.adapters.records.recording import record_candidate
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import Candidate, Delivery, ReleaseState


@step("Train")
def train_candidate(delivery: Delivery) -> Candidate:
    """Fit the recipe on the training rows and log the model, its signature and its rows to MLflow.

    Idempotent by the delivery: what an interrupted try logged is replaced, a finished one returned.
    """
    workspace = Workspace.find()
    return workspace.ledger.once(
        delivery.id,
        ReleaseState.TRAINED,
        Candidate,
        lambda: _train(workspace, delivery),
        why=f"fitted on {delivery.training.rows:,} rows",
    )


def _train(workspace: Workspace, delivery: Delivery) -> Candidate:
    project = workspace.project
    config = project.model(delivery.model)
    rows = load_snapshot(delivery.training, project)
    holdout = load_snapshot(delivery.holdout, project)
    recipe = describe_recipe(config.training, delivery.contract)
    pins = pinned_requirements(config.training)
    with workspace.tracking.training_run(delivery) as run:
        workspace.tracking.log_params(recipe)
        checked = workspace.ledger.release_by_id(delivery.id).payload(ReleaseState.CHECKED)
        if checked is not None:
            workspace.tracking.log_json(run.info.run_id, checked, "checks.json")
        workspace.tracking.log_rows(
            rows, delivery.training.fingerprint[:12], "training", delivery.contract.target
        )
        folder: Path = project.candidate_folder(delivery.id)
        fit = fit_recipe(config.training, delivery.contract, rows, holdout, folder)
        uri = workspace.tracking.log_model(fit.pipeline, fit.stored, folder, fit.features, pins)
    record = record_candidate(project, config, fit)
    return Candidate(
        mlflow_run_id=run.info.run_id,
        mlflow_model_uri=uri,
        folder=str(folder.relative_to(project.home)),
        model_file=fit.stored.model_dump(),
        recipe=recipe,
        requirements=pins,
        environment=record.environment,
        fit_seconds=fit.seconds,
        record=record,
    )
