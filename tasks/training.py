"""What did the recipe learn from the training rows, and then from all rows?"""

from __future__ import annotations

from modelyard.adapters.data.snapshots import load_learnt, load_snapshot
from modelyard.adapters.learning.environment import pinned_requirements
from modelyard.adapters.learning.final_fit import judge_fits
from modelyard.adapters.learning.fitting import fit_recipe
from modelyard.adapters.learning.pipelines import describe_recipe
from modelyard.adapters.prefect.steps import step
from modelyard.adapters.records.recording import record_candidate
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.gate import Gated, GateVerdict
from modelyard.domain.releases import Candidate, Delivery, ReleaseState, rows_learnt
from modelyard.domain.values import Runtime
from modelyard.domain.versioning import recipe_changes
from modelyard.errors import RefusedError


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


@step("Learn the holdout")
def refit_candidate(delivery: Delivery, candidate: Candidate, gated: Gated) -> Candidate:
    """Fit a promoted recipe once more, with the holdout's rows, and return what is released.

    Where the config says `include_holdout: false`, that is the candidate itself. Idempotent by the
    delivery. Raises RefusedError for a fit that has gone wrong, and where the recipe is no longer
    the one that the gate judged: the delivery is aborted.
    """
    workspace = Workspace.find()
    config = workspace.project.model(delivery.model)
    release = workspace.ledger.release_by_id(delivery.id)
    if release.version is not None:  # what has a version stays what it is, whatever the config says
        return release.candidate
    if not config.training.include_holdout:
        return candidate
    rows = delivery.training.rows + delivery.holdout.rows
    return workspace.ledger.once(
        delivery.id,
        ReleaseState.REFITTED,
        Candidate,
        lambda: _refit(workspace, delivery, candidate, gated),
        why=f"fitted once more on {rows:,} rows, the holdout among them",
    )


def _train(workspace: Workspace, delivery: Delivery) -> Candidate:
    config = workspace.project.model(delivery.model)
    with workspace.tracking.training_run(delivery) as mlflow_run_id:
        workspace.tracking.log_params(
            describe_recipe(config.training, delivery.contract)
            | ({"rows_since": delivery.since.isoformat()} if delivery.since else {})
        )
        checked = workspace.ledger.release_by_id(delivery.id).payload(ReleaseState.CHECKED)
        if checked is not None:
            workspace.tracking.log_json(mlflow_run_id, checked, "checks.json")
        return _fit(workspace, delivery, config, mlflow_run_id, with_holdout=False)


def _refit(workspace: Workspace, delivery: Delivery, judged: Candidate, gated: Gated) -> Candidate:
    config = workspace.project.model(delivery.model)
    _refuse_another_recipe(workspace, delivery, config, judged)
    tracking = workspace.tracking
    with tracking.continued_run(judged.mlflow_run_id):
        final = _fit(workspace, delivery, config, judged.mlflow_run_id, with_holdout=True)
    metric = config.evaluation.primary_metric
    rule = judge_fits(workspace.project, delivery, judged, final, metric, gated.metrics[metric])
    if rule.value is not None:
        tracking.log_metrics(judged.mlflow_run_id, {f"in_sample_{metric}": rule.value})
    if rule.verdict is not GateVerdict.PROMOTE:
        workspace.ledger.record(delivery.id, ReleaseState.ABORTED, rule, why=rule.reason)
        raise RefusedError(
            f"{delivery.model}: the gate said promote, but the fit that learnt the holdout has "
            f"{rule.reason}. Nothing was released. Look for an estimator that fails on some rows; "
            "`training.include_holdout: false` releases the fit that the gate judged."
        )
    return final


def _refuse_another_recipe(
    workspace: Workspace, delivery: Delivery, config: ModelConfig, judged: Candidate
) -> None:
    """Abort where the config, or the code of the user's pipeline, was changed since the gate."""
    changes = recipe_changes(judged.recipe, describe_recipe(config.training, delivery.contract))
    if not changes:
        return
    why = f"the recipe changed after the gate had judged it: {'; '.join(changes)}"
    workspace.ledger.record(delivery.id, ReleaseState.ABORTED, judged, why=why)
    raise RefusedError(f"{delivery.model}: {why}. Nothing was released: deliver again.")


def _fit(
    workspace: Workspace,
    delivery: Delivery,
    config: ModelConfig,
    mlflow_run_id: str,
    *,
    with_holdout: bool,
) -> Candidate:
    """Fit, store, log to the active MLflow run, and record."""
    project, tracking = workspace.project, workspace.tracking
    learnt = rows_learnt(delivery, with_holdout=with_holdout)
    rows = load_learnt(learnt, project)
    holdout = load_snapshot(delivery.holdout, project)
    pins = pinned_requirements(config.training)
    model_pins = pinned_requirements(config.training, Runtime.SKLEARN)
    folder = project.candidate_folder(delivery.id, "final" if with_holdout else "")
    context = "training and holdout" if with_holdout else "training"
    tracking.log_rows(rows, learnt.fingerprint[:12], context, delivery.contract.target)
    fit = fit_recipe(config.training, delivery.contract, rows, holdout, folder, config.data.time)
    released = with_holdout or not config.training.include_holdout
    uri = tracking.log_model(
        fit.pipeline, fit.stored, folder, fit.features, model_pins, released=released
    )
    record = record_candidate(project, config, fit)
    return Candidate(
        mlflow_run_id=mlflow_run_id,
        mlflow_model_uri=uri,
        folder=str(folder.relative_to(project.home)),
        model_file=fit.stored.model_dump(mode="json"),
        recipe=describe_recipe(config.training, delivery.contract),
        requirements=pins,
        environment=record.environment,
        fit_seconds=fit.seconds,
        learnt_holdout=with_holdout,
        record=record,
    )
