"""How is Prefect told what happened to a model?"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run

from modelyard.errors import ServiceUnavailableError

WINDOW_LABEL = "modelyard.window"
"""Label of an event that is about one window: what came again is known by it."""


def emit_event(
    name: str,
    model: str,
    payload: Mapping[str, Any],
    event_id: str,
    *,
    labels: Mapping[str, str] | None = None,
    occurred: datetime | None = None,
) -> None:
    """Tell Prefect that something happened to a model.

    Prefect's own emitter sends in the background and loses the event without a word when the server
    is away. This one waits until the server has it, and an `event_id` (a UUID as text) that is the
    same for the same fact makes emitting it again harmless: automations see it once.

    `payload` is JSON-shaped; `labels` are added to the resource `modelyard.model.<model>`, and are
    what automations can match on. Raises ServiceUnavailableError when the server does not take it.
    """
    event = Event.model_validate(
        {
            "id": uuid.UUID(event_id),
            "event": name,
            "occurred": occurred or datetime.now(UTC),
            "resource": {
                "prefect.resource.id": f"modelyard.model.{model}",
                "prefect.resource.name": model,
                "modelyard.model": model,
                **(labels or {}),
            },
            "related": _related(),
            "payload": dict(payload),
        }
    )
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as err:
        raise ServiceUnavailableError(
            f"Prefect's server did not take the event {name} about {model}: {err}. Start it with "
            "`modelyard up`; the same event may be emitted again."
        ) from err


def _related() -> list[dict[str, str]]:
    """Return the flow run that emits, so that its page shows the event."""
    if not flow_run.id:
        return []
    return [
        {
            "prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
            "prefect.resource.role": "flow-run",
            "prefect.resource.name": flow_run.name or "",
        }
    ]
