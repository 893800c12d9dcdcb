"""How fast is a replica beside the servers that others ship, and does it say the same?

One pipeline of 14 columns (gradient boosting on numbers and one-hot categories), the same rows,
wrk with one script. All servers run, and take turns under load, among them an empty ASGI handler on
our stack, and one that takes requests directly as a replica does; every server's first answer is
compared with the pipeline's before it is timed. Then: do
compiled models agree with their pipelines on real data, is a wrong conversion caught, and do
malformed requests do no harm?
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import numpy as np
import pandas as pd

from benchmarks.claims import Claim, claim, console, main, show
from benchmarks.serving_agreement import measure_agreement
from benchmarks.serving_fuzz import measure_fuzz
from benchmarks.serving_load import (
    JSON,
    LUA,
    Load,
    Subject,
    free_port,
    run_wrk,
    running,
    write_bodies,
)
from benchmarks.serving_peers import PEERS, Job, Peer
from modelyard.adapters.learning.packaging import package_release
from modelyard.adapters.learning.pipelines import build_pipeline
from modelyard.config import Training
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.serving.frames import prepare_features
from modelyard.serving.model_file import save_model

_EMPTY = """\
import sys
from modelyard.serving.direct import Direct
from modelyard.serving.http import Answer
from modelyard.serving.server import Server, server_config
async def app(scope, receive, send):
    if scope["type"] == "http":
        await receive()
        head = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"{}"})
direct = None
if sys.argv[2:] == ["direct"]:
    takes = {b"/": lambda request, body, reply: reply(Answer(b"{}"))}
    direct = Direct(takes, (), patience_seconds=1.0)
Server(server_config(app, direct=direct, host="127.0.0.1", port=int(sys.argv[1]))).run()
"""

EMPTY, EMPTY_DIRECT = "empty ASGI handler", "empty handler, directly"
COMPILED, LOGGED, SKLEARN = "compiled", "compiled, logged", "sklearn"
OWN = "split"


def measure(quick: bool) -> list[Claim]:
    """Run all parts."""
    return [*_measure_speed(quick), *measure_agreement(quick), *measure_fuzz(quick)]


def _measure_speed(quick: bool) -> list[Claim]:
    if shutil.which("wrk") is None:
        sys.exit("There is no wrk: install it, for example with `apt-get install wrk`.")
    seconds, rounds = (2, 2) if quick else (3, 8)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        contract, rows = _prepare(folder)
        servers = [*_ours(folder), *_peers(folder, contract, ["MLflow"] if quick else PEERS)]
        with ExitStack() as stack:
            subjects = []
            for peer in servers:
                try:
                    bodies = write_bodies(folder, contract, rows, peer.form)
                    subject = stack.enter_context(running(peer, bodies))
                    _check(subject, folder, contract, rows)
                except RuntimeError as err:
                    console.print(f"{peer.name} is left out: {str(err)[-300:]}")
                else:
                    subjects.append(subject)
            loads = _take_turns(subjects, folder, seconds, rounds)
            started = {subject.name: subject.first_answer_seconds for subject in subjects}
    return _report(loads, started, 4.0 if quick else 1.0)


def _take_turns(
    subjects: Sequence[Subject], folder: Path, seconds: int, rounds: int
) -> dict[str, dict[int, Load]]:
    """Return each server's best round: what else runs here takes from all, but never gives."""
    seen: dict[str, dict[int, list[Load]]] = {}
    for subject in subjects:
        for size in (1, 100):
            run_wrk(subject, folder, size, 16, 1)  # warms it up
    for _ in range(rounds):
        for size in (1, 100):
            for subject in subjects:
                load = run_wrk(subject, folder, size, 16, seconds)
                seen.setdefault(subject.name, {}).setdefault(size, []).append(load)
    return {
        name: {size: max(loads, key=lambda load: load.rps) for size, loads in sizes.items()}
        for name, sizes in seen.items()
    }


