"""How a replica's HTTP server writes an answer, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from uvicorn.server import ServerState

from modelyard.serving.protocol import WholeAnswerProtocol
from modelyard.serving.server import DrainingServer, server_config
from tests.wires import Wire

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
FOREVER = 300.0
"""Seconds; a test that waited for them would fail by its time limit."""


async def whole(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("five")(scope, receive, send)


async def empty(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse(status_code=204)(scope, receive, send)


async def streamed(scope: Any, receive: Any, send: Any) -> None:
    async def parts() -> AsyncIterator[str]:
        yield "fi"
        await asyncio.sleep(0.01)
        yield "ve"

    await StreamingResponse(parts())(scope, receive, send)


async def written(app: Any, *requests: bytes) -> Wire:
    """Send requests on one connection, one after the other, and return what was written on it."""
    config, state = server_config(app), ServerState()
    config.load()
    protocol = WholeAnswerProtocol(config=config, server_state=state, app_state={})
    wire = Wire()
    protocol.connection_made(wire)
    for request in requests:
        protocol.data_received(request)
        await asyncio.gather(*state.tasks)
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    return wire


def test_head_and_body_of_an_answer_leave_in_one_write() -> None:
    wire = asyncio.run(written(whole, REQUEST, REQUEST))
    assert len(wire.writes) == 2
    assert all(w.startswith(b"HTTP/1.1 200") and w.endswith(b"\r\n\r\nfive") for w in wire.writes)


def test_an_answer_is_written_before_its_connection_is_closed() -> None:
    wire = asyncio.run(written(whole, REQUEST[:-2] + b"Connection: close\r\n\r\n"))
    assert wire.closed
    assert b"".join(wire.writes).endswith(b"\r\n\r\nfive")


@pytest.mark.parametrize(
    ("app", "request_line", "ends"),
    [
        (empty, b"GET", b"\r\n\r\n"),
        (whole, b"HEAD", b"\r\n\r\n"),
        (streamed, b"GET", b"2\r\nfi\r\n2\r\nve\r\n0\r\n\r\n"),
    ],
)
def test_an_answer_without_a_body_or_in_parts_is_written_as_well(
    app: Any, request_line: bytes, ends: bytes
) -> None:
    wire = asyncio.run(written(app, REQUEST.replace(b"GET", request_line)))
    assert b"".join(wire.writes).endswith(ends)


async def _end(how: str) -> bytes:
    """End a server while one client is idle and another waits for its answer; return the latter."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if Request(scope).url.path == "/slow":
            asked.set()
            await go.wait()
        await whole(scope, receive, send)

    server = DrainingServer(
        server_config(app), grace_seconds=FOREVER, lame_duck_seconds=FOREVER, on_drain=go.set
    )
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    _, idle = await asyncio.open_connection(*listener.getsockname())
    slow, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(REQUEST.replace(b" / ", b" /slow "))
    await asked.wait()
    getattr(server, how)()
    if how == "stop":
        server.interrupt()
    await serving
    answer = await slow.read()
    for stream in (idle, writer):
        stream.close()
    return answer


@pytest.mark.parametrize("how", ["interrupt", "stop"])
def test_an_interrupted_server_answers_what_it_has_and_waits_for_nobody_else(how: str) -> None:
    assert asyncio.run(_end(how)).endswith(b"\r\n\r\nfive")
