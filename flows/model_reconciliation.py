"""What the ledger says, made true where it is not."""

from __future__ import annotations

from prefect import flow

from flows.model_retraining import retrain_model
from flows.model_rollout import roll_out_model
from modelyard.adapters.prefect.holding import hold_model
from modelyard.adapters.prefect.scheduling import run_later
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.mirror import Finding
from tasks.alerts import report_damage, tell_people
from tasks.monitoring import rotate_inference_log
from tasks.registration import reconcile_registry
from tasks.retraining import find_missed_retraining
from tasks.rollout import reconcile_service


@flow(name="reconcile", flow_run_name="reconcile {model}")
def reconcile_model(model: str) -> list[Finding]:
    """Find what a crash, a lost event or somebody's hand left to do, and do it.

    It looks at the versions, aliases, tags and descriptions in MLflow's registry, and rotates the
    inference log, whether or not the model is monitored. A rollout that nobody carries on is
    carried on, replicas that are gone are replaced, and alerts that did not arrive are sent again.
    A retraining that an event should have started, and that was lost, is started.

    Args:
        model: Name of a model that has a release.
    """
    roll_out_model(model)
    with hold_model(model):
        rotate_inference_log(model)
        report_damage(model)
        tell_people(model, return_state=True)  # also what no place took before
        findings = reconcile_registry(model) + reconcile_service(model)
    return findings + catch_up(model)


def catch_up(model: str) -> list[Finding]:
    """Start the retraining that a lost event should have started: as a flow run of its own where
    there is a deployment for it, since others wait for this one."""
    missed = find_missed_retraining(model)
    if missed is None:
        return []
    asked = {"cause": missed.cause, "window_id": missed.window_id, "as_of": missed.as_of}
    outcome = "is asked for as a flow run"
    if not run_later("retrain", model, parameters=asked):
        cause = missed.cause or RetrainingCause.SCHEDULE
        outcome = retrain_model(model, cause, as_of=missed.as_of).words
    words = f"no retraining on {missed.cause} was begun that window {missed.window_id} asked for"
    return [Finding(words=f"{words}; {outcome}", mended=True)]
