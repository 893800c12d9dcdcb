"""A replica answers every form of request that MLflow's scoring server takes, and logs each row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from modelyard.serving.app import Replica
from modelyard.serving.bundle import Bundle, load_bundle
from modelyard.serving.inference_log import InferenceLog
from tests.serving_bundles import BINARY, REGRESSION, bundle_of, fit_classifier, fit_regressor

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
ROW = {"temp": 20, "season": "summer", "wind": 1.5}


class Client:
    """Sends requests to an ASGI application in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def get(self, path: str) -> httpx.Response:
        return asyncio.run(self._send("GET", path))

    def post(self, path: str, **content: Any) -> httpx.Response:
        return asyncio.run(self._send("POST", path, **content))

    async def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return await client.request(method, path, **content)


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("regression") / "r"
    return load_bundle(folder, bundle_of(folder, fit_regressor(), REGRESSION))


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("binary") / "r"
    return load_bundle(folder, bundle_of(folder, fit_classifier(), BINARY))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[InferenceLog]:
    opened = InferenceLog(tmp_path, "1.0.0", clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def client(regression: Bundle, log: InferenceLog) -> Client:
    return Client(Replica(regression, log, replica="r1", clock=lambda: NOW).app())


def logged(log: InferenceLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.segment.read_text().splitlines()]


def expected(bundle: Bundle, rows: int = 1) -> list[Any]:
    import pandas as pd

    return bundle.predictor.predict_frame(pd.DataFrame([ROW] * rows)).predictions


FORMS = {
    "dataframe_split": {"columns": ["wind", "season", "temp"], "data": [[1.5, "summer", 20]] * 2},
    "dataframe_records": [ROW, ROW],
    "instances": [ROW, ROW],
    "inputs": {"temp": [20, 20], "season": ["summer", "summer"], "wind": [1.5, 1.5]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_json_form_gives_the_same_predictions(
    client: Client, regression: Bundle, form: str
) -> None:
    answer = client.post("/invocations", json={form: FORMS[form]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": expected(regression, 2)}
    assert answer.headers["X-ModelYard-Release"] == "1.0.0"


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_rows_without_names_are_in_the_order_of_the_contract(
    client: Client, regression: Bundle, form: str
) -> None:
    answer = client.post("/invocations", json={form: [[20, "summer", 1.5]]})
    assert answer.json() == {"predictions": expected(regression)}


def test_a_column_of_one_value_is_one_row(client: Client, regression: Bundle) -> None:
    assert client.post("/invocations", json={"inputs": ROW}).json() == {
        "predictions": expected(regression)
    }


def test_csv_is_read_by_the_contract(client: Client, log: InferenceLog) -> None:
    answer = client.post(
        "/invocations",
        content="season,temp,wind,row_id\n007,20,,a\nNA,21.5,3,b\n",
        headers={"Content-Type": "text/csv; charset=utf-8"},
    )
    assert answer.status_code == 200, answer.text
    (record,) = logged(log)
    assert record["rows"] == [[20.0, "007", None], [21.5, "NA", 3.0]]
    assert record["ids"] == ["a", "b"]


def test_probabilities_are_given_when_asked_for(binary: Bundle) -> None:
    client = Client(Replica(binary, None, replica="r1").app())
    body = {"instances": [{"temp": 29}, {"temp": -4}]}
    assert client.post("/invocations", json=body).json() == {"predictions": ["yes", "no"]}
    answer = client.post("/invocations?probabilities=true", json=body).json()
    refused = client.post("/invocations?probabilities=perhaps", json=body)
    assert answer["classes"] == ["yes", "no"]
    assert answer["probabilities"][0][0] > 0.5 > answer["probabilities"][1][0]
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "probabilities")


BAD = [
    (b"", None, "not JSON"),
    (b"{", None, "not JSON"),
    (b"\xff", None, "not JSON"),
    (b"[" * 100_000, None, "not JSON"),
    (b'{"instances": [{"temp": ' + b"1" * 5000 + b"}]}", None, "not JSON"),
    (rb'{"instances": [{"temp": 1, "season": "\ud800"}]}', None, "not JSON"),
    (b'{"instances": [{"temp": NaN, "season": "summer"}]}', None, "NaN is not JSON"),
    (b"[1]", None, "exactly one of"),
    (b"{}", None, "found none"),
    (b'{"inputs": {}, "instances": []}', None, "found instances, inputs"),
    (b'{"instances": [], "params": {"a": 1}}', "params", "no params"),
    (b'{"instances": []}', None, "no rows"),
    (b'{"instances": 3}', "instances", "must be a list"),
    (b'{"instances": [3]}', "instances[0]", "row 0"),
    (b'{"instances": [[1, "summer"]]}', "instances[0]", "expected a list of 3 values"),
    (b'{"dataframe_records": [{"temp": 1}]}', "season", "missing column 'season'"),
    (b'{"dataframe_split": {"data": []}}', "dataframe_split", "columns and data"),
    (b'{"dataframe_split": {"columns": 1, "data": []}}', "dataframe_split.columns", "names"),
    (
        b'{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [1]]}}',
        "dataframe_split.data[1]",
        "got 1 values",
    ),
    (b'{"inputs": {"temp": [1, 2], "season": ["a"]}}', "inputs", "differ in length"),
    (b'{"instances": [{"temp": "20", "season": "a"}]}', "temp", "expected a number"),
    (b'{"instances": [{"temp": 1, "season": "a", "hour": "noon"}]}', "hour", "expected a time"),
    (b'{"instances": [{"temp": 1, "season": "a", "hour": 5}]}', "hour", "expected a time"),
    (b'{"instances": [{"temp": 1, "season": "a", "row_id": {}}]}', "row_id", "expected text"),
    (b'{"instances": [{"temp": 1, "season": "\xed\xa0\x80"}]}', None, "not JSON"),
    (b'{"inputs": {"\xed\xa0\x80": [1, 2], "temp": [1]}}', None, "not JSON"),
    (
        b'{"dataframe_split": {"columns": ["\xed\xa0\x80", "\xed\xa0\x80"], "data": [[1, 2]]}}',
        None,
        "not JSON",
    ),
    (r'{"instances": [{"temp": 1, "season": "\ud800"}]}'.encode("utf-16"), None, "not JSON"),
    (r'{"inputs": {"\uD800": 1, "temp": [1, 2]}}'.encode("utf-16-be"), None, "not JSON"),
    (
        b'{"dataframe_split": {"columns": ["temp", "temp"], "data": [[1, 2]]}}',
        "temp",
        "more than once",
    ),
]


@pytest.mark.parametrize(("body", "field", "message"), BAD)
def test_a_bad_request_names_the_field_and_is_not_logged(
    client: Client, log: InferenceLog, body: bytes, field: str | None, message: str
) -> None:
    answer = client.post("/invocations", content=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["field"] == field
    assert message in error["message"]
    assert answer.headers["X-ModelYard-Release"] == "1.0.0"
    assert answer.headers["X-Request-Id"]
    assert logged(log) == []


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"", None, "not CSV"),
        (b"temp,season\n", None, "no rows"),
        (b"temp,season\n1,a,b,c\n", None, "row 0: expected 2 cells (temp, season), got 4"),
        (b"temp,season\n1,a\n2,b,c\n", None, "row 1: expected 2 cells (temp, season), got 3"),
        (b"temp,season,wind\n1,a,2\n2,b\n", None, "row 1: expected 3 cells"),
        (b"temp,season,wind\n1\n", None, "got 1"),
        (b"temp,temp,season\n1,2,a\n", "temp", "'temp' is there more than once"),
        (b"note,note,temp,season\n1,2,3,a\n", "note", "'note' is there more than once"),
        (b'temp,season\n1,"a\n', None, "not CSV"),
        (b"temp,season\n1," + b"a" * 2**18, None, "not CSV"),
        (b"temp,season\n1,a\nwarm,b\n", "temp", "row 1: expected a number"),
        (b"temp,season\ninf,a\n", "temp", "expected a finite number"),
        (b"temp,season\n\xff,a\n", None, "not CSV"),
        (b"temp,season\n1,\xed\xa0\x80\n", None, "not CSV"),
    ],
)
def test_a_bad_csv_names_the_field(
    client: Client, body: bytes, field: str | None, message: str
) -> None:
    answer = client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["field"] == field
    assert message in answer.json()["error"]["message"]


def test_csv_may_have_a_mark_quotes_and_blank_lines(client: Client, log: InferenceLog) -> None:
    body = '\ufefftemp,season,note\r\n20,"a, ""b""\nc",\r\n\r\n,"",x\r\n'
    answer = client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text
    (record,) = logged(log)
    assert record["rows"] == [[20.0, 'a, "b"\nc', None], [None, None, None]]


OUT_OF_RANGE = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+05:00",
    "1899-12-31T23:59:59Z",
    "1900-01-01T00:00:00+00:01",
    "2025-05-02T12:00:01Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-05:00",
]


@pytest.mark.parametrize("value", OUT_OF_RANGE)
@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_event_time_that_cannot_be_true_is_refused(
    client: Client, log: InferenceLog, form: str, value: str
) -> None:
    if form == "json":
        answer = client.post("/invocations", json={"instances": [ROW, ROW | {"hour": value}]})
    else:
        answer = client.post(
            "/invocations",
            content=f"temp,season,hour\n20,a,\n20,a,{value}\n",
            headers={"Content-Type": "text/csv"},
        )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == {
        "field": "hour",
        "message": "Column 'hour', row 1: expected a time from 1900-01-01T00:00:00+00:00 to "
        f"2025-05-02T12:00:00+00:00 (366 days from now), got {value!r}.",
    }
    assert logged(log) == []


def test_the_first_and_the_last_event_time_are_taken(client: Client, log: InferenceLog) -> None:
    times = ["1900-01-01", "2025-05-02T14:00:00+02:00"]
    answer = client.post("/invocations", json={"instances": [ROW | {"hour": t} for t in times]})
    assert answer.status_code == 200, answer.text
    (record,) = logged(log)
    assert record["times"] == ["1900-01-01T00:00:00+00:00", "2025-05-02T12:00:00+00:00"]


def test_an_error_that_quotes_half_a_surrogate_pair_is_still_json(regression: Bundle) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    # no client can send this path, but a server may decode one to it
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "server": ("replica", 80),
        "path": "/\ud800",
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(Replica(regression, None, replica="r1").app()(scope, receive, send))
    start, body = sent
    assert start["status"] == 404
    assert (b"x-modelyard-release", b"1.0.0") in start["headers"]
    assert "/\ud800" in json.loads(body["body"])["error"]["message"]


def test_other_refusals_are_json_too(regression: Bundle) -> None:
    replica = Replica(regression, None, replica="r1", max_body_bytes=100)
    client = Client(replica.app())
    codes = {
        client.post("/invocations", content=b" " * 101).status_code: "too large",
        client.post("/invocations", headers={"Content-Type": "text/xml"}).status_code: "type",
        client.get("/invocations").status_code: "method",
        client.get("/nothing").status_code: "path",
    }
    assert codes == {413: "too large", 415: "type", 405: "method", 404: "path"}
    assert "Not Found" in client.get("/nothing").json()["error"]["message"]


def test_a_failing_model_gives_no_stack_trace(
    regression: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def predict(self, rows: object) -> None:
            raise KeyError("secret detail")

    predictor = type(regression.predictor)(Broken(), REGRESSION)
    bundle = Bundle(regression.folder, regression.digest, regression.manifest, predictor)
    client = Client(Replica(bundle, None, replica="r1").app())
    answer = client.post("/invocations", json={"instances": [ROW]})
    counted = client.get("/metrics").text
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["X-Request-Id"] in answer.text
    assert "secret detail" in caplog.text
    assert 'modelyard_errors_total{release="1.0.0",replica="r1"} 1.0' in counted


def test_ids_and_times_of_the_caller_are_logged_and_are_no_features(
    client: Client, log: InferenceLog, regression: Bundle
) -> None:
    rows = [
        ROW | {"row_id": 17, "hour": "2024-03-01 05:00:00"},
        ROW | {"row_id": "b", "hour": "2024-03-01T05:00:00+02:00"},
        ROW,
    ]
    answer = client.post("/invocations", json={"instances": rows}, headers={"X-Request-Id": "q-1"})
    assert answer.headers["X-Request-Id"] == "q-1"
    (record,) = logged(log)
    assert record == {
        "request_id": "q-1",
        "at": NOW.isoformat(),
        "release": "1.0.0",
        "replica": "r1",
        "columns": ["temp", "season", "wind"],
        "ids": ["17", "b", "q-1-2"],
        "times": ["2024-03-01T05:00:00+00:00", "2024-03-01T03:00:00+00:00", NOW.isoformat()],
        "rows": [[20.0, "summer", 1.5]] * 3,
        "predictions": expected(regression, 3),
        "probabilities": None,
        "classes": [],
        "positive": None,
    }


def test_a_request_id_that_could_break_a_log_is_replaced(client: Client) -> None:
    ids = set()
    for given in ("", "two words", "x" * 129):
        answer = client.post(
            "/invocations", json={"instances": [ROW]}, headers={"X-Request-Id": given}
        )
        ids.add(answer.headers["X-Request-Id"])
    assert len(ids) == 3
    assert all(len(made) == 32 for made in ids)


def test_an_answer_is_given_and_counted_when_the_log_cannot_be_written(
    regression: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    log = InferenceLog(folder, "1.0.0", segment_bytes=1)
    client = Client(Replica(regression, log, replica="r1").app())

    def ask() -> int:
        return client.post("/invocations", json={"instances": [ROW]}).status_code

    assert ask() == 200
    folder.rename(tmp_path / "away")  # the next segment cannot be made
    assert [ask(), ask()] == [200, 200]
    labels = 'release="1.0.0",replica="r1"'
    text = client.get("/metrics").text
    assert f"modelyard_inference_log_errors_total{{{labels}}} 2.0" in text
    folder.mkdir()
    assert ask() == 200
    assert len(logged(log)) == 1
    log.close()


def test_ready_says_no_while_draining_and_live_says_yes(regression: Bundle) -> None:
    replica = Replica(regression, None, replica="r1")
    client = Client(replica.app())
    assert client.get("/ready").status_code == 200
    replica.draining = True
    assert client.get("/ready").status_code == 503
    assert client.get("/live").status_code == 200
    assert client.post("/invocations", json={"instances": [ROW]}).status_code == 200


def test_version_and_metrics_tell_what_runs(client: Client, regression: Bundle) -> None:
    client.post("/invocations", json={"instances": [ROW, ROW]})
    client.post("/invocations", content=b"{")
    version = client.get("/version").json()
    assert (version["model"], version["release"]) == ("bikes", "1.0.0")
    assert version["digest"] == regression.digest
    text = client.get("/metrics").text
    labels = 'release="1.0.0",replica="r1"'
    assert f'modelyard_requests_total{{{labels},status="200"}} 1.0' in text
    assert f'modelyard_requests_total{{{labels},status="400"}} 1.0' in text
    assert f"modelyard_errors_total{{{labels}}} 1.0" in text
    assert f"modelyard_rows_total{{{labels}}} 2.0" in text
    assert f"modelyard_request_seconds_count{{{labels}}} 2.0" in text
