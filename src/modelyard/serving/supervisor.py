"""Who keeps one model's replicas running on one address?

A supervisor owns the listening socket of one model; its replicas inherit it and the kernel spreads
connections over them. A new generation takes over only when all of it is ready, and what should
run is kept in a file, so that a supervisor that was killed goes on where it was, on the same port.

It is asked over HTTP on a Unix-domain socket: PUT /service, GET /service, POST /stop (the service
can be resumed), DELETE /service (it is forgotten).
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import fcntl
import json
import logging
import logging.handlers
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelyard.domain.values import Fleet, Service, ServiceStatus, Value
from modelyard.errors import ModelYardError, RolloutError
from modelyard.serving.api_keys import require_keys_beyond_loopback
from modelyard.serving.generation import Generation, Paths
from modelyard.serving.server import Server, server_config

READY_SECONDS = 90.0
BIND_SECONDS = 10.0
"""Replicas of a killed supervisor hold the address until they saw that it is gone."""

RECORD_FILE = "supervisor.json"
LOG_FILE = "supervisor.log"

_log = logging.getLogger("modelyard.serving.supervisor")


class SupervisorRecord(Value):
    """Where a supervisor can be reached, and which process it is."""

    pid: int
    started: float
    """Start time in seconds since the epoch, as the operating system tells it."""
    socket: str


class Supervisor:
    """Makes true what is asked for one model, and keeps it true."""

    def __init__(
        self, state_file: Path, host: str, paths: Paths, ready_seconds: float = READY_SECONDS
    ) -> None:
        self._state_file = state_file
        self._host = host
        self._paths = paths
        self._ready_seconds = ready_seconds
        self._lock = asyncio.Lock()
        self._service: Service | None = None
        self._listener: socket.socket | None = None
        self._current: Generation | None = None
        self._leaving: list[Generation] = []

    async def resume(self) -> None:
        """Start what the state file says should run. Raises RolloutError if it cannot listen."""
        if not self._state_file.is_file():
            return
        service = Service.model_validate_json(self._state_file.read_bytes())
        assert service.port is not None
        self._listener = await self._listen(service.port, patience_seconds=BIND_SECONDS)
        self._service = service
        self._current = self._generation(service.fleets[0], self._listener)
        await self._current.resume()
        _log.info("resumed", extra={"version": service.fleets[0].version, "port": service.port})

    async def sync(self, service: Service) -> ServiceStatus:
        """Put a service's one fleet in the place of the one that runs, without a gap.

        Raises RolloutError, and leaves what ran before, when the new fleet does not come up.
        """
        async with self._lock:
            port = service.port or (self._service.port if self._service else None)
            wanted = service.model_copy(update={"port": port})
            if wanted == self._service and self._current is not None:
                await self._current.settled()
                return self.status(wanted)
            old, old_listener = self._current, self._listener
            moves = old_listener is None or port != self._listener_port()
            listener = await self._listen(port or 0) if moves else self._listener
            assert listener is not None
            new = self._generation(wanted.fleets[0], listener)
            try:
                await new.start()
            except BaseException as err:
                _log.error("generation failed", extra={"reason": str(err)})
                if moves:
                    listener.close()
                raise
            done = wanted.model_copy(update={"port": listener.getsockname()[1]})
            _write_atomically(self._state_file, done.model_dump_json(indent=1))
            self._service, self._listener, self._current = done, listener, new
            _log.info("serving", extra={"version": new.fleet.version, "port": done.port})
            if moves and old_listener is not None:
                old_listener.close()
            if old is not None:
                await self._drain(old)
            return self.status(done)

    async def stop(self, *, forget: bool) -> None:
        """Drain everything; with `forget`, nothing is resumed later."""
        async with self._lock:
            if forget:
                self._state_file.unlink(missing_ok=True)
            if self._listener is not None:
                self._listener.close()
            if self._current is not None:
                await self._drain(self._current)
            self._service = self._listener = self._current = None

    @property
    def service(self) -> Service | None:
        return self._service

    def status(self, service: Service) -> ServiceStatus:
        generations = [g for g in (self._current, *self._leaving) if g is not None]
        return ServiceStatus(
            model=service.model,
            target="local",
            url=f"http://{self._host}:{service.port}",
            replicas=tuple(status for g in generations for status in g.statuses()),
            weights={fleet.version: fleet.weight for fleet in service.fleets},
        )

    async def _drain(self, generation: Generation) -> None:
        self._leaving.append(generation)
        try:
            await generation.drain()
        finally:
            self._leaving.remove(generation)

    def _generation(self, fleet: Fleet, listener: socket.socket) -> Generation:
        return Generation(fleet, listener, self._paths, self._ready_seconds)

    def _listener_port(self) -> int | None:
        return self._listener.getsockname()[1] if self._listener else None

    async def _listen(self, port: int, patience_seconds: float = 0.0) -> socket.socket:
        """Return a listening socket, or raise RolloutError when the port stays taken."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_seconds
        while True:
            try:
                return socket.create_server((self._host, port), backlog=2048)
            except OSError as err:
                if err.errno != errno.EADDRINUSE or loop.time() > end:
                    raise RolloutError(
                        f"Cannot listen on {self._host}:{port}: {err.strerror}. Free the port, or "
                        "give the service another one."
                    ) from err
            await asyncio.sleep(0.05)


