"""A process is ours by its id and start time, and its descendants by a mark."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from modelyard.adapters.platform.processes import (
    MARK_VARIABLE,
    ProcessRecord,
    end_lost_servers,
    family,
    is_orphan,
    marked_processes,
    session_of,
    start_process,
    stop_processes,
)

_SLEEP = "import time; time.sleep(60)"
_STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("ready").touch()
time.sleep(60)
"""
_CHILD = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *sys.argv[1:]])
pathlib.Path("ready").touch()
time.sleep(60)
"""
_PARENT = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
pathlib.Path("ready").touch()
time.sleep(60)
"""


@pytest.fixture
def mark() -> Iterator[str]:
    """Mark the processes of one test, and leave none of them."""
    mark = uuid.uuid4().hex
    yield mark
    stop_processes(marked_processes(mark), grace_seconds=0)


def _start(code: str, folder: Path, mark: str, *words: str) -> ProcessRecord:
    return start_process(
        [sys.executable, "-c", code, *words],
        folder=folder,
        environment={**os.environ, MARK_VARIABLE: mark},
        log=folder / "log",
    )


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true within 20 s"
        time.sleep(0.02)


def test_a_started_process_is_found_by_its_record_until_it_ends(tmp_path: Path, mark: str) -> None:
    record = _start(_SLEEP, tmp_path, mark)
    process = record.process()
    assert process is not None
    stop_processes([process], grace_seconds=5)
    assert record.process() is None


def test_a_process_with_the_same_id_and_another_start_is_not_ours() -> None:
    me = psutil.Process()
    assert ProcessRecord(pid=me.pid, started=me.create_time()).process() is not None
    assert ProcessRecord(pid=me.pid, started=me.create_time() - 60).process() is None


def test_a_process_that_ignores_the_request_is_killed_after_its_grace(
    tmp_path: Path, mark: str
) -> None:
    record = _start(_STUBBORN, tmp_path, mark)
    _wait_until((tmp_path / "ready").exists)
    process = record.process()
    assert process is not None
    started = time.monotonic()
    stop_processes([process], grace_seconds=0.5)
    assert record.process() is None
    assert 0.5 <= time.monotonic() - started < 10


def test_the_mark_finds_a_child_whose_parent_was_killed(tmp_path: Path, mark: str) -> None:
    parent = _start(_PARENT, tmp_path, mark).process()
    assert parent is not None
    _wait_until((tmp_path / "ready").exists)
    assert len(family(parent)) == 2
    stop_processes([parent], grace_seconds=5)
    assert family(parent) == []
    orphans = marked_processes(mark)
    assert len(orphans) == 1
    stop_processes(orphans, grace_seconds=5)
    assert marked_processes(mark) == []


def test_output_of_a_process_is_appended_to_its_log(tmp_path: Path, mark: str) -> None:
    (tmp_path / "log").write_text("before\n")
    record = _start("print('after')", tmp_path, mark)
    _wait_until(lambda: record.process() is None)
    assert (tmp_path / "log").read_text() == "before\nafter\n"


def test_what_a_killed_process_left_behind_is_known_as_orphan_and_by_its_session(
    tmp_path: Path, mark: str
) -> None:
    parent = _start(_CHILD, tmp_path, mark)
    _wait_until((tmp_path / "ready").exists)
    (child,) = (p for p in marked_processes(mark) if p.pid != parent.pid)
    assert not is_orphan(child)
    assert session_of(parent, uuid.uuid4().hex) == []
    os.kill(parent.pid, signal.SIGKILL)
    _wait_until(lambda: is_orphan(child))
    assert session_of(parent, mark) == [child]


def test_the_temporary_server_of_a_killed_command_is_ended_and_no_other(
    tmp_path: Path, mark: str
) -> None:
    leaders = []
    for _ in range(2):
        leaders.append(_start(_CHILD, tmp_path, mark, "prefect.server.api.server:create_app"))
        _wait_until((tmp_path / "ready").exists)
        (tmp_path / "ready").unlink()
    killed, used = leaders
    os.kill(killed.pid, signal.SIGKILL)
    _wait_until(lambda: any(is_orphan(p) for p in marked_processes(mark)))
    end_lost_servers(mark)
    assert {os.getsid(p.pid) for p in marked_processes(mark)} == {used.pid}
    assert len(marked_processes(mark)) == 2
