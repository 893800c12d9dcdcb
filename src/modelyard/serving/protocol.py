"""How is a request read with care, and how does its answer leave whole, or not at all?"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 2**16
"""Of a head (or of what a client may send after a body) whose rest is yet to come."""
HEAD_SECONDS = 60.0
"""That the rest of a head may take, or that a new connection may be silent."""


class WholeAnswerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with the head and the body of an answer in one write.

    uvicorn writes them apart, and a gateway that has seen a head cannot ask another replica any
    more: the replica that is killed in between loses a request. One write is one packet less, too.

    It also reads with more care: a head has an end, and soon, what follows a body is none of its
    headers, a client that sends many requests ahead waits, and a body is read though its head asks
    for another protocol (as Java's client does), which nobody has to grant.
    """

    _head_bytes = 0
    """Of what was read since the last head or part of a body was."""
    _head_timer: asyncio.TimerHandle | None = None
    _stays = False
    """Whether another protocol was asked for by the head that was read last."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = _HeadWaits(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self._wire))
        self.flow = _OneAtATime(self.transport, self.pipeline)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting_for_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    if not self._stays:
                        break
                    data = self._head_without_upgrade() + data[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._refuse("Invalid HTTP request received.")
            return
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse("The head of the request is too large.")
        elif not self._head_bytes:
            self._stop_waiting_for_head()
        elif self._head_timer is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        self._stays = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if self._stays:  # the parser takes no body for one: see `data_received`
            return
        super().on_headers_complete()
        self.headers = []  # not the scope's any more: headers after the body are left out

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        if not self._stays:
            super().on_message_complete()

    def _head_without_upgrade(self) -> bytes:
        """Return the head that was read last for a parser that has seen nothing of it."""
        version, method = self.parser.get_http_version(), self.parser.get_method()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        line = b"%b %b HTTP/%b\r\n" % (method, self.url, version.encode())
        return b"".join([line, *kept, b"\r\n"])

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting_for_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, why: str) -> None:
        self.logger.warning(why)
        if not self.transport.is_closing():
            self.send_400_response(why)

    def write_now(self, data: bytes) -> None:
        """Write what is whole already, after what was written before."""
        self._wire.write_now(data)


class _OneAtATime(FlowControl):
    """Reads on when no request waits for its turn; uvicorn does after each that was answered.

    A client that sends faster than it is answered would otherwise fill the memory.
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class _HeadWaits:
    """A transport whose writes leave together when the event loop comes round.

    Applications of ours give head and body at once. The answers to all requests of a batch leave
    one right after the other: a client that has gone to sleep in between costs a wake-up for each.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._waiting is None:
            self._waiting = data
            self._loop.call_soon(self._flush)
        else:
            self._waiting += data

    def write_now(self, data: bytes) -> None:
        if self._waiting is None:
            self._transport.write(data)
        else:
            self._waiting += data

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting is not None:
            data, self._waiting = self._waiting, None
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
