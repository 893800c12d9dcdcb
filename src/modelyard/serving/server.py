"""How does an HTTP server on this machine start, and stop without dropping anybody?"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

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
        """Begin to stop; `serve` returns when that is done."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        yield


class DrainingServer(Server):
    """A server that lets its clients leave before it goes.

    Asked to stop, it accepts no new connections (after `lame_duck_seconds`, where it alone has the
    listening socket), answers what is in flight, and keeps idle keep-alive connections open for
    `grace_seconds`: a request that comes on one of them is answered with `Connection: close`, so
    that its client opens the next one elsewhere. uvicorn alone would close idle connections at
    once, and reset a client that is just sending on one.
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

    def drain(self, grace_seconds: float | None = None) -> None:
        """Begin to stop, with another grace period where one is given."""
        if grace_seconds is not None:
            self._grace_seconds = min(grace_seconds, self._grace_seconds)
        if not self.should_exit:
            self._announce_close()
        self.should_exit = True
        self._on_drain()
        if not self._lame_duck_seconds:
            self._stop_accepting()

    def stop(self) -> None:
        self.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._grace_seconds
        await asyncio.sleep(min(self._lame_duck_seconds, self._grace_seconds))
        self._stop_accepting()
        while self.server_state.connections and loop.time() < end:
            await asyncio.sleep(_POLL_SECONDS)
            end = min(end, loop.time() + self._grace_seconds)  # a later drain may shorten it
        await super().shutdown(sockets)

    def _announce_close(self) -> None:
        close = (b"connection", b"close")
        self.config.encoded_headers = [*self.config.encoded_headers, close]
        # the former becomes the latter once a second
        self.server_state.default_headers = [*self.server_state.default_headers, close]

    def _stop_accepting(self) -> None:
        for server in getattr(self, "servers", ()):  # absent until startup
            server.close()


def server_config(app: ASGIApp, **more: object) -> uvicorn.Config:
    """Return uvicorn's settings that the replica and the supervisor share."""
    fast = sys.platform != "win32"
    return uvicorn.Config(
        app,
        loop="uvloop" if fast else "asyncio",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_IN_FLIGHT_SECONDS,
        **more,  # pyright: ignore[reportArgumentType]
    )
