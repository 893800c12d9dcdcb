"""What the ledger says, made true where it is not."""

from __future__ import annotations

from prefect import flow

from flows.model_rollout import roll_out_model
from modelyard.adapters.prefect.holding import hold_model
from modelyard.domain.mirror import Finding
from tasks.alerts import report_damage, tell_people
from tasks.monitoring import rotate_inference_log
from tasks.registration import reconcile_registry
from tasks.rollout import reconcile_service


@flow(name="reconcile", flow_run_name="reconcile {model}")
def reconcile_model(model: str) -> list[Finding]:
    """Find what a crash or somebody's hand left different from the ledger, and mend it.

    It looks at the versions, aliases, tags and descriptions in MLflow's registry, and rotates the
    inference log, whether or not the model is monitored. A rollout that nobody carries on is
    carried on, replicas that are gone are replaced, and alerts that did not arrive are sent again.

    Args:
        model: Name of a model that has a release.
    """
    roll_out_model(model)
    with hold_model(model):
        rotate_inference_log(model)
        report_damage(model)
        tell_people(model, return_state=True)  # also what no place took before
        return reconcile_registry(model) + reconcile_service(model)
