"""The Open Inference Protocol, limits, batches and API keys of a replica."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modelyard.domain.values import ReplicaLimits
from modelyard.errors import ConfigError, DeadlineError, OverloadedError
from modelyard.serving.api_keys import ApiKeys, read_keys, require_keys_beyond_loopback
from modelyard.serving.app import Replica
from modelyard.serving.batching import Batcher, Limits, Waiting
from modelyard.serving.bundle import Bundle, load_bundle
from modelyard.serving.features import Features
from modelyard.serving.inference_log import InferenceLog
from modelyard.serving.predictor import Prediction
from modelyard.serving.replica import _parser, limit_options
from tests.replica_app import ROW, Client, logged
from tests.serving_bundles import BINARY, REGRESSION, bundle_of, fit_classifier, weather

INFER = "/v2/models/bikes/infer"
KEY = "a-key-of-thirty-two-characters-x"


def tensor(name: str, datatype: Any, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}


INPUTS = [
    tensor("temp", "FP64", [20, 21.5]),
    tensor("season", "BYTES", ["summer", "winter"]),
    tensor("wind", "FP32", [1.5, None]),
]


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("binary") / "r"
    return load_bundle(folder, bundle_of(folder, fit_classifier(), BINARY, runtime="compiled"))


def test_tensors_get_what_records_get(client: Client, log: InferenceLog) -> None:
    rows = [ROW, {"temp": 21.5, "season": "winter", "wind": None}]
    expected = client.post("/invocations", json={"instances": rows}).json()["predictions"]
    answer = client.post(INFER, json={"id": "q-7", "inputs": INPUTS}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (
        "bikes",
        "1.0.0",
        "q-7",
    )
    assert answer["outputs"] == [
        {"name": "predict", "shape": [2], "datatype": "FP64", "data": expected}
    ]
    assert [record["request_id"] for record in logged(log)][-1] == "q-7"


def test_probabilities_are_an_output(binary: Bundle) -> None:
    client = Client(Replica(binary, None, replica="r1").app())
    body = {"inputs": [tensor("temp", "INT64", [29, -4])], "outputs": [{"name": "probabilities"}]}
    (output,) = client.post(INFER, json=body).json()["outputs"]
    assert output["shape"] == [2, 2]
    assert output["parameters"] == {"classes": "yes,no"}
    assert output["data"][0] > 0.5 > output["data"][2]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "no rows"),
        ([3], "must be an object"),
        ([tensor("temp", "FP8", [1])], "datatype must be one of"),
        ([tensor("temp", {}, [1])], "datatype must be one of"),
        ([{**tensor("temp", "FP64", [1]), "shape": [2]}], "means 2 values, data has 1"),
        ([{**tensor("temp", "FP64", [1]), "shape": [-1]}], "shape must be"),
        ([tensor("temp", "FP64", ["x"])], "expected FP64 or null, got str"),
        ([tensor("temp", "FP64", [1]), tensor("season", "BYTES", ["a", "b"])], "2 rows"),
        ([tensor("temp", "FP64", [1])] * 2, "more than once"),
        ([{**tensor("m", "FP64", [1, 2, 3]), "shape": [1, 3]}], "send one input a column"),
    ],
)
def test_a_bad_tensor_is_named(client: Client, inputs: list[Any], message: str) -> None:
    answer = client.post(INFER, json={"inputs": inputs})
    assert answer.status_code == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"outputs": {}}, "outputs must be a list"),
        ({"outputs": [{"name": "scores"}]}, "got 'scores'"),
        ({"outputs": [{"name": []}]}, "are known, got"),
        ({"parameters": "probabilities"}, "parameters must be an object"),
        ({"parameters": {"probabilities": 1}}, "must be true or false"),
    ],
)
def test_an_output_that_is_asked_for_wrongly_is_refused(
    client: Client, asked: dict[str, Any], message: str
) -> None:
    answer = client.post(INFER, json={"inputs": INPUTS} | asked)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_the_protocol_tells_what_the_model_takes(client: Client) -> None:
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/models/bikes/versions/1.0.0/ready").status_code == 200
    metadata = client.get("/v2/models/bikes").json()
    assert [i["name"] for i in metadata["inputs"]] == ["temp", "season", "wind", "row_id", "hour"]
    assert client.get("/v2/models/other").status_code == 404


def test_the_description_names_every_path_and_the_page_loads_nothing(client: Client) -> None:
    described = client.get("/openapi.json").json()
    assert {"/invocations", INFER, "/metrics"} <= described["paths"].keys()
    assert set(described["components"]["schemas"]["Row"]["required"]) == {"temp", "season"}
    page = client.get("/docs").text
    assert "temp" in page
    assert "http://" not in page
    assert "https://" not in page


def test_too_many_rows_are_too_large(regression: Bundle) -> None:
    client = Client(Replica(regression, None, replica="r1", limits=Limits(rows=2)).app())
    answer = client.post("/invocations", json={"instances": [ROW] * 3})
    assert answer.status_code == 413
    assert "3 rows are more than the 2" in answer.json()["error"]["message"]


def test_numeric_text_counts_as_a_number_as_in_mlflow(client: Client, log: InferenceLog) -> None:
    assert client.post("/invocations", json={"instances": [ROW | {"temp": "20"}]}).is_success
    assert logged(log)[0]["rows"][0][0] == 20.0


def features(*values: float) -> Features:
    return Features(np.array(values).reshape(-1, 1), np.empty((len(values), 0), dtype=object))


def doubled(asked: Features) -> Prediction:
    if (asked.numeric == 13).any():
        raise ValueError("thirteen")
    return Prediction([2 * value for value in asked.numeric[:, 0].tolist()], None)


async def predict(batcher: Batcher[Waiting], asked: Features) -> Prediction:
    answered = asyncio.get_running_loop().create_future()
    batcher.submit(Waiting(asked, answered.set_result))
    answer = await answered
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_what_queues_is_one_batch_and_each_gets_its_own() -> None:
    batches: list[tuple[int, int]] = []

    async def ask() -> list[Prediction]:
        batcher = Batcher(
            doubled, Limits(), inline_rows=100, on_batch=lambda *size: batches.append(size)
        )
        return await asyncio.gather(*(predict(batcher, features(i, i + 1)) for i in range(5)))

    answers = asyncio.run(ask())
    assert [answer.predictions for answer in answers] == [[2 * i, 2 * i + 2] for i in range(5)]
    assert batches == [(5, 10)]


@pytest.mark.parametrize("inline_rows", [0, 100])
def test_a_request_that_fails_does_not_fail_its_neighbours(inline_rows: int) -> None:
    async def ask() -> list[Any]:
        batcher = Batcher(doubled, Limits(), inline_rows=inline_rows)
        asked = (predict(batcher, features(value)) for value in (1, 13, 3))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, failed, last = asyncio.run(ask())
    assert (first.predictions, last.predictions) == ([2], [6])
    assert isinstance(failed, ValueError)


def test_a_request_that_cannot_be_told_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def vanished(answer: Prediction | Exception) -> None:
        raise ConnectionResetError("nobody is there")

    async def ask() -> list[Prediction]:
        batcher = Batcher[Waiting](doubled, Limits(), inline_rows=100)
        batcher.submit(Waiting(features(1), vanished))
        return [await predict(batcher, features(value)) for value in (2, 3)]

    assert [answer.predictions for answer in asyncio.run(ask())] == [[4], [6]]
    assert "nobody is there" in caplog.text


def test_a_full_queue_refuses_and_a_late_answer_is_not_waited_for() -> None:
    def slow(asked: Features) -> Prediction:
        time.sleep(0.4)
        return doubled(asked)

    async def ask() -> list[Any]:
        batcher = Batcher(slow, Limits(waiting=2, seconds=0.1), inline_rows=0)
        first = asyncio.create_task(predict(batcher, features(1)))
        await asyncio.sleep(0.02)  # it is with the worker now
        others = [asyncio.create_task(predict(batcher, features(i))) for i in range(3)]
        return await asyncio.gather(first, *others, return_exceptions=True)

    started = time.monotonic()
    found = [type(answer) for answer in asyncio.run(ask())]
    assert found == [DeadlineError, DeadlineError, DeadlineError, OverloadedError]
    assert time.monotonic() - started < 5


def test_predictions_need_a_key_and_probes_need_none(regression: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the shop\n{KEY}\n")
    client = Client(Replica(regression, None, replica="r1", api_keys=ApiKeys(file)).app())
    body = {"instances": [ROW]}
    answers = {
        header: client.post("/invocations", json=body, headers=headers).status_code
        for header, headers in {
            "none": {},
            "wrong": {"Authorization": f"Bearer {KEY[:-1]}y"},
            "not bearer": {"Authorization": f"Basic {KEY}"},
            "right": {"Authorization": f"Bearer {KEY}"},
        }.items()
    }
    assert answers == {"none": 401, "wrong": 401, "not bearer": 401, "right": 200}
    assert client.post(INFER, json={"inputs": INPUTS}).status_code == 401
    assert client.get("/ready").status_code == 200


def test_keys_rotate_by_their_file(tmp_path: Path) -> None:
    file, now = tmp_path / "keys", [0.0]
    file.write_text(KEY)
    keys = ApiKeys(file, clock=lambda: now[0])
    other = "another-key-of-many-characters"
    file.write_text(f"{KEY}\n{other}\n")
    now[0] += 2
    assert keys.allow(f"Bearer {KEY}")
    assert keys.allow(f"bearer {other}")
    file.write_text("short")  # a mistake: what was read before holds on
    now[0] += 2
    assert keys.allow(f"Bearer {other}")
    file.write_text(other)
    os.utime(file, (1, 1))
    now[0] += 2
    assert not keys.allow(f"Bearer {KEY}")


@pytest.mark.parametrize("text", ["", "# none\n", "short", "sha256:abc", "has spaces in the key"])
def test_a_file_without_a_usable_key_is_refused_and_no_key_is_shown(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_keys(file)
    assert not text.strip() or text.strip() not in str(refused.value)


def test_nobody_listens_beyond_loopback_without_keys() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        require_keys_beyond_loopback(host, has_keys=False, open_to_all=False)
    require_keys_beyond_loopback("0.0.0.0", has_keys=True, open_to_all=False)
    require_keys_beyond_loopback("0.0.0.0", has_keys=False, open_to_all=True)
    with pytest.raises(ConfigError, match="without API keys"):
        require_keys_beyond_loopback("0.0.0.0", has_keys=False, open_to_all=False)


def test_a_compiled_bundle_holds_no_pipeline_and_is_served(binary: Bundle) -> None:
    assert not (binary.folder / "model.skops").exists()
    assert "compiled in float64" in binary.manifest.runtime_reason
    version = Client(Replica(binary, None, replica="r1").app()).get("/version").json()
    assert version["runtime"] == "compiled"
    assert json.dumps(version)


def test_a_level_that_the_model_refuses_is_a_bad_request(tmp_path: Path) -> None:
    rows = weather()[["season"]]
    columns = make_column_transformer((OneHotEncoder(handle_unknown="error"), ["season"]))
    model = make_pipeline(columns, LinearRegression()).fit(rows, np.arange(len(rows)))
    contract = REGRESSION.model_copy(update={"columns": REGRESSION.columns[1:2]})
    for runtime in ("compiled", "sklearn"):
        folder = tmp_path / runtime
        bundle = load_bundle(folder, bundle_of(folder, model, contract, runtime=runtime))
        client = Client(Replica(bundle, None, replica="r1").app())
        known = client.post("/invocations", json={"instances": [{"season": "summer"}]})
        refused = client.post("/invocations", json={"instances": [{"season": "fifth"}]})
        assert (runtime, known.status_code, refused.status_code) == (runtime, 200, 400)
        assert "never saw" in refused.json()["error"]["message"]


def binary_body(datatype: str, data: bytes, size: Any, shape: int = 1) -> tuple[bytes, int]:
    """Return a body with one binary tensor, and the length of its JSON."""
    head = {
        "name": "temp",
        "shape": [shape],
        "datatype": datatype,
        "parameters": {"binary_data_size": size},
    }
    text = json.dumps({"inputs": [head]}).encode()
    return text + data, len(text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (binary_body("FP64", bytes(8), 16), "up to 8"),
        (binary_body("FP64", bytes(8), -8), "up to 8"),
        (binary_body("FP64", bytes(8), True), "up to 8"),
        (binary_body("FP64", bytes(8), 10**30), "up to 8"),
        (binary_body("FP64", bytes(8), "8"), "up to 8"),
        (binary_body("FP64", bytes(16), 8), "8 bytes of the body belong to no input"),
        (binary_body("FP64", bytes(7), 7), "no whole number of FP64"),
        (binary_body("FP64", bytes(16), 16), "means 1 values, data has 2"),
        (binary_body("BF16", bytes(2), 2), "cannot be sent as bytes"),
        (binary_body("BYTES", b"\xff\xff\xff\xff", 4), "text 0 is longer than its tensor"),
        (binary_body("BYTES", b"\x01\x00", 2), "text 0 is longer than its tensor"),
        (binary_body("BYTES", b"\x01\x00\x00\x00\xff", 5), "text 0 is not UTF-8"),
        ((b"{}", 3), "says 3 bytes, the body has 2"),
        ((b"{}", 10**30), "the body has 2"),
        ((b"{}", -1), "must be a number of bytes"),
        ((b"{}", "x"), "must be a number of bytes"),
        ((b'{"inputs": [{"parameters": 1}]}', ""), "must be an object"),
    ],
)
def test_a_size_that_lies_is_refused(
    client: Client, body: tuple[bytes, int | str], message: str
) -> None:
    content, length = body
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = client.post(INFER, content=content, headers=headers)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_a_binary_tensor_has_no_other_data(client: Client) -> None:
    both = tensor("temp", "FP64", [1]) | {"parameters": {"binary_data_size": 0}}
    answer = client.post(INFER, json={"inputs": [both]})
    assert answer.status_code == 400
    assert "both data and binary_data_size" in answer.json()["error"]


def test_limits_travel_to_a_replica_as_its_options() -> None:
    limits = ReplicaLimits(body_bytes=2048, rows=7, seconds=2.5, waiting=3)
    told = _parser().parse_args(["--bundle", "b", "--digest", "d", *limit_options(limits)])
    assert ReplicaLimits(**{name: getattr(told, name) for name in ReplicaLimits.model_fields}) == (
        limits
    )
    assert limit_options(ReplicaLimits()) == []
