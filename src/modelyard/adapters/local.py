"""How are models served by plain processes on this machine?"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock
from pydantic import ValidationError

from modelyard import errors
from modelyard.adapters.platform.processes import ProcessRecord, start_process, stop_processes
from modelyard.domain.values import Service, ServiceStatus
from modelyard.errors import RefusedError, RolloutError, ServiceUnavailableError
from modelyard.serving.supervisor import RECORD_FILE, SupervisorRecord

START_SECONDS = 60.0
_ASK_SECONDS = 300.0
"""A sync waits for a generation to become ready and for another to drain."""

_ORPHAN_SECONDS = 10.0
_DYING_SECONDS = 2.0
_OUTPUT_FILE = "supervisor.out"
_STATE_FILE = "service.json"


class LocalTarget:
    """A target whose replicas are processes, kept by one detached supervisor a model."""

    def __init__(
        self,
        run_folder: Path,
        log_root: Path | Callable[[str], Path],
        host: str = "127.0.0.1",
        *,
        api_keys: Path | None = None,
        open_to_all: bool = False,
        ready_seconds: float = 90.0,
    ) -> None:
        """`log_root` is the folder above, or returns, a model's inference log.

        `api_keys` is a file of the keys that callers have to show. Without one, an address that
        others reach is refused unless it is said to be `open_to_all`.
        """
        self._run_folder = run_folder.resolve()
        self._log_root = log_root
        self._host = host
        self._api_keys = api_keys
        self._open_to_all = open_to_all
        self._ready_seconds = ready_seconds

    def sync(self, service: Service) -> ServiceStatus:
        """Make a service's one fleet serve, on the same port as before.

        A new generation starts and takes over before the old one drains. Raises RefusedError for
        more than one fleet, RolloutError when the new replicas do not become ready.
        """
        if len(service.fleets) != 1 or service.fleets[0].weight != 100:
            raise RefusedError(
                f"The local target serves one release at a time with all of the traffic; "
                f"{service.model} was given {_shares(service)}. Use the docker target to split it."
            )
        if service.fleets[0].replicas < 1:
            raise RefusedError(f"{service.model}: a fleet needs at least one replica.")
        fleet = service.fleets[0]
        wanted = fleet.model_copy(update={"bundle": str(Path(fleet.bundle).resolve())})
        body = service.model_copy(update={"fleets": (wanted,)}).model_dump(mode="json")
        try:
            return ServiceStatus.model_validate(self._request(service.model, "PUT", body))
        except RolloutError:
            if self._desired(service.model) is None:
                self.stop(service.model)  # nothing served before either: leave no process
            raise

    def set_weights(self, model: str, weights: Mapping[str, int]) -> None:
        """Accept what is true already. Raises RefusedError for anything else."""
        now = self.get_weights(model)
        if {version: share for version, share in weights.items() if share} != now:
            raise RefusedError(
                f"The local target cannot split traffic: {model} serves {now or 'nothing'}, asked "
                f"was {dict(weights)}. Sync another release, or use the docker target."
            )

    def get_weights(self, model: str) -> dict[str, int]:
        """Return {version: 100}, or nothing where the model has no service."""
        status = self.status(model)
        return status.weights if status else {}

    def traffic(self, model: str) -> None:
        """Return None: the kernel hands out connections, and nobody counts their requests."""

    def status(self, model: str) -> ServiceStatus | None:
        """Return what is true now; a service that was stopped has no replicas.

        A supervisor that ended without being asked is started again first.
        """
        service = self._desired(model)
        if service is None:
            return None
        if (self._folder(model) / RECORD_FILE).is_file():
            answer = self._request(model, "GET")
            return ServiceStatus.model_validate(answer) if answer else None
        return ServiceStatus(
            model=model,
            target="local",
            url=f"http://{self._host}:{service.port}",
            replicas=(),
            weights={fleet.version: fleet.weight for fleet in service.fleets},
        )

    def models(self) -> tuple[str, ...]:
        """Return the models that have a service, running or stopped, sorted."""
        files = (_STATE_FILE, RECORD_FILE)
        return tuple(
            sorted({p.parent.name for file in files for p in self._run_folder.glob(f"*/{file}")})
        )

    def resume(self, model: str) -> ServiceStatus | None:
        """Start again what `stop` stopped; None where the model has no service."""
        if self._desired(model) is not None:
            self._running(model)
        return self.status(model)

    def stop(self, model: str) -> None:
        """End a service's processes and keep what it was, for `resume`; idempotent."""
        with self._lock(model):
            self._end(model, "POST", "/stop")

    def remove(self, model: str) -> None:
        """End a service's processes and forget it; idempotent."""
        if not self._folder(model).is_dir():
            return
        with self._lock(model):
            self._end(model, "DELETE", "/service")
            shutil.rmtree(self._folder(model), ignore_errors=True)

    def _end(self, model: str, method: str, path: str) -> None:
        record = self._record(model)
        if record is None:
            return
        process = _process(record)
        if process is not None:
            with contextlib.suppress(ServiceUnavailableError, RolloutError):
                _ask(record, method, path)
            _wait_or_stop([process])
        _wait_or_stop(_orphans(record, self._log_folder(model)))
        # a supervisor that had to be killed could not clean up
        shutil.rmtree(Path(record.socket).parent, ignore_errors=True)
        (self._folder(model) / RECORD_FILE).unlink(missing_ok=True)

    def _request(self, model: str, method: str, body: Any = None) -> Any:
        """Ask for a model's service; a supervisor that dies meanwhile is replaced once."""
        record = self._running(model)
        try:
            return _ask(record, method, "/service", body)
        except ServiceUnavailableError:
            process = _process(record)
            if process is not None and psutil.wait_procs([process], _DYING_SECONDS)[1]:
                raise
            return _ask(self._running(model), method, "/service", body)

    def _running(self, model: str) -> SupervisorRecord:
        """Return the model's supervisor, started first where none runs."""
        self._folder(model).mkdir(parents=True, exist_ok=True)
        with self._lock(model):
            record = self._record(model)
            if record is not None and _process(record) is not None:
                return record
            return self._start(model)

    def _start(self, model: str) -> SupervisorRecord:
        folder = self._folder(model)
        output = folder / _OUTPUT_FILE
        started = start_process(
            [
                *(sys.executable, "-m", "modelyard.serving.supervisor"),
                *("--state", str(folder / _STATE_FILE), "--host", self._host),
                *("--log", str(self._log_folder(model))),
                *(("--api-keys", str(self._api_keys)) if self._api_keys else ()),
                *(("--open",) if self._open_to_all else ()),
                *("--ready-timeout", str(self._ready_seconds)),
            ],
            folder=Path.cwd(),
            environment=os.environ,
            log=output,
        )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            record = self._record(model)
            if record is not None and _process(record) is not None:
                return record  # it is written once the supervisor listens
            if started.process() is None:
                break
            time.sleep(0.02)
        said = output.read_text(errors="replace")[-2000:].strip() if output.is_file() else ""
        raise ServiceUnavailableError(
            f"The supervisor of {model} did not start within {START_SECONDS:g} s. It said: "
            f"{said or '(nothing)'} See {folder / 'supervisor.log'}."
        )

    def _record(self, model: str) -> SupervisorRecord | None:
        try:
            content = (self._folder(model) / RECORD_FILE).read_bytes()
            return SupervisorRecord.model_validate_json(content)
        except (OSError, ValidationError):
            return None

    def _desired(self, model: str) -> Service | None:
        try:
            return Service.model_validate_json((self._folder(model) / _STATE_FILE).read_bytes())
        except FileNotFoundError:
            return None

    def _folder(self, model: str) -> Path:
        return self._run_folder / model

    def _log_folder(self, model: str) -> Path:
        folder = self._log_root(model) if callable(self._log_root) else self._log_root / model
        return folder.resolve()

    def _lock(self, model: str) -> FileLock:
        self._run_folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._run_folder / f"{model}.lock")


