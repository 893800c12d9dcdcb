"""What is an HTTP request and an answer here? As little as ASGI has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from modelyard.errors import DeadlineError, RequestError, TooLargeError

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON = b"application/json"


class ClientGoneError(Exception):
    """The client left before its request was whole."""

    def __str__(self) -> str:
        return "The request ended before its body was complete."


@dataclass(slots=True)
class Request:
    """The head of one request."""

    path: str
    query: bytes
    headers: dict[bytes, bytes]
    id: str = ""
    """What the request is called in answers and logs."""
    begun: float = 0.0
    """By the performance counter."""
    held_bytes: int = 0
    """What its body takes of the memory for all that wait."""

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def flag(self, name: str) -> bool:
        """Return a query parameter that is true or false; false where it is absent."""
        if not self.query:
            return False
        values = dict(parse_qsl(self.query.decode("latin-1"), keep_blank_values=True))
        text = values.get(name, "false").lower()
        if text not in ("true", "false"):
            raise RequestError(f"{name} must be true or false, got {text[:40]!r}.", name)
        return text == "true"


@dataclass(slots=True)
class Answer:
    """What goes back: a status, a body, and more headers than the usual ones."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


Reply = Callable[[Answer], None]
"""Called once, with the answer to a request."""


def as_json(content: Any, status: int = 200) -> Answer:
    return Answer(orjson.dumps(content), status)


async def read_body(request: Request, receive: Receive, max_bytes: int, seconds: float) -> bytes:
    """Return the whole body.

    Raises TooLargeError, DeadlineError for one that does not come to its end in time, and
    ClientGoneError.
    """
    declared = request.headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise too_large(max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _read_parts(receive, max_bytes)
    except TimeoutError:
        raise DeadlineError(f"The body was not whole within {seconds:g} s.") from None


async def _read_parts(receive: Receive, max_bytes: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise too_large(max_bytes)
        if not message.get("more_body"):
            return b"".join(parts)


def too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"The body is larger than {max_bytes} bytes. Send fewer rows.")
