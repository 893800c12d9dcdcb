"""Put the release before this one back in traffic."""

from __future__ import annotations

from prefect import flow

from modelyard.adapters.prefect.holding import hold_model
from modelyard.domain.values import ServiceStatus
from tasks.rollout import choose_former_release, put_back


@flow(name="rollback", flow_run_name="roll back {model}")
def roll_back_model(model: str, to: str | None = None, reason: str = "manual") -> ServiceStatus:
    """Put a former release back in traffic, from its stored files, without a rebuild.

    It is refused while a delivery is under way, since which release is the former one would change.

    Args:
        model: Name of the model.
        to: Version to go back to; empty means the champion before this one.
        reason: Why; goes into the history.
    """
    with hold_model(model, wait=False):
        return put_back(choose_former_release(model, to), reason)
