"""How does an answer leave a replica whole, or not at all?"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class WholeAnswerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with the head and the body of an answer in one write.

    uvicorn writes them apart, and a gateway that has seen a head cannot ask another replica any
    more: the replica that is killed in between loses a request. One write is one packet less, too.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = _HeadWaits(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self._wire))

    def write_now(self, data: bytes) -> None:
        """Write what is whole already, after what was written before."""
        self._wire.write_now(data)


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
