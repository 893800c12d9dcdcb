"""What did the recipe learn from the training rows?"""

from __future__ import annotations

import time
from pathlib import Path

from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.learning.environment import (
    describe_environment,
    model_packages,
    serving_requirements,
)
from modelyard.adapters.learning.outcomes import as_labels
from modelyard.adapters.learning.pipelines import build_pipeline, describe_recipe, fit_pipeline
from modelyard.adapters.prefect.steps import step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import Candidate, Delivery, ReleaseState
from modelyard.serving.model_file import save_model
from modelyard.serving.predictor import prepare_features


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
    rows = load_snapshot(delivery.training, project.snapshot_folder())
    features = prepare_features(rows, delivery.contract)
    recipe = describe_recipe(config.training, delivery.contract)
    pins = serving_requirements(model_packages(str(recipe["estimator"])))
    with workspace.tracking.training_run(delivery) as run:
        workspace.tracking.log_params(recipe)
        workspace.tracking.log_rows(
            rows, delivery.training.fingerprint[:12], "training", delivery.contract.target
        )
        started = time.perf_counter()
        pipeline = fit_pipeline(
            build_pipeline(config.training, delivery.contract),
            features,
            as_labels(rows[delivery.contract.target], delivery.contract),
        )
        fit_seconds = time.perf_counter() - started
        folder: Path = project.candidate_folder(delivery.id)
        stored = save_model(pipeline, folder, sample=features.head(1000))
        uri = workspace.tracking.log_model(pipeline, stored, folder, features, pins)
    return Candidate(
        mlflow_run_id=run.info.run_id,
        mlflow_model_uri=uri,
        folder=str(folder.relative_to(project.home)),
        model_file=stored.model_dump(),
        recipe=recipe,
        requirements=pins,
        environment=describe_environment(project.root),
        fit_seconds=fit_seconds,
    )
