"""Which processes on this machine are ours, and how are they started and stopped?

A process id alone says little: the system hands it out again. So a process is known by its id and
its start time, and all that descends from it by a mark in the environment, which also finds the
children of a parent that was killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from modelyard.domain.values import Value

MARK_VARIABLE = "MODELYARD_PLATFORM"
"""Environment variable with the platform's id, inherited by all that a part starts."""

_TEMPORARY_SERVER = "prefect.server.api.server:create_app"
"""What Prefect runs where no server is configured, as a word of its command line."""

_SAME_START_SECONDS = 0.5
_KILL_SECONDS = 5.0


class ProcessRecord(Value):
    """One process, so that it cannot be mistaken for a later one with the same id."""

    pid: int
    started: float
    """Start time in seconds since the epoch, as the operating system tells it."""

    def process(self) -> psutil.Process | None:
        """Return the live process, or None when it ended (or its id is another's by now)."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_SECONDS
            return process if same and is_live(process) else None
        except psutil.NoSuchProcess:
            return None


def start_process(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
) -> ProcessRecord:
    """Start a detached process whose output is appended to `log`; it outlives this one."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = psutil.Process(process.pid).create_time()
    process.returncode = 0  # left running on purpose: spares the interpreter's warning about it
    return ProcessRecord(pid=process.pid, started=started)


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that descend from it; empty when it ended."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def marked_processes(mark: str) -> list[psutil.Process]:
    """Return the processes whose environment carries the platform's mark.

    The calling process and its ancestors are never among them: a flow run may ask too.
    """
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        # another user's process may not be read, and any may end in between
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in spared and process.environ().get(MARK_VARIABLE) == mark:
                found.append(process)
    return found


def cmdline(process: psutil.Process) -> list[str]:
    """Return the words that a process was started with; none when it ended."""
    try:
        return process.cmdline()
    except (psutil.Error, OSError):
        return []


def is_orphan(process: psutil.Process) -> bool:
    """Whether the process that started this one ended before it.

    Whoever adopts an orphan leads another session. One that began a session of its own was meant
    to outlive its parent.
    """
    try:
        session = os.getsid(process.pid)
        return session != process.pid and os.getsid(process.ppid()) != session
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False


def session_of(leader: ProcessRecord, mark: str) -> list[psutil.Process]:
    """Return the marked processes of the session that `start_process` began, its leader or not."""
    found = []
    for process in marked_processes(mark):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == leader.pid:
                found.append(process)
    return found


def end_lost_servers(mark: str) -> None:
    """End the temporary Prefect servers of commands that were killed: nobody else does."""
    lost = [p for p in marked_processes(mark) if is_orphan(p) and _TEMPORARY_SERVER in cmdline(p)]
    stop_processes(lost, grace_seconds=_KILL_SECONDS)


def stop_processes(processes: Iterable[psutil.Process], *, grace_seconds: float) -> None:
    """Ask processes to end, and kill those that have not after `grace_seconds`."""
    asked = list(processes)
    for process in asked:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in _still_running(asked, grace_seconds):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _still_running(asked, _KILL_SECONDS)


def _still_running(
    processes: Sequence[psutil.Process], timeout_seconds: float
) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout_seconds
    while (alive := [p for p in processes if is_live(p)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def is_live(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that ended and waits to be reaped has."""
    with contextlib.suppress(OSError):
        os.waitpid(process.pid, os.WNOHANG)  # an ended child of this process would stay a zombie
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
