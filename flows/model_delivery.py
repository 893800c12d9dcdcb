"""Check the rows, train, evaluate, register, build, roll out."""

from __future__ import annotations

from prefect import flow

from flows.attending import attend_rollout
from modelyard.adapters.prefect.holding import hold_model
from modelyard.domain.deliveries import DeliveryOutcome
from modelyard.domain.values import Moment
from modelyard.domain.versioning import Bump
from tasks.checks import check_rows
from tasks.data import open_delivery
from tasks.evaluation import gate_candidate
from tasks.images import build_release, prepare_runtime
from tasks.registration import reconcile_registry, register_release, show_release
from tasks.rollout import start_rollout
from tasks.training import refit_candidate, train_candidate


@flow(name="deliver", flow_run_name="deliver {model}")
def deliver_model(
    model: str,
    reason: str = "manual",
    as_of: Moment | None = None,
    dry_run: bool = False,
    bump: Bump | None = None,
    since: Moment | None = None,
) -> DeliveryOutcome:
    """Bring a model's newest rows into production, if the gate finds what they teach better.

    Rows that are not sound end it before anything is trained.

    A delivery that was interrupted goes on from its last recorded step; while another one of the
    model is under way, this one waits for it.

    Args:
        model: Name of a config under configs/models/, without `.yaml`.
        reason: Why it is delivered; goes into the change log and the history.
        as_of: Use only rows and labels that were known by this moment (UTC); empty means now.
        dry_run: Train and measure, show what the gate says, and stop there.
        bump: Raise the version by at least this much, whatever the facts say; never by less.
        since: Use only rows from this moment (UTC) on; empty means all that the config says.
    """
    with hold_model(model):
        reconcile_registry(model)
        delivery = open_delivery(model, reason, as_of, bump, since)
        checked = check_rows(delivery, dry_run)
        if checked.blocks:
            return DeliveryOutcome.blocked(delivery, checked)
        prepare_runtime.submit(delivery, dry_run)  # side by side with the training
        candidate = train_candidate(delivery)
        gated = gate_candidate(delivery, candidate, dry_run)
        if dry_run or not gated.promotes:
            return DeliveryOutcome.kept(delivery, gated, checked)
        candidate = refit_candidate(delivery, candidate, gated)
        registration = register_release(delivery, candidate, gated)
        build = build_release(delivery, candidate, registration)
        start_rollout(delivery, registration, build)
        rollout = attend_rollout(model, delivery.id)
        show_release(delivery, registration, build, rollout)
        return DeliveryOutcome.released(delivery, gated, registration, rollout, checked)
