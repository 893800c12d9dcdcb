"""The replicas of one release on one socket: started together, kept alive, drained together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelyard.domain.values import Fleet, ReplicaState, ReplicaStatus
from modelyard.errors import RolloutError
from modelyard.serving.replica import GRACE_SECONDS, limit_options

FIRST_DELAY_SECONDS = 0.1
LAST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 30.0
"""A replica that lived this long starts its restart delays anew."""

KILL_AFTER_SECONDS = 45.0
"""Longer than a replica may take to drain: grace period and requests in flight."""

_STDERR_LINES = 15
_POLL_SECONDS = 0.02
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Paths:
    """Where every replica of a model finds what is not its release."""

    log_folder: Path
    api_keys: Path | None = None


class ReplicaProcess:
    """One replica as a child process."""

    def __init__(self, process: asyncio.subprocess.Process, ready_fd: int) -> None:
        self._process = process
        self._ready_fd = ready_fd
        self._lines: deque[str] = deque(maxlen=_STDERR_LINES)
        self._reading = asyncio.create_task(self._read_stderr())
        self.state = ReplicaState.STARTING

    @classmethod
    async def start(
        cls, fleet: Fleet, listener: socket.socket, lifeline_fd: int, paths: Paths
    ) -> ReplicaProcess:
        """Start a replica that inherits the listening socket; it is not ready yet."""
        ready_fd, its_ready_fd = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "modelyard.serving.replica"),
                *("--bundle", fleet.bundle, "--digest", fleet.digest),
                *("--log", str(paths.log_folder), "--grace", str(GRACE_SECONDS)),
                *limit_options(fleet.limits),
                *(("--api-keys", str(paths.api_keys)) if paths.api_keys else ()),
                *("--fd", str(listener.fileno())),
                *("--ready-fd", str(its_ready_fd), "--lifeline-fd", str(lifeline_fd)),
                pass_fds=(listener.fileno(), its_ready_fd, lifeline_fd),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        except BaseException:
            os.close(ready_fd)
            raise
        finally:
            os.close(its_ready_fd)
        return cls(process, ready_fd)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self, timeout_seconds: float) -> None:
        """Wait until it accepts requests. Raises RolloutError when it ends or takes too long."""
        try:
            told = await asyncio.wait_for(self._read_ready(), timeout_seconds)
        except TimeoutError:
            raise self._failure(f"was not ready within {timeout_seconds:g} s") from None
        if not told:
            code = await self.ended()
            raise self._failure(f"ended with exit code {code} before it was ready")
        self.state = ReplicaState.READY

    async def ended(self) -> int:
        """Wait for its end and return its exit code; negative for a signal."""
        code = await self._process.wait()
        self.state = ReplicaState.DEAD
        await asyncio.wait({self._reading})  # unlike awaiting it, does not cancel it when cancelled
        return code

    async def drain(self) -> None:
        """Ask it to finish and leave, and wait for that; a replica that will not is killed."""
        if self._process.returncode is None:
            self.state = ReplicaState.DRAINING
            self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self.ended()), KILL_AFTER_SECONDS)
        except TimeoutError:
            _log.error("replica did not drain: killed", extra={"pid": self.pid})
            await self.kill()

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        await self.ended()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _read_ready(self) -> bytes:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(self._ready_fd, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
            return os.read(self._ready_fd, 1)
        finally:
            loop.remove_reader(self._ready_fd)
            os.close(self._ready_fd)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # a line longer than the reader's limit; the reader dropped it
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._lines.append(text)
            _log.info("replica said", extra={"pid": self._process.pid, "line": text})

    def _failure(self, what: str) -> RolloutError:
        said = "\n".join(self._lines) or "(nothing)"
        return RolloutError(
            f"Replica {self.pid} {what}; the service was left as it was. Its last lines:\n{said}"
        )


@dataclass
class Place:
    """One replica's place; it is filled again when its process dies."""

    process: ReplicaProcess
    restarts: int = 0
    keeper: asyncio.Task[None] | None = field(default=None, repr=False)


class Generation:
    """All replicas of one fleet on one listening socket."""

    def __init__(
        self, fleet: Fleet, listener: socket.socket, paths: Paths, ready_seconds: float
    ) -> None:
        self.fleet = fleet
        self._listener = listener
        self._paths = paths
        self._ready_seconds = ready_seconds
        self._places: list[Place] = []
        # held open for as long as this generation should live: a replica that sees it closed
        # leaves, also when it was started by a task that was cancelled before it could tell
        self._lifeline_read, self._lifeline = os.pipe()

    async def start(self) -> None:
        """Start all replicas and wait until each is ready.

        Raises RolloutError when one is not; then none is left running.
        """
        self._places = [Place(await self._spawn()) for _ in range(self.fleet.replicas)]
        try:
            await asyncio.gather(*(p.process.ready(self._ready_seconds) for p in self._places))
        except BaseException:
            await self.kill()
            raise
        for place in self._places:
            place.keeper = asyncio.create_task(self._keep(place))

    async def resume(self) -> None:
        """Start all replicas without waiting; whatever does not come up is tried again."""
        self._places = [Place(await self._spawn()) for _ in range(self.fleet.replicas)]
        for place in self._places:
            place.keeper = asyncio.create_task(self._resume(place))

    async def settled(self) -> None:
        """Wait until every replica is ready. Raises RolloutError when that takes too long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._ready_seconds
        while any(status.state is not ReplicaState.READY for status in self.statuses()):
            if loop.time() > end:
                states = ", ".join(f"{s.id}: {s.state}" for s in self.statuses())
                raise RolloutError(
                    f"Release {self.fleet.version} is served, but not all of its replicas became "
                    f"ready within {self._ready_seconds:g} s ({states}). The supervisor's log "
                    "says why."
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def drain(self) -> None:
        """Let every replica finish and leave."""
        await self._stop_keeping()
        await asyncio.gather(*(p.process.drain() for p in self._places))
        self._close()

    async def kill(self) -> None:
        await self._stop_keeping()
        await asyncio.gather(*(p.process.kill() for p in self._places))
        self._close()

    def statuses(self) -> Iterator[ReplicaStatus]:
        for place in self._places:
            yield ReplicaStatus(
                id=str(place.process.pid),
                version=self.fleet.version,
                state=place.process.state,
                restarts=place.restarts,
            )

    async def _spawn(self) -> ReplicaProcess:
        return await ReplicaProcess.start(
            self.fleet, self._listener, self._lifeline_read, self._paths
        )

    async def _resume(self, place: Place) -> None:
        await self._until_ready(place)
        await self._keep(place)

    async def _keep(self, place: Place) -> None:
        """Fill the place again whenever its replica dies, later each time."""
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY_SECONDS
        while True:
            begun = loop.time()
            code = await place.process.ended()
            if loop.time() - begun > STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            extra = {"pid": place.process.pid, "code": code, "delay_seconds": delay}
            _log.warning("replica died", extra=extra)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_DELAY_SECONDS)
            place.restarts += 1
            place.process = await self._spawn()
            await self._until_ready(place)

    async def _until_ready(self, place: Place) -> None:
        """Wait for readiness; a replica that hangs is killed, so that its end is seen."""
        try:
            await place.process.ready(self._ready_seconds)
        except RolloutError as err:
            _log.error("replica not ready", extra={"pid": place.process.pid, "reason": str(err)})
            await place.process.kill()

    async def _stop_keeping(self) -> None:
        keepers = [place.keeper for place in self._places if place.keeper]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    def _close(self) -> None:
        os.close(self._lifeline)
        os.close(self._lifeline_read)