def control_app(supervisor: Supervisor) -> Starlette:
    """Return the ASGI application that a supervisor is asked through.

    Its `state.server` is what an end stops.
    """

    async def put(request: Request) -> Response:
        try:
            service = Service.model_validate_json(await request.body())
            return _answer(await supervisor.sync(service))
        except (ModelYardError, ValidationError) as err:
            return JSONResponse({"error": type(err).__name__, "message": str(err)}, 409)

    async def get(request: Request) -> Response:
        service = supervisor.service
        return _answer(supervisor.status(service)) if service else JSONResponse(None, 404)

    async def end(request: Request) -> Response:
        await supervisor.stop(forget=request.method == "DELETE")
        request.app.state.server.stop()
        return JSONResponse({"stopped": True})

    return Starlette(
        routes=[
            Route("/service", put, methods=["PUT"]),
            Route("/service", get, methods=["GET"]),
            Route("/service", end, methods=["DELETE"]),
            Route("/stop", end, methods=["POST"]),
        ]
    )


def _answer(status: ServiceStatus) -> Response:
    return Response(status.model_dump_json(), media_type="application/json")


async def supervise(supervisor: Supervisor, record_file: Path) -> None:
    """Resume, serve the control socket, and drain the replicas at the end."""
    # Unix-domain addresses end at about 100 characters: not in the project's folder
    folder = Path(tempfile.mkdtemp(prefix="modelyard-"))
    try:
        await supervisor.resume()
        app = control_app(supervisor)
        record = SupervisorRecord(
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            socket=str(folder / "control"),
        )
        app.state.server = Server(
            server_config(app, uds=record.socket),
            on_ready=lambda: _write_atomically(record_file, record.model_dump_json()),
        )
        await app.state.server.serve()
        await supervisor.stop(forget=False)
        record_file.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="modelyard.serving.supervisor", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="file of what should run")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--log", type=Path, required=True, help="folder of the inference log")
    parser.add_argument("--api-keys", type=Path, help="file of API keys, one a line")
    parser.add_argument("--open", action="store_true", help="beyond loopback without API keys")
    parser.add_argument("--ready-timeout", type=float, default=READY_SECONDS, help="in seconds")
    options = parser.parse_args(arguments)
    try:
        require_keys_beyond_loopback(
            options.host, has_keys=options.api_keys is not None, open_to_all=options.open
        )
    except ModelYardError as err:
        print(err, file=sys.stderr)
        return err.exit_code
    folder = options.state.parent
    _log_to(folder / LOG_FILE)
    with (folder / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"A supervisor for {options.state} runs already.", file=sys.stderr)
            return 1
        _forget_dead(folder / RECORD_FILE)
        paths = Paths(options.log, options.api_keys)
        supervisor = Supervisor(options.state, options.host, paths, options.ready_timeout)
        try:
            asyncio.run(supervise(supervisor, folder / RECORD_FILE))
        except ModelYardError as err:
            _log.error("stopped", extra={"reason": str(err)})
            print(err, file=sys.stderr)
            return 1
    return 0


def _forget_dead(record_file: Path) -> None:
    """Remove what a supervisor that was killed left behind; the lock says that it is gone."""
    try:
        record = SupervisorRecord.model_validate_json(record_file.read_bytes())
    except (OSError, ValidationError):
        return
    shutil.rmtree(Path(record.socket).parent, ignore_errors=True)
    record_file.unlink(missing_ok=True)


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class _JsonLines(logging.Formatter):
    """One JSON object a line, with what was given as `extra`."""

    _usual = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in self._usual},
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=4 * 2**20, backupCount=2)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
