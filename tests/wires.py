"""A connection to a server in the test's own process, and what was written to it."""

from __future__ import annotations

import asyncio


class Wire(asyncio.Transport):
    """What was written to a connection, each write by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """What is fed by hand is never too early."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""
