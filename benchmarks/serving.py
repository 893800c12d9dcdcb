"""How fast is a replica beside the servers that others ship, and does it say the same?

One pipeline of 14 columns (gradient boosting on numbers and one-hot categories), the same rows,
wrk with one script, one server at a time. Every server's first answer is compared with the
pipeline's before it is timed; ours take turns with an empty handler on the same stack. Then: do
compiled models agree with their pipelines on real data, is a wrong conversion caught, and do
malformed requests do no harm?
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import numpy as np
import pandas as pd
import psutil

from benchmarks.claims import Claim, claim, console, main, show
from benchmarks.serving_agreement import measure_agreement
from benchmarks.serving_fuzz import measure_fuzz
from benchmarks.serving_peers import PEERS, Job, Peer
from modelyard.adapters.learning.packaging import package_release
from modelyard.adapters.learning.pipelines import build_pipeline
from modelyard.config import Training
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.serving.frames import prepare_features
from modelyard.serving.model_file import save_model

_LUA = """\
local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
"""

_EMPTY = """\
import sys
from modelyard.serving.server import Server, server_config
async def app(scope, receive, send):
    if scope["type"] == "http":
        await receive()
        head = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"{}"})
Server(server_config(app, host="127.0.0.1", port=int(sys.argv[1]))).run()
"""

START_SECONDS = 180.0


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


def measure(quick: bool) -> list[Claim]:
    """Run all parts."""
    return [*_measure_speed(quick), *measure_agreement(quick), *measure_fuzz(quick)]


def _measure_speed(quick: bool) -> list[Claim]:
    if shutil.which("wrk") is None:
        sys.exit("There is no wrk: install it, for example with `apt-get install wrk`.")
    seconds, rounds = (2, 2) if quick else (6, 5)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        contract, rows = _prepare(folder)
        ours = _measure_ours(folder, contract, rows, seconds, rounds)
        wanted = ["MLflow"] if quick else list(PEERS)
        peers = {}
        for name in wanted:
            try:
                peers[name] = _measure_peer(name, folder, contract, rows, seconds)
            except (subprocess.CalledProcessError, RuntimeError) as err:
                said = getattr(err, "stderr", "") or str(err)
                console.print(f"{name} is left out: {said.strip()[-300:]}")
    return _report(ours, peers)


def _prepare(folder: Path) -> tuple[Contract, pd.DataFrame]:
    """Fit the pipeline and store it in every form."""
    rng = np.random.default_rng(0)
    numeric, categorical = [f"n{i}" for i in range(11)], ["c0", "c1", "c2"]
    rows = pd.DataFrame(rng.normal(size=(8_000, 11)), columns=pd.Index(numeric))
    for name in categorical:
        rows[name] = rng.choice([f"level {i}" for i in range(12)], len(rows))
    score = rows["n0"] + rows["n1"] * rows["n2"] + 2 * (rows["c0"] == "level 1")
    labels = np.where(score + rng.normal(size=len(rows)) > 0, "yes", "no").astype(object)
    contract = Contract(
        task=MLTask.BINARY,
        columns=(
            *(Column(name=name, kind=ColumnKind.NUMERIC) for name in numeric),
            *(Column(name=name, kind=ColumnKind.CATEGORICAL) for name in categorical),
        ),
        target="y",
        classes=("no", "yes"),
        positive="yes",
    )
    training = Training(estimator="sklearn.ensemble.HistGradientBoostingClassifier")
    features = prepare_features(rows, contract)
    pipeline: Any = build_pipeline(training, contract)
    pipeline.fit(features, labels)
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(pipeline))
    import mlflow

    mlflow.sklearn.save_model(
        pipeline,
        folder / "mlflow",
        serialization_format="cloudpickle",
        pyfunc_predict_fn="predict_proba",
        signature=mlflow.models.infer_signature(features.head(5)),
        pip_requirements=["scikit-learn"],
    )
    stored = save_model(pipeline, folder / "stored")
    for runtime in ("compiled", "sklearn"):
        packaged = package_release(
            folder / runtime,
            model="bench",
            version="1.0.0",
            contract=contract,
            model_file=stored,
            model_folder=folder / "stored",
            holdout=rows,
            requirements=str,
            provenance={},
            wanted=runtime,
        )
        (folder / f"{runtime}.digest").write_text(packaged.digest)
    (folder / "wrk.lua").write_text(_LUA)
    (folder / "empty.py").write_text(_EMPTY)
    return contract, rows


def _measure_ours(
    folder: Path, contract: Contract, rows: pd.DataFrame, seconds: int, rounds: int
) -> dict[str, dict[int, Load]]:
    """Return the loads of our servers, the median of rounds in which they take turns."""
    replica = [sys.executable, "-m", "modelyard.serving.replica", "--bundle"]
    ours: dict[str, list[str]] = {"empty handler": [sys.executable, str(folder / "empty.py")]}
    for name, runtime, log in (
        ("compiled", "compiled", False),
        ("compiled, logged", "compiled", True),
        ("sklearn", "sklearn", False),
    ):
        digest = (folder / f"{runtime}.digest").read_text()
        ours[name] = [*replica, str(folder / runtime), "--digest", digest]
        ours[name] += ["--log", str(folder / "log")] if log else []
        ours[name] += ["--port"]
    bodies = _bodies(folder, contract, rows, "split")
    expected = cloudpickle.loads((folder / "model.pkl").read_bytes()).predict(
        prepare_features(rows.head(1), contract)
    )
    seen: dict[str, dict[int, list[Load]]] = {}
    started: dict[str, float] = {}
    for name, command in ours.items():
        port = _free_port()
        peer = Peer(name, [*command, str(port)], folder, "/invocations", "split")
        with _running(peer, port, bodies) as subject:
            started[name] = subject.first_answer_seconds
            if name != "empty handler":
                answer = httpx.post(subject.url, content=bodies[1].read_bytes(), headers=_JSON)
                assert answer.json()["predictions"] == list(expected), answer.text
            # a first look warms it up; turns follow below
            _wrk(subject, folder, 1, 16, 1)
    for _ in range(rounds):
        for name, command in ours.items():
            port = _free_port()
            peer = Peer(name, [*command, str(port)], folder, "/invocations", "split")
            with _running(peer, port, bodies) as subject:
                for size in (1,) if name == "empty handler" else (1, 100):
                    _wrk(subject, folder, size, 16, 1)
                    load = _wrk(subject, folder, size, 16, seconds)
                    seen.setdefault(name, {}).setdefault(size, []).append(load)
    show(
        "From start to first answer",
        ("server", "seconds"),
        list(started.items()),
    )
    return {n: {s: _median(loads) for s, loads in sizes.items()} for n, sizes in seen.items()} | {
        "start": {1: Load(0, 0, 0, 0, started["compiled"])}
    }


def _measure_peer(
    name: str, folder: Path, contract: Contract, rows: pd.DataFrame, seconds: int
) -> tuple[dict[int, Load], float]:
    port = _free_port()
    peer = PEERS[name](Job(folder, contract.names(), port))
    bodies = _bodies(folder, contract, rows, peer.form)
    pipeline = cloudpickle.loads((folder / "model.pkl").read_bytes())
    expected = pipeline.predict_proba(prepare_features(rows.head(1), contract))[0]
    with _running(peer, port, bodies) as subject:
        answer = httpx.post(
            subject.url, content=bodies[1].read_bytes(), headers=_JSON, timeout=60
        ).json()
        said = answer["outputs"][0]["data"] if peer.form == "v2" else answer["predictions"][0]
        if not np.allclose(np.ravel(said), expected):
            raise RuntimeError(f"it says {said}, and the pipeline {expected}")
        loads = {}
        for size in (1, 100):
            _wrk(subject, folder, size, 16, 2)
            loads[size] = _wrk(subject, folder, size, 16, seconds)
        return loads, subject.first_answer_seconds


def _report(
    ours: dict[str, dict[int, Load]], peers: dict[str, tuple[dict[int, Load], float]]
) -> list[Claim]:
    start = ours.pop("start")[1].cpu_ms
    rows = [
        (
            name,
            load.rps,
            load.p50_ms,
            load.p99_ms,
            sizes[100].rps if 100 in sizes else "-",
            load.cpu_ms,
            load.failed,
        )
        for name, sizes in [*ours.items(), *((n, loads) for n, (loads, _) in peers.items())]
        for load in (sizes[1],)
    ]
    head = (
        "server, 16 connections",
        "1 row: req/s",
        "p50 ms",
        "p99 ms",
        "100 rows: req/s",
        "CPU ms/req",
        "failed",
    )
    show("Throughput, one process a server", head, rows)
    compiled, empty = ours["compiled"], ours["empty handler"]
    claims = [
        claim("1 row: share of the empty handler", compiled[1].rps / empty[1].rps, ">=", 0.5),
        claim("log on / off, 1 row", ours["compiled, logged"][1].rps / compiled[1].rps, ">=", 0.85),
        claim(
            "failed requests",
            sum(s.failed for sizes in ours.values() for s in sizes.values()),
            "<=",
            0,
        ),
    ]
    if "MLflow" in peers:
        mlflow, mlflow_start = peers["MLflow"]
        claims += [
            claim("1 row: times MLflow", compiled[1].rps / mlflow[1].rps, ">=", 100),
            claim("100 rows: times MLflow", compiled[100].rps / mlflow[100].rps, ">=", 25),
            claim(
                "1 row, sklearn runtime: times MLflow",
                ours["sklearn"][1].rps / mlflow[1].rps,
                ">=",
                20,
            ),
            claim("MLflow's p50 / compiled p99", mlflow[1].p50_ms / compiled[1].p99_ms, ">=", 50),
            claim("start to first answer / MLflow's", start / mlflow_start, "<=", 0.2),
        ]
    return claims


_JSON = {"Content-Type": "application/json"}


def _bodies(folder: Path, contract: Contract, rows: pd.DataFrame, form: str) -> dict[int, Path]:
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
def _running(peer: Peer, port: int, bodies: dict[int, Path]) -> Iterator[Subject]:
    """Start a server, yield it once it answers, and end it with all its children."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(peer.command[0]).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "" if peer.command[0] != sys.executable else str(Path.cwd()),
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
    }
    begun = time.perf_counter()
    with (peer.folder / "output.log").open("w") as output:
        process = subprocess.Popen(
            peer.command,
            cwd=peer.folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}{peer.path}"
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
            if httpx.post(url, content=body, headers=_JSON, timeout=30).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    said = (peer.folder / "output.log").read_text()[-500:]
    raise RuntimeError(f"{peer.name} did not answer within {START_SECONDS:g} s: {said}")


def _wrk(subject: Subject, folder: Path, size: int, connections: int, seconds: int) -> Load:
    before = _cpu_seconds(subject.process)
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
    spent = _cpu_seconds(subject.process) - before
    count = int(_found(r"(\d+) requests in", done))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done)
    return Load(
        rps=float(_found(r"Requests/sec:\s+([\d.]+)", done)),
        p50_ms=_milliseconds(_found(r"(?m)^\s+50%\s+(\S+)", done)),
        p99_ms=_milliseconds(_found(r"(?m)^\s+99%\s+(\S+)", done)),
        failed=int(failed[1]) if failed else 0,
        cpu_ms=1000 * spent / max(count, 1),
    )


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


def _cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        times = each.cpu_times()
        total += times.user + times.system
    return total


def _median(loads: Sequence[Load]) -> Load:
    return Load(
        rps=statistics.median(load.rps for load in loads),
        p50_ms=statistics.median(load.p50_ms for load in loads),
        p99_ms=statistics.median(load.p99_ms for load in loads),
        failed=sum(load.failed for load in loads),
        cpu_ms=statistics.median(load.cpu_ms for load in loads),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


if __name__ == "__main__":
    main(str(__doc__), measure)
