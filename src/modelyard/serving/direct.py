"""How does a request that arrives whole reach the model without a detour?

ASGI gives every request a task, a scope, and messages in both directions, so that an application
may read and write as it likes. Of a prediction one small body arrives and one answer leaves: such a
request is handed over when it is whole, and its answer is written when there is one. Whatever is
unusual about a request, or large, or slow, goes uvicorn's own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from modelyard.serving.http import Answer, Reply, Request
from modelyard.serving.protocol import WholeAnswerProtocol

Take = Callable[[Request, bytes, Reply], None]
"""Takes a request with its body. It must not raise, and may reply at once or later."""

Headers = Sequence[tuple[bytes, bytes]]

_CLOSE = (b"connection", b"close")
_LONGEST_URL = 2**12
_MOST_HELD_BYTES = 2**16
"""Of a body whose rest is yet to come: uvicorn reads no more than that ahead, either."""


class Direct:
    """What may be posted to directly, by path, and how its answers are written."""

    def __init__(
        self,
        takes: Mapping[bytes, Take],
        usual_headers: Headers,
        *,
        patience_seconds: float,
    ) -> None:
        """`usual_headers` are those of every answer, beside the server's own.

        A body that is not whole after `patience_seconds` is left to the application to wait for.
        """
        self.takes = takes
        self.patience_seconds = patience_seconds
        self._usual_headers = usual_headers
        self._servers_headers: Headers = ()
        self._heads: dict[tuple[int, bytes], bytes] = {}

    def encode(self, answer: Answer, servers_headers: Headers) -> bytes:
        """Return an answer as it is written.

        Its headers are not looked through for line breaks: they are our own words, or were.
        """
        if servers_headers is not self._servers_headers:  # a second went by: another date
            self._servers_headers = servers_headers
            self._heads.clear()
        head = self._heads.get((answer.status, answer.media_type)) or self._head(answer)
        more = b"".join([b"%b: %b\r\n" % header for header in answer.headers])
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (head, more, len(answer.body), answer.body)

    def _head(self, answer: Answer) -> bytes:
        kind = (b"content-type", answer.media_type)
        headers = (*self._servers_headers, kind, *self._usual_headers)
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        head = self._heads[answer.status, answer.media_type] = STATUS_LINE[answer.status] + lines
        return head


class DirectProtocol(WholeAnswerProtocol):
    """uvicorn's HTTP protocol, with a short way for requests that are soon whole."""

    def __init__(self, *args: Any, direct: Direct, **more: Any) -> None:
        super().__init__(*args, **more)
        self._direct = direct
        self._take: Take | None = None
        """Where the request that is being read goes, as long as it may go directly."""
        self._body = b""
        self._said_goodbye = False
        """Whether the answer was the connection's last: what was sent ahead is not looked at."""
        self._patience: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._take is None or self.transport.is_closing():
            return
        # many clients send the head by itself, and the body right after it
        if len(self._body) > _MOST_HELD_BYTES:
            self._go_round()
        elif self._patience is None:
            self._patience = self.loop.call_later(self._direct.patience_seconds, self._go_round)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._take is not None:
            self._go_round()
        super().shutdown()

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        if self._said_goodbye:
            return
        path, _, query = self.url.partition(b"?")
        take = self._direct.takes.get(path)
        if take is not None and self._is_plain():
            self._take, self._body = take, b""
            self._request = Request(path.decode("ascii"), query, dict(self.headers))
            self._headers, self.headers = self.headers, []  # those after the body are left out
        else:
            self._headers = self.headers
            self._go_round()

    def on_body(self, body: bytes) -> None:
        if self._take is None:
            super().on_body(body)
        else:
            self._head_bytes = 0
            self._body += body

    def on_message_complete(self) -> None:
        if self._take is None:
            super().on_message_complete()
            return
        self._head_bytes = 0
        take, body = self._take, self._body
        self._stop_waiting()
        exchange = _Exchange()
        self.cycle = exchange  # pyright: ignore[reportAttributeAccessIssue]
        take(self._request, body, partial(self._reply, exchange))

    def _is_plain(self) -> bool:
        """Say whether nothing but its body is missing of a request, and nothing is before it."""
        parser: Any = self.parser  # none only once the connection is lost
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            # what uvicorn refuses, or cuts off
            and len(self.url) < _LONGEST_URL
            and b"#" not in self.url
        )

    def _go_round(self) -> None:
        """Let uvicorn begin with the request whose head was read."""
        url, headers, expects, body = self.url, self._headers, self.expect_100_continue, self._body
        self._stop_waiting()
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # uvicorn's scope holds this list
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _stop_waiting(self) -> None:
        self._take, self._body = None, b""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _reply(self, exchange: _Exchange, answer: Answer) -> None:
        exchange.response_complete = True
        if self.transport.is_closing():
            return
        headers = self.server_state.default_headers
        closes = _CLOSE in headers
        if not exchange.keep_alive and not closes:
            answer.headers.append(_CLOSE)
            closes = True
        self.write_now(self._direct.encode(answer, headers))
        if closes:
            self._said_goodbye = True
            self.transport.close()
        self.on_response_complete()


class _Exchange:
    """A request that was handed over, to uvicorn's protocol the one that it is busy with."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")

    message_event = asyncio.Event()
    """Nobody waits for it: there are no more parts to come."""

    def __init__(self) -> None:
        self.keep_alive = True
        self.response_complete = self.disconnected = False
