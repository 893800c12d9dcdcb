"""Releases in a ledger, without any of the work behind them."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from modelyard.domain.releases import Delivery, Registration, Release, ReleaseState, Snapshot
from modelyard.domain.values import Contract, MLTask, Span
from modelyard.domain.versioning import Bump
from modelyard.ledger import Ledger

CONTRACT = Contract(task=MLTask.REGRESSION, columns=(), target="y")
ROWS = Snapshot(fingerprint="f", path="f.parquet", rows=1, span=Span())
PATH = (
    ReleaseState.TRAINED,
    ReleaseState.GATED,
    ReleaseState.REFITTED,
    ReleaseState.REGISTERED,
    ReleaseState.BUILT,
    ReleaseState.ROLLING_OUT,
)


def make_delivery(model: str = "m", **changes: object) -> Delivery:
    given: dict = {
        "id": str(uuid.uuid4()),
        "model": model,
        "reason": "test",
        "as_of": None,
        "config_digest": "d",
        "contract": CONTRACT,
        "left_out": {},
        "training": ROWS,
        "holdout": ROWS,
    }
    return Delivery(**{**given, **changes})


def register(version: str) -> Registration:
    return Registration(version=version, bump=None, bump_reasons=(), changelog=f"## [{version}]")


def deliver(
    ledger: Ledger,
    upto: ReleaseState,
    bump: Bump | None = Bump.PATCH,
    model: str = "m",
    between: Callable[[], None] = lambda: None,
) -> Release:
    """Record the steps of a delivery up to a state; `between` is called after each."""
    delivery = make_delivery(model)
    ledger.open_release(delivery, why="test")
    between()
    if upto is not ReleaseState.OPENED:
        for state in PATH[: PATH.index(upto) + 1]:
            if state is ReleaseState.REGISTERED:
                ledger.number(delivery.id, bump, register)
            else:
                ledger.record(delivery.id, state, CONTRACT, why="test")
            between()
    return ledger.release_by_id(delivery.id)