def _ask(record: SupervisorRecord, method: str, path: str, body: Any = None) -> Any:
    """Ask a supervisor and return its JSON answer; None for "there is none".

    Raises the error that the supervisor names, or ServiceUnavailableError if it does not answer.
    """
    connection = _ControlConnection(record.socket)
    content = None if body is None else json.dumps(body)
    try:
        with contextlib.closing(connection):
            connection.request(method, path, content)
            response = connection.getresponse()
            status, text = response.status, response.read().decode()
    except (OSError, HTTPException) as err:
        raise ServiceUnavailableError(
            f"The supervisor (process {record.pid}) did not answer {method} {path}: {err!r}. "
            "Try again: it is started anew when it is gone."
        ) from err
    if status == 404:
        return None
    if status == 200:
        return json.loads(text)
    if status != 409:
        raise ServiceUnavailableError(
            f"The supervisor answered {method} {path} with {status}: {text}"
        )
    said = json.loads(text)
    raise getattr(errors, said["error"], RolloutError)(said["message"])


class _ControlConnection(HTTPConnection):
    """HTTP over a Unix-domain socket that is closed also when nobody listens."""

    def __init__(self, path: str) -> None:
        super().__init__("supervisor", timeout=_ASK_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _process(record: SupervisorRecord) -> psutil.Process | None:
    return ProcessRecord(pid=record.pid, started=record.started).process()


def _orphans(record: SupervisorRecord, log_folder: Path) -> list[psutil.Process]:
    """Return the replicas that are left of a supervisor, which led their session.

    The record may be so old that the session's number is another's: hence the second look.
    """
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == record.pid:
                process = psutil.Process(pid)
                if {"modelyard.serving.replica", str(log_folder)} <= set(process.cmdline()):
                    found.append(process)
    return found


def _wait_or_stop(processes: list[psutil.Process]) -> None:
    """Wait until processes that are leaving are gone; end those that do not leave."""
    end = time.monotonic() + _ORPHAN_SECONDS
    while time.monotonic() < end and any(_alive(process) for process in processes):
        time.sleep(0.02)
    stop_processes([p for p in processes if _alive(p)], grace_seconds=1.0)


def _alive(process: psutil.Process) -> bool:
    try:
        return ProcessRecord(pid=process.pid, started=process.create_time()).process() is not None
    except psutil.NoSuchProcess:
        return False


def _shares(service: Service) -> str:
    return ", ".join(f"{fleet.version}: {fleet.weight} %" for fleet in service.fleets) or "none"
