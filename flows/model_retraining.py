"""The controller's decision, then a delivery."""

from __future__ import annotations

from prefect import flow

from flows.model_delivery import deliver_model
from modelyard.adapters.prefect.holding import hold_model
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.deliveries import Retraining
from modelyard.domain.retraining import RetrainingVerdict
from modelyard.domain.values import Moment
from tasks.retraining import decide_to_retrain, note_outcome, watch_circuit


@flow(name="retrain", flow_run_name="retrain {model}: {cause}")
def retrain_model(
    model: str,
    cause: RetrainingCause = RetrainingCause.PERSON,
    window_id: str | None = None,
    as_of: Moment | None = None,
) -> Retraining:
    """Ask the controller whether to retrain, and deliver if it says so.

    The controller looks at the recorded state and not at the event alone, so an event that was
    lost, doubled or late leads to the same one retraining.

    Args:
        model: Name of a model that has a release.
        cause: Who asks: a person, the schedule, or monitoring (performance, drift).
        window_id: Window that an event was about; goes into the run's parameters for reference.
        as_of: The moment (UTC) that counts as now; empty means now.
    """
    # who decides meanwhile would not know of this one
    with hold_model(model, purpose="retraining"):
        decision = decide_to_retrain(model, cause, as_of)
        if decision.verdict is not RetrainingVerdict.RETRAIN:
            watch_circuit(model)
            return Retraining(decision=decision)
        outcome = deliver_model(
            model,
            reason=decision.delivery_reason,
            as_of=decision.as_of,
            since=decision.rows_since,
        )
        note_outcome(decision, outcome)
        watch_circuit(model)
        return Retraining(decision=decision, delivery=outcome)
