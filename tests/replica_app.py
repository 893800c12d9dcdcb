"""A replica's application in the test's own process: requests to it, and the log that it writes."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
from starlette.types import ASGIApp

from modelyard.serving.inference_log import InferenceLog

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
ROW = {"temp": 20, "season": "summer", "wind": 1.5}


class Client:
    """Sends requests to an ASGI application in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def get(self, path: str) -> httpx.Response:
        return asyncio.run(self._send("GET", path))

    def post(self, path: str, **content: Any) -> httpx.Response:
        return asyncio.run(self._send("POST", path, **content))

    async def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return await client.request(method, path, **content)


def logged(log: InferenceLog) -> list[dict[str, Any]]:
    """Return the requests of a segment, each with what the segment says of all of them."""
    if not log.segment.stat().st_size:
        return []
    header, *lines = map(json.loads, log.segment.read_text().splitlines())
    shared = header | {"columns": list(header.pop("kinds"))}
    return [shared | line for line in lines]
