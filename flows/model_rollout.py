"""A release comes into traffic step by step."""

from __future__ import annotations

from prefect import flow

from flows.attending import attend_rollout
from flows.model_delivery import deliver_model
from modelyard.adapters.prefect.holding import hold_model
from modelyard.domain.rollout import Answer, RolloutReport
from modelyard.domain.versioning import Bump
from tasks.rollout import find_rollout, tell_rollout


@flow(name="rollout", flow_run_name="roll out {model}")
def roll_out_model(
    model: str, answer: Answer | None = None, reason: str = "manual"
) -> RolloutReport | None:
    """Look at a model's rollout, and carry it on: a step, a promotion, or an abort.

    It runs itself again when the next look is due. Nothing happens where no release is being rolled
    out; what a crash interrupted is done. A delivery that waited for its end follows.

    Args:
        model: Name of a model that a release is being rolled out of.
        answer: What a person says: approve what waits for that, promote at once, or abort.
        reason: Why the answer is given; goes into the history.
    """
    if answer is not None:  # before who holds the model, and looks for answers, is waited for
        tell_rollout(model, answer, reason)
    with hold_model(model):
        release_id = find_rollout(model)
        report = attend_rollout(model, release_id) if release_id else None
    queued = report.state.queued if report is not None and report.ended else None
    if queued is not None:
        bump = None if queued.bump is None else Bump[queued.bump]
        deliver_model(model, reason=queued.reason, as_of=queued.as_of, bump=bump)
    return report
