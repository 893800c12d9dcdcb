"""Which rows does this delivery train on and judge with?"""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import datetime

import numpy as np
import pandas as pd

from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.data.snapshots import store_snapshot
from modelyard.adapters.data.sources import labelled, read_rows
from modelyard.adapters.prefect.steps import step
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.holdout import split_newest
from modelyard.domain.releases import Delivery, Release, ReleaseState
from modelyard.domain.versioning import Bump
from modelyard.errors import DataError
from modelyard.ledger import acting_person


@step("Take rows")
def open_delivery(
    model: str, reason: str, as_of: datetime | None = None, bump: Bump | None = None
) -> Delivery:
    """Go on with the delivery that was interrupted, or read the rows and open a new one.

    Idempotent by the model, its config and its rows: there is at most one unfinished delivery, and
    one that was begun with another config or other rows is aborted, unless it is in traffic
    already; so is one that was compared with a champion which is champion no more. Nothing is
    recorded before the rows were read and checked.
    """
    workspace = Workspace.find()
    config = workspace.project.model(model)
    interrupted = workspace.ledger.unfinished(config.name)
    outdated = interrupted is not None and _outdated(workspace, interrupted)
    if interrupted is not None and interrupted.state is ReleaseState.ROLLING_OUT and not outdated:
        return interrupted.delivery
    delivery = _read(workspace, config, reason, as_of, bump)
    if interrupted is not None:
        if _same(interrupted.delivery, delivery) and not outdated:
            return interrupted.delivery
        workspace.ledger.record(
            interrupted.id,
            ReleaseState.ABORTED,
            interrupted.delivery,
            why=f"{'champion' if outdated else 'config or rows'} changed before it was finished",
        )
    workspace.ledger.open_release(delivery, why=f"{reason}, by {acting_person()}")
    return delivery


def _outdated(workspace: Workspace, interrupted: Release) -> bool:
    gated = interrupted.payload(ReleaseState.GATED)
    champion = workspace.ledger.champion(interrupted.model)
    return gated is not None and gated["champion_id"] != (champion.id if champion else None)


def _same(interrupted: Delivery, delivery: Delivery) -> bool:
    return (
        interrupted.config_digest == delivery.config_digest
        and interrupted.bump == delivery.bump
        and interrupted.training.fingerprint == delivery.training.fingerprint
        and interrupted.holdout.fingerprint == delivery.holdout.fingerprint
    )


def config_digest(config: ModelConfig) -> str:
    """Return sha256 over what of a config decides the release: not its schedules or alerts."""
    deciding = config.model_dump(
        mode="json", include={"name", "task", "data", "training", "evaluation", "service"}
    )
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _read(
    workspace: Workspace,
    config: ModelConfig,
    reason: str,
    as_of: datetime | None,
    bump: Bump | None,
) -> Delivery:
    root = workspace.project.root
    rows = read_rows(config.data, root=root, until=as_of, task=config.task)
    rows = labelled(rows, config.data.target)
    inferred = infer_contract(config, rows)
    training, holdout = _split(config, rows)
    folder = workspace.project.snapshot_folder()
    return Delivery(
        id=str(uuid.uuid4()),
        model=config.name,
        reason=reason,
        as_of=as_of,
        config_digest=config_digest(config),
        contract=inferred.contract,
        left_out=inferred.left_out,
        training=store_snapshot(rows[training], folder, config.data.time),
        holdout=store_snapshot(rows[holdout], folder, config.data.time),
        bump=bump,
    )


def _split(config: ModelConfig, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    times = None
    if config.data.time is not None:
        stamps = pd.DatetimeIndex(rows[config.data.time])
        times = stamps.tz_convert(None).to_numpy() if stamps.tz else stamps.to_numpy()
    policy = config.evaluation.holdout
    window = None if isinstance(config.training.window, str) else config.training.window
    training, holdout = split_newest(
        times, len(rows), share=policy.share, span=policy.span, window=window
    )
    if not training.any():
        raise DataError(
            f"{config.data.source}: the holdout `{policy}` takes all {len(rows):,} rows and leaves "
            "none to train on. Make evaluation.holdout smaller, or training.window longer."
        )
    return training, holdout
