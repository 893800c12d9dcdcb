"""Which rows does this delivery train on and judge with?"""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime

from modelyard.adapters.checking import check_range_names
from modelyard.adapters.data.cells import INFINITE
from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.data.selection import select_rows
from modelyard.adapters.data.snapshots import store_snapshot
from modelyard.adapters.data.sources import EARLY
from modelyard.adapters.learning.scorers import find_metrics
from modelyard.adapters.prefect.steps import step
from modelyard.adapters.rollouts.conducting import Conductor
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.releases import Delivery, Release, ReleaseState
from modelyard.domain.rollout import Answer, QueuedDelivery, fold
from modelyard.domain.versioning import Bump
from modelyard.errors import ConflictError
from modelyard.ledger import acting_person
from modelyard.serving.model_file import ModelFile, is_intact

_NEEDS_MODEL = frozenset(
    {
        ReleaseState.TRAINED,
        ReleaseState.GATED,
        ReleaseState.REFITTED,
        ReleaseState.REGISTERED,
    }
)


@step("Take rows")
def open_delivery(
    model: str,
    reason: str,
    as_of: datetime | None = None,
    bump: Bump | None = None,
    since: datetime | None = None,
) -> Delivery:
    """Go on with the delivery that was interrupted, or read the rows and open a new one.

    Idempotent by the model, its config and its rows: there is at most one unfinished delivery, and
    one that was begun with another config or other rows is aborted, unless it is in traffic
    already; so is one that was compared with a champion which is champion no more, and one whose
    model file is gone or was changed. Nothing is recorded before the rows were read and checked.
    """
    workspace = Workspace.find()
    config = workspace.project.model(model)
    interrupted = workspace.ledger.unfinished(config.name)
    outdated = interrupted is not None and _outdated(workspace, interrupted)
    rolls_out = interrupted is not None and interrupted.state is ReleaseState.ROLLING_OUT
    if (
        interrupted is not None
        and rolls_out
        and not outdated
        and not _bakes(workspace, interrupted)
    ):
        return interrupted.delivery
    delivery = _read(workspace, config, reason, as_of, bump, since)
    if interrupted is not None:
        if rolls_out and not outdated and not _same(interrupted.delivery, delivery):
            _give_way(workspace, config, interrupted, reason, as_of, bump)
            workspace.ledger.open_release(delivery, why=f"{reason}, by {acting_person()}")
            return delivery
        same = _same(interrupted.delivery, delivery)
        if same and not outdated and _has_model(workspace, interrupted):
            return interrupted.delivery
        changed = "champion" if outdated else "model file" if same else "config or rows"
        workspace.ledger.record(
            interrupted.id,
            ReleaseState.ABORTED,
            interrupted.delivery,
            why=f"{changed} changed before it was finished",
        )
    workspace.ledger.open_release(delivery, why=f"{reason}, by {acting_person()}")
    return delivery


def _bakes(workspace: Workspace, release: Release) -> bool:
    """Whether a release is watched for some time before it gets all of the traffic."""
    history = workspace.ledger.rollout(release.id)
    plan = fold(history).plan if history else None
    return plan is not None and (plan.approval or any(step.bake for step in plan.steps))


def _give_way(
    workspace: Workspace,
    config: ModelConfig,
    release: Release,
    reason: str,
    as_of: datetime | None,
    bump: Bump | None,
) -> None:
    """End the rollout that is under way for a newer delivery.

    Raises ConflictError where the config says that it goes on; with `queue` the newer delivery is
    made after it.
    """
    conductor = Conductor(workspace, release)
    state, policy = conductor.state, config.service.rollout.while_rolling_out
    if policy == "supersede":
        conductor.tell(Answer.ABORT, f"superseded by a newer delivery: {reason}")
        conductor.advance()
        return
    told = (
        f"{release.model} {release.version} is being rolled out ({state.current.weight} % of the "
        f"traffic, step {state.step + 1} of {len(state.plan.steps)}), and other rows or another "
        "config are to be delivered"
    )
    if policy == "queue":
        asked = None if bump is None else bump.name
        conductor.queue(QueuedDelivery(reason=reason, bump=asked, as_of=as_of))
        raise ConflictError(f"{told}: that waits for the end of the rollout.")
    raise ConflictError(
        f"{told}. `modelyard promote {release.model} --full` or `modelyard abort {release.model}` "
        "end the rollout; service.rollout.while_rolling_out: supersede lets a newer delivery do so."
    )


def _outdated(workspace: Workspace, interrupted: Release) -> bool:
    gated = interrupted.payload(ReleaseState.GATED)
    champion = workspace.ledger.champion(interrupted.model)
    return gated is not None and gated["champion_id"] != (champion.id if champion else None)


def _has_model(workspace: Workspace, interrupted: Release) -> bool:
    """Return whether the next step finds the fitted model that it needs; a bundle has its own."""
    if interrupted.state not in _NEEDS_MODEL:
        return True
    fit = interrupted.candidate
    folder = workspace.project.home / fit.folder
    return is_intact(ModelFile.model_validate(fit.model_file), folder)


def _same(interrupted: Delivery, delivery: Delivery) -> bool:
    return (
        interrupted.config_digest == delivery.config_digest
        and interrupted.bump == delivery.bump
        and interrupted.training.fingerprint == delivery.training.fingerprint
        and interrupted.holdout.fingerprint == delivery.holdout.fingerprint
    )


def config_digest(config: ModelConfig) -> str:
    """Return sha256 over what of a config decides the release, not how it comes into traffic, or
    its schedules and alerts."""
    deciding = config.model_dump(
        mode="json",
        include={"name", "task", "data", "training", "evaluation", "service"},
        exclude={"service": {"rollout"}},
    )
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _read(
    workspace: Workspace,
    config: ModelConfig,
    reason: str,
    as_of: datetime | None,
    bump: Bump | None,
    since: datetime | None,
) -> Delivery:
    project = workspace.project
    if as_of is None and config.data.time is not None:
        as_of = datetime.now(UTC)  # a source may hold rows whose label is not due yet
    find_metrics(config.evaluation, config.task)  # what cannot measure is said before a fit
    selection = select_rows(config, project.root, as_of, since=since)
    inferred = infer_contract(config, selection.rows)
    check_range_names(config.data, inferred.contract)
    return Delivery(
        id=str(uuid.uuid4()),
        model=config.name,
        reason=reason,
        as_of=as_of,
        config_digest=config_digest(config),
        contract=inferred.contract,
        left_out=inferred.left_out,
        training=store_snapshot(project, config, selection, "training", as_of, since),
        holdout=store_snapshot(project, config, selection, "holdout", as_of, since),
        bump=bump,
        since=since,
        infinite=selection.rows.attrs.get(INFINITE, {}),
        early=selection.rows.attrs.get(EARLY, 0),
    )
