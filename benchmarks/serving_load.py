"""How is a server started, loaded with wrk and ended?"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil

from benchmarks.serving_peers import Peer
from modelyard.domain.values import ColumnKind, Contract

START_SECONDS = 180.0

LUA = """\
local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
"""


@dataclass(frozen=True)
class Load:
    """What wrk saw of one server."""

    rps: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_ms: float
    """Processor time of the server for a request."""


@dataclass(frozen=True)
class Subject:
    """A server under load."""

    name: str
    process: psutil.Process
    url: str
    bodies: dict[int, Path]
    first_answer_seconds: float


JSON = {"Content-Type": "application/json"}


def write_bodies(
    folder: Path, contract: Contract, rows: pd.DataFrame, form: str
) -> dict[int, Path]:
    """Write one request of 1 and one of 100 rows, and return where."""
    found = {}
    for size in (1, 100):
        part = rows[list(contract.names())].head(size)
        body: dict[str, Any] = {
            "dataframe_split": {"columns": list(part.columns), "data": part.values.tolist()}
        }
        if form == "v2":
            kinds = {c.name: c.kind is ColumnKind.NUMERIC for c in contract.columns}
            tensors = [
                {
                    "name": name,
                    "shape": [size],
                    "datatype": "FP64" if kinds[str(name)] else "BYTES",
                    "data": part[name].tolist(),
                }
                for name in part.columns
            ]
            body = {"inputs": tensors}
        found[size] = folder / f"{form}-{size}.json"
        found[size].write_text(json.dumps(body))
    return found


@contextmanager
def running(peer: Peer, bodies: dict[int, Path]) -> Iterator[Subject]:
    """Start a server, yield it once it answers, and end it with all its children."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(peer.command[0]).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "" if peer.command[0] != sys.executable else str(Path.cwd()),
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
    }
    begun = time.perf_counter()
    with (peer.folder / f"{peer.port}.log").open("w") as output:
        process = subprocess.Popen(
            peer.command,
            cwd=peer.folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{peer.port}{peer.path}"
        _await_answer(process, url, bodies[1].read_bytes(), peer)
        seconds = time.perf_counter() - begun
        yield Subject(peer.name, psutil.Process(process.pid), url, bodies, seconds)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=8)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        process.wait()


def _await_answer(process: subprocess.Popen[bytes], url: str, body: bytes, peer: Peer) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            if httpx.post(url, content=body, headers=JSON, timeout=30).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    said = (peer.folder / f"{peer.port}.log").read_text()[-500:]
    raise RuntimeError(f"{peer.name} did not answer within {START_SECONDS:g} s: {said}")


def run_wrk(subject: Subject, folder: Path, size: int, connections: int, seconds: int) -> Load:
    """Load a server for some seconds; `LUA` is there as wrk.lua in the folder."""
    before = cpu_seconds(subject.process)
    done = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "--timeout",
            "30s",
            "-s",
            str(folder / "wrk.lua"),
            subject.url,
        ],
        env=os.environ | {"BODY": str(subject.bodies[size])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    spent = cpu_seconds(subject.process) - before
    count, failed = counted(done)
    return Load(
        rps=float(_found(r"Requests/sec:\s+([\d.]+)", done)),
        p50_ms=_milliseconds(_found(r"(?m)^\s+50%\s+(\S+)", done)),
        p99_ms=_milliseconds(_found(r"(?m)^\s+99%\s+(\S+)", done)),
        failed=failed,
        cpu_ms=1000 * spent / max(count, 1),
    )


def counted(said: str) -> tuple[int, int]:
    """Return how many requests wrk says were answered, and how many failed."""
    refused = re.findall(r"Non-2xx or 3xx responses: (\d+)", said)
    broken = re.findall(r"(?:connect|read|write|timeout) (\d+)", said)
    return int(_found(r"(\d+) requests in", said)), sum(map(int, refused + broken))


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said something else: {text}")
    return match[1]


def _milliseconds(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise RuntimeError(f"wrk said {text}")


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process and its children so far."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        times = each.cpu_times()
        total += times.user + times.system
    return total


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
