"""The local target keeps one release serving, whatever is swapped or refused."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modelyard.adapters.local import LocalTarget
from modelyard.domain.values import ReplicaState, Service, ServiceStatus
from modelyard.errors import RefusedError, RolloutError
from tests.local_yard import MODEL, Yard
from tests.services import answers, load, predict, wait_for
from tests.serving_bundles import FACTORS, PLAIN, bundle_of, falsify_golden, plain_bundle


def test_releases_are_swapped_under_load_without_a_failed_request(yard: Yard) -> None:
    first = yard.target.sync(yard.service("1.0.0", replicas=2))
    with load(first) as seen:
        for version in ("2.0.0", "1.0.0"):
            status = yard.target.sync(yard.service(version, replicas=2))
            assert status.url == first.url
            assert predict(status) == (version, 5 * FACTORS[version])
            time.sleep(0.3)
        wait_for(lambda: len(seen.answers) > 2000)
    assert seen.failures == []
    assert seen.said == {("1.0.0", 10.0), ("2.0.0", 15.0)}
    assert {r.version for r in status.replicas} == {"1.0.0"}
    assert len(yard.logged()) == len(seen.answers) + 2


def test_an_idle_keep_alive_client_is_not_reset_by_a_swap(yard: Yard) -> None:
    status = yard.target.sync(yard.service("1.0.0"))
    with (
        contextlib.closing(HTTPConnection(status.url.removeprefix("http://"))) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        assert ask(connection) == ("1.0.0", None)
        swap = pool.submit(yard.target.sync, yard.service("2.0.0"))
        wait_for(lambda: predict(status)[0] == "2.0.0" and draining(yard))
        assert ask(connection) == ("1.0.0", "close")
        begun = time.monotonic()
        swap.result()
        assert time.monotonic() - begun < 3, "the grace period ends when nobody is left"


def ask(connection: HTTPConnection) -> tuple[str | None, str | None]:
    """Return which release answered, and what it says about the connection."""
    connection.request("POST", "/invocations", json.dumps({"instances": [{"x": 5}]}))
    answer = connection.getresponse()
    assert answer.status == 200
    assert json.loads(answer.read())["predictions"] == pytest.approx([10.0])
    return answer.headers["X-ModelYard-Release"], answer.headers["Connection"]


def draining(yard: Yard) -> bool:
    status = yard.target.status(MODEL)
    return status is not None and any(r.state is ReplicaState.DRAINING for r in status.replicas)


def test_syncing_what_runs_does_nothing(yard: Yard) -> None:
    service = yard.service("1.0.0", replicas=2)
    first = yard.target.sync(service)
    assert [r.state for r in first.replicas] == [ReplicaState.READY] * 2
    assert yard.target.sync(service) == first
    assert yard.target.status(MODEL) == first
    assert yard.target.get_weights(MODEL) == {"1.0.0": 100}


def test_a_release_that_does_not_predict_as_recorded_is_not_served(yard: Yard) -> None:
    first = yard.target.sync(yard.service("1.0.0"))
    yard.service("2.0.0")
    falsify_golden(yard.folder / "2.0.0")
    with pytest.raises(RolloutError, match="does not predict as recorded: golden row 1"):
        yard.target.sync(yard.service("2.0.0"))
    assert yard.target.status(MODEL) == first
    assert predict(first) == ("1.0.0", 10.0)


def test_a_release_whose_model_file_was_changed_is_not_served(yard: Yard) -> None:
    service = yard.service("1.0.0")
    model = yard.folder / "1.0.0" / "model.skops"
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(RolloutError, match=r"changed: model\.skops"):
        yard.target.sync(service)
    assert yard.target.status(MODEL) is None
    assert yard.processes() == [], "a first release that fails leaves no process"


def test_a_stopped_service_stays_stopped_until_it_is_resumed(yard: Yard) -> None:
    before = yard.target.sync(yard.service("1.0.0"))
    yard.target.stop(MODEL)
    assert yard.processes() == []
    stopped = yard.target.status(MODEL)
    assert stopped is not None
    assert (stopped.url, stopped.replicas) == (before.url, ())
    assert yard.processes() == [], "asking does not start it"
    assert yard.target.models() == (MODEL,)
    yard.target.resume(MODEL)
    wait_for(lambda: answers(before))
    assert predict(before) == ("1.0.0", 10.0)


def test_two_callers_at_once_make_one_supervisor(yard: Yard) -> None:
    service = yard.service("1.0.0")
    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(
                lambda _: LocalTarget(yard.folder / "run", lambda m: yard.log_folder).sync(service),
                range(2),
            )
        )
    assert results[0] == results[1]
    assert yard.supervisor().is_running()


def test_what_the_local_target_cannot_do_is_refused(yard: Yard) -> None:
    one, two = yard.service("1.0.0").fleets[0], yard.service("2.0.0").fleets[0]
    half = [f.model_copy(update={"weight": 50}) for f in (one, two)]
    for fleets in ((), tuple(half), (half[0],), (one.model_copy(update={"replicas": 0}),)):
        with pytest.raises(RefusedError):
            yard.target.sync(Service(model=MODEL, fleets=fleets))
    assert yard.processes() == []
    yard.target.sync(yard.service("1.0.0"))
    yard.target.set_weights(MODEL, {"1.0.0": 100, "2.0.0": 0})
    for weights in ({"1.0.0": 90, "2.0.0": 10}, {"2.0.0": 100}, {}):
        with pytest.raises(RefusedError, match="cannot split"):
            yard.target.set_weights(MODEL, weights)


def test_a_port_is_kept_moved_or_refused_when_it_is_taken(yard: Yard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = yard.target.sync(yard.service("1.0.0"))
        port = taken.getsockname()[1]
        with pytest.raises(RolloutError, match=f"Cannot listen on 127.0.0.1:{port}"):
            yard.target.sync(yard.service("1.0.0", port=port))
        assert predict(first) == ("1.0.0", 10.0)
    moved = yard.target.sync(yard.service("1.0.0", port=port))
    assert moved.url == f"http://127.0.0.1:{port}"
    assert predict(moved) == ("1.0.0", 10.0)
    assert not answers(first)


def test_modules_of_the_user_are_found_in_the_bundle(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = yard.folder / "source" / "local_target_user_module.py"
    source.parent.mkdir()
    source.write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(source.parent)
    import local_target_user_module  # pyright: ignore[reportMissingImports]

    x = pd.DataFrame({"x": np.arange(10.0)})
    double = FunctionTransformer(local_target_user_module.double)
    model = make_pipeline(double, LinearRegression()).fit(x, 4 * x["x"])
    bundle_of(yard.folder / "3.0.0", model, PLAIN, "3.0.0", code=source)
    status = yard.target.sync(yard.service("3.0.0"))
    assert predict(status) == ("3.0.0", 20.0)
    yard.target.stop(MODEL)
    wait_for(lambda: yard.target.resume(MODEL) is not None and answers(status))
    assert predict(status) == ("3.0.0", 20.0), "running it left nothing in the bundle"


def test_a_replica_on_a_port_of_its_own_tells_before_it_leaves(tmp_path: Path) -> None:
    digest = plain_bundle(tmp_path / "r", "1.0.0", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "modelyard.serving.replica", "--port", str(port)]
    command += ["--bundle", str(tmp_path / "r"), "--digest", digest]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(ServiceStatus.model_construct(url=url)))
            assert httpx.get(f"{url}/version").json()["release"] == "1.0.0"
            process.terminate()
            wait_for(lambda: httpx.get(f"{url}/ready").status_code == 503, 2.0)
            late = httpx.post(f"{url}/invocations", json={"instances": [{"x": 5}]})
            assert late.json()["predictions"] == pytest.approx([10.0])
            assert late.headers["Connection"] == "close"
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


def test_the_supervisors_log_is_structured(yard: Yard) -> None:
    yard.target.sync(yard.service("1.0.0"))
    lines = (yard.folder / "run" / MODEL / "supervisor.log").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    (serving,) = [e for e in events if e["event"] == "serving"]
    assert serving["version"] == "1.0.0"
    assert serving["level"] == "info"
