"""How does an HTTP server on this machine start, and stop without dropping anybody?"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from modelyard.serving.direct import Direct, DirectProtocol
from modelyard.serving.protocol import WholeAnswerProtocol

KEEP_ALIVE_SECONDS = 75
"""Longer than common clients and gateways keep an idle connection, so that they close it first: a
server that closes first may do so just as the next request arrives."""

_IN_FLIGHT_SECONDS = 30
_POLL_SECONDS = 0.02


class Server(uvicorn.Server):
    """A uvicorn server that ends with its signal handled: the process then exits with 0."""

    def __init__(
        self, config: uvicorn.Config, *, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        """`on_ready` is called once connections are accepted."""
        super().__init__(config)
        self._on_ready = on_ready

    def stop(self) -> None:
        """Begin to stop; `serve` returns when that is done. What SIGTERM does."""
        self.should_exit = True

    def interrupt(self) -> None:
        """Begin to stop, and wait for nobody who may still come. What SIGINT does."""
        self.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.interrupt)
        yield


class DrainingServer(Server):
    """A server that lets its clients leave before it goes.

    Asked to stop, it accepts no new connections (after `lame_duck_seconds`, where it alone has the
    listening socket), answers what is in flight, and keeps idle keep-alive connections open for
    `grace_seconds`: a request that comes on one of them is answered with `Connection: close`, so
    that its client opens the next one elsewhere. uvicorn alone would close idle connections at
    once, and reset a client that is just sending on one. Interrupted, it does as uvicorn does: that
    is for one whose clients have left already.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        grace_seconds: float,
        lame_duck_seconds: float = 0.0,
        on_ready: Callable[[], None] = lambda: None,
        on_drain: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config, on_ready=on_ready)
        self._grace_seconds = grace_seconds
        self._lame_duck_seconds = lame_duck_seconds
        self._on_drain = on_drain
        self._accepts_until = self._stays_until = math.inf
        """By the loop's clock."""

    def drain(self, grace_seconds: float | None = None) -> None:
        """Begin to stop, with a shorter grace period where one is given; again, to shorten it."""
        now = asyncio.get_running_loop().time()
        grace = min(self._grace_seconds, math.inf if grace_seconds is None else grace_seconds)
        self._stays_until = min(self._stays_until, now + grace)
        self._accepts_until = min(self._accepts_until, now + self._lame_duck_seconds, now + grace)
        if not self.should_exit:
            self._announce_close()
        self.should_exit = True
        self._on_drain()
        if self._accepts_until <= now:
            self._stop_accepting()

    def stop(self) -> None:
        self.drain()

    def interrupt(self) -> None:
        self.drain(0.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.drain()  # where uvicorn itself decided to stop, nobody did
        clock = asyncio.get_running_loop().time
        while clock() < self._accepts_until:
            await asyncio.sleep(_POLL_SECONDS)
        self._stop_accepting()
        while self.server_state.connections and clock() < self._stays_until:
            await asyncio.sleep(_POLL_SECONDS)
        await super().shutdown(sockets)

    def _announce_close(self) -> None:
        close = (b"connection", b"close")
        self.config.encoded_headers = [*self.config.encoded_headers, close]
        # the former becomes the latter once a second
        self.server_state.default_headers = [*self.server_state.default_headers, close]

    def _stop_accepting(self) -> None:
        for server in getattr(self, "servers", ()):  # absent until startup
            server.close()


def server_config(app: ASGIApp, *, direct: Direct | None = None, **more: object) -> uvicorn.Config:
    """Return uvicorn's settings that the replica and the supervisor share.

    Requests that `direct` takes do not go through the application, unless they are unusual.
    """
    fast = sys.platform != "win32"
    http = WholeAnswerProtocol if direct is None else partial(DirectProtocol, direct=direct)
    return uvicorn.Config(
        app,
        loop="uvloop" if fast else "asyncio",
        interface="asgi3",
        http=http,  # pyright: ignore[reportArgumentType]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who asked is neither logged nor decided on
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_IN_FLIGHT_SECONDS,
        **more,  # pyright: ignore[reportArgumentType]
    )