def _ours(folder: Path) -> list[Peer]:
    """Return empty handlers on our stack, and a replica of each runtime."""
    found = []
    for name, how in ((EMPTY, []), (EMPTY_DIRECT, ["direct"])):
        port = free_port()
        command = [sys.executable, str(folder / "empty.py"), str(port), *how]
        found.append(Peer(name, command, folder, port, "/", OWN))
    replica = [sys.executable, "-m", "modelyard.serving.replica", "--bundle"]
    kinds: list[tuple[str, str, list[str]]] = [
        (COMPILED, "compiled", []),
        (LOGGED, "compiled", ["--log", str(folder / "log")]),
        (SKLEARN, "sklearn", []),
    ]
    for name, runtime, log in kinds:
        port = free_port()
        digest = (folder / f"{runtime}.digest").read_text()
        more = ["--digest", digest, "--port", str(port), *log]
        command = [*replica, str(folder / runtime), *more]
        found.append(Peer(name, command, folder, port, "/invocations", OWN))
    return found


def _peers(folder: Path, contract: Contract, names: Iterable[str]) -> Iterator[Peer]:
    for name in names:
        try:
            yield PEERS[name](Job(folder, contract.names(), free_port()))
        except subprocess.CalledProcessError as err:
            console.print(f"{name} is left out: {err.stderr.strip()[-300:]}")


def _check(subject: Subject, folder: Path, contract: Contract, rows: pd.DataFrame) -> None:
    """Raise RuntimeError for a server that does not say what the pipeline says."""
    if subject.name in (EMPTY, EMPTY_DIRECT):
        return
    answer = httpx.post(
        subject.url, content=subject.bodies[1].read_bytes(), headers=JSON, timeout=60
    ).json()
    said = answer["outputs"][0]["data"] if "outputs" in answer else answer["predictions"][0]
    pipeline = cloudpickle.loads((folder / "model.pkl").read_bytes())
    features = prepare_features(rows.head(1), contract)
    if isinstance(said, str):
        right = said == pipeline.predict(features)[0]
    else:
        right = np.allclose(np.ravel(said), pipeline.predict_proba(features)[0])
    if not right:
        raise RuntimeError(f"it says {said}")


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
    (folder / "wrk.lua").write_text(LUA)
    (folder / "empty.py").write_text(_EMPTY)
    return contract, rows


def _report(
    loads: dict[str, dict[int, Load]], started: dict[str, float], leeway: float
) -> list[Claim]:
    """Show what was measured, and return what is claimed of it.

    A short run beside other work says whether all this works, and the order of magnitude: its
    limits are `leeway` times as wide.
    """
    rows = [
        (
            name,
            sizes[1].rps,
            sizes[1].p50_ms,
            sizes[1].p99_ms,
            sizes[100].rps,
            sizes[1].cpu_ms,
            started[name],
        )
        for name, sizes in loads.items()
    ]
    head = (
        "server, 16 connections",
        "1 row: req/s",
        "p50 ms",
        "p99 ms",
        "100 rows: req/s",
        "CPU ms/req",
        "start s",
    )
    show("Throughput, one process a server, best of the rounds", head, rows)
    compiled, logged, sklearn = loads[COMPILED], loads[LOGGED], loads[SKLEARN]
    failed = sum(load.failed for load in (*compiled.values(), *logged.values(), *sklearn.values()))
    share = compiled[1].rps / loads[EMPTY][1].rps
    claims = [
        claim("1 row: share of the empty ASGI handler", share, ">=", 0.5 / leeway),
        claim("log on / off, 1 row", logged[1].rps / compiled[1].rps, ">=", 0.85 / leeway),
        claim("failed requests", failed, "<=", 0),
    ]
    mlflow = next((name for name in loads if name.startswith("MLflow")), None)
    if mlflow is None:
        return claims
    theirs = loads[mlflow]
    return [
        *claims,
        claim("1 row: times MLflow", compiled[1].rps / theirs[1].rps, ">=", 100 / leeway),
        claim("100 rows: times MLflow", compiled[100].rps / theirs[100].rps, ">=", 25 / leeway),
        claim(
            "sklearn runtime, 1 row: times MLflow",
            sklearn[1].rps / theirs[1].rps,
            ">=",
            20 / leeway,
        ),
        claim(
            "MLflow's p50 / compiled p99",
            theirs[1].p50_ms / compiled[1].p99_ms,
            ">=",
            # One request in a hundred waits for whatever else runs on these cores.
            50 / leeway**2,
        ),
        claim(
            "start to first answer / MLflow's",
            started[COMPILED] / started[mlflow],
            "<=",
            0.2 * leeway,
        ),
    ]


if __name__ == "__main__":
    main(str(__doc__), measure)
