"""What does a replica make of malformed requests: refused, without harm and without a leak?"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil

from benchmarks.claims import Claim, claim, console, main, show
from benchmarks.replicas import serve
from benchmarks.serving_description import examine
from modelyard.adapters.learning.packaging import package_release
from modelyard.adapters.learning.pipelines import build_pipeline
from modelyard.config import Training
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.serving.frames import prepare_features
from modelyard.serving.model_file import save_model

BODIES = 5_000
SEED = 20_240_501
MARK = "mark-of-another-row"
"""A category that only good requests carry: no answer to another request may show it."""

_CELLS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    -1e308,
    10**18,
    10**30,
    "",
    " ",
    "1.5",
    "NaN",
    "inf",
    "text",
    "\u2603",
    "\x00",
    "a" * 10_000,
    [],
    {},
    [1],
    {"a": 1},
    [[[]]],
)
_PATHS = (
    "/invocations",
    "/invocations?probabilities=true",
    "/invocations?probabilities=x",
    "/v2/models/fuzz/infer",
)
_TYPES = ("application/json",) * 8 + ("text/csv", "application/json; charset=utf-8", "", "text/xml")


def measure_fuzz(quick: bool) -> list[Claim]:
    """Send malformed bodies among good requests, and look at statuses, answers and memory."""
    count, seconds, examples = (1_000, 5.0, 20) if quick else (BODIES, 600.0, 1_500)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        digest = _package(folder)
        with serve(folder / "bundle", digest, "--log", str(folder / "log")) as replica:
            statuses, leaks, traces = _attack(replica.url, count)
            described = examine(replica.url, folder / "described", examples=examples)
            growth = _grow(replica.url, psutil.Process(replica.pid), seconds)
    show("Malformed requests", ("status", "answers"), sorted(statuses.items()))
    if described.failures:
        console.print(described.said)
    return [
        claim("malformed bodies sent", sum(statuses.values()), ">=", count),
        claim("answers with 5xx", sum(n for s, n in statuses.items() if s >= 500), "<=", 0),
        claim("answers with another request's data", leaks, "<=", 0),
        claim("answers with a stack trace or a path", traces, "<=", 0),
        claim("requests made from the OpenAPI description", described.cases, ">=", 3 * examples),
        claim("of them, answered with predictions", described.accepted, ">=", examples),
        claim("answers that break the description", described.failures, "<=", 0),
        claim("memory after load / before", growth, "<=", 1.1),
    ]


def _package(folder: Path) -> str:
    """Write a bundle below a folder and return its digest."""
    rng = np.random.default_rng(SEED)
    rows = pd.DataFrame({"a": rng.normal(size=500), "b": rng.normal(size=500)})
    rows["c"] = rng.choice(["x", "y", MARK], 500)
    contract = Contract(
        task=MLTask.BINARY,
        columns=(
            Column(name="a", kind=ColumnKind.NUMERIC),
            Column(name="b", kind=ColumnKind.NUMERIC, required=False),
            Column(name="c", kind=ColumnKind.CATEGORICAL),
        ),
        target="y",
        classes=("no", "yes"),
        positive="yes",
        id="id",
        time="at",
    )
    labels = np.where(rows["a"] > 0, "yes", "no").astype(object)
    training = Training(estimator="sklearn.ensemble.HistGradientBoostingClassifier")
    pipeline: Any = build_pipeline(training, contract)
    pipeline.fit(prepare_features(rows, contract), labels)
    return package_release(
        folder / "bundle",
        model="fuzz",
        version="1.0.0",
        contract=contract,
        model_file=save_model(pipeline, folder / "model"),
        model_folder=folder / "model",
        holdout=rows,
        requirements=str,
        provenance={},
    ).digest


def _attack(url: str, count: int) -> tuple[Counter[int], int, int]:
    random_ = random.Random(SEED)
    statuses: Counter[int] = Counter()
    leaks = traces = 0
    good = json.dumps({"instances": [{"a": 1, "c": MARK, "id": MARK}]}).encode()
    with httpx.Client(base_url=url, timeout=60) as client:
        for number, (path, kind, body) in enumerate(_bodies(random_, count)):
            if number % 10 == 0:
                client.post("/invocations", content=good).raise_for_status()
            headers = {"Content-Type": kind} if kind else {}
            answer = client.post(path, content=body, headers=headers)
            statuses[answer.status_code] += 1
            leaks += MARK in answer.text and MARK.encode() not in body
            traces += "Traceback" in answer.text or "site-packages" in answer.text
            if answer.status_code >= 400:
                error = answer.json()["error"]
                assert isinstance(error, str) or error["message"], answer.text
    return statuses, leaks, traces


def _bodies(random_: random.Random, count: int) -> Iterator[tuple[str, str, bytes]]:
    for _ in range(count):
        body = json.dumps(_payload(random_), ensure_ascii=random_.random() < 0.5).encode(
            errors="surrogatepass"
        )
        yield random_.choice(_PATHS), random_.choice(_TYPES), _damaged(random_, body)


def _payload(random_: random.Random) -> Any:
    """Return something like a request, most often with something wrong in it."""

    def cell() -> Any:
        return random_.choice(_CELLS)

    def row() -> dict[str, Any]:
        names = random_.sample(["a", "b", "c", "id", "at", "d", "", "a\x00"], random_.randint(0, 6))
        return {name: cell() for name in names}

    rows = [row() for _ in range(random_.randint(0, 4))]
    lists = [[cell() for _ in range(random_.randint(0, 5))] for _ in range(random_.randint(0, 4))]
    tensor = {
        "name": random_.choice(["a", "b", "c", 1, None]),
        "shape": random_.choice([[1], [2], [1, 3], [-1], [10**12], "x", [], [1.5], None]),
        "datatype": random_.choice(["FP64", "INT64", "BYTES", "BOOL", "FP8", 1, None]),
        "data": random_.choice([[cell()], [cell(), cell()], [[cell()]], "x", None, {}]),
    }
    split = {
        "columns": random_.choice([["a", "b", "c"], ["a", "a"], [1], "a", None, []]),
        "data": random_.choice([lists, rows, None, "x", [1, 2]]),
    }
    return random_.choice(
        [
            {"instances": rows},
            {"dataframe_records": rows},
            {"inputs": row()},
            {"instances": lists},
            {"inputs": lists},
            {"dataframe_split": split},
            {"inputs": [tensor, tensor]},
            {"inputs": [tensor], "id": cell()},
            {"inputs": [tensor], "outputs": random_.choice([[{"name": cell()}], cell()])},
            {"instances": rows, "inputs": rows},
            {"instances": cell()},
            {cell.__name__: 1},
            cell(),
            rows,
            {"instances": rows, "params": cell()},
        ]
    )


def _damaged(random_: random.Random, body: bytes) -> bytes:
    chance = random_.random()
    if chance < 0.7 or not body:
        return body
    at = random_.randrange(len(body))
    if chance < 0.8:
        return body[:at]
    if chance < 0.9:
        return body[:at] + random_.randbytes(random_.randint(1, 8)) + body[at:]
    if chance < 0.95:
        return random_.randbytes(random_.randint(0, 400))
    return b"[" * random_.randint(1, 50_000) + body


def _grow(url: str, process: psutil.Process, seconds: float) -> float:
    """Return the memory after good, large and wrong requests over that of a warm replica."""
    large = json.dumps({"instances": [{"a": 1.0, "c": "x"}] * 2_000}).encode()
    wrong = json.dumps({"instances": [{"a": "x" * 100_000, "c": "x"}]}).encode()

    def load(until: float) -> int:
        while time.monotonic() < until:
            for body in (large, wrong, b"{"):
                client.post("/invocations", content=body)
        return process.memory_info().rss

    with httpx.Client(base_url=url, timeout=60) as client:
        before = load(time.monotonic() + max(seconds / 6, 3))
        return load(time.monotonic() + seconds) / before


if __name__ == "__main__":
    main(__doc__ or "", measure_fuzz)
