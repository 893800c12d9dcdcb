"""Can a flow be run later, by Prefect, so that nothing waits for it meanwhile?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from modelyard.adapters.prefect.steps import announced


def run_later(
    flow: str,
    model: str,
    at: datetime | None = None,
    key: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> bool:
    """Have `flow/model` run at a time, or now; False where no such deployment exists.

    Asking again with the same `key` is no second run.
    """
    with announced(f"Schedule {flow} of {model}"):
        try:
            run_deployment(
                f"{flow}/{model}",
                parameters={"model": model, **(parameters or {})},
                scheduled_time=at,
                timeout=0,
                idempotency_key=key,
                as_subflow=False,
            )
        except ObjectNotFound:
            return False
    return True
