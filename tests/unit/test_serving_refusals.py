"""A replica refuses what it cannot read, names the field, and logs nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from modelyard.serving.app import Replica
from modelyard.serving.batching import Limits
from modelyard.serving.bundle import Bundle
from modelyard.serving.inference_log import InferenceLog
from tests.replica_app import ROW, Client, logged

BAD = [
    (b"", None, "not JSON"),
    (b"{", None, "not JSON"),
    (b"\xff", None, "not JSON"),
    (b"[" * 100_000, None, "not JSON"),
    (b'{"instances": [{"temp": ' + b"1" * 5000 + b"}]}", None, "not JSON"),
    (rb'{"instances": [{"temp": 1, "season": "\ud800"}]}', None, "not JSON"),
    (b'{"instances": [{"temp": Infinity, "season": "summer"}]}', None, "Infinity is not JSON"),
    (b'{"instances": [{"temp": NaN, "season": "summer"}', None, "not JSON"),
    (b'{"instances": [{NaN: 1, "season": "summer"}]}', None, "not JSON"),
    (b'{"instances": [{"temp": 1, "season": NaN, "a": "' + b'\\"' * 200_000, None, "not JSON"),
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
    (b'{"instances": [{"temp": "warm", "season": "a"}]}', "temp", "expected a number"),
    (b'{"instances": [{"temp": 1, "season": "a", "hour": "noon"}]}', "hour", "expected a time"),
    (b'{"instances": [{"temp": 1, "season": "a", "hour": 5}]}', "hour", "expected a time"),
    (b'{"instances": [{"temp": 1, "season": "a", "row_id": {}}]}', "row_id", "expected text"),
    (b'{"instances": [{"temp": 1, "season": "a", "row_id": 1.5}]}', "row_id", "expected text"),
    (
        b'{"instances": [{"temp": 1, "season": "a", "row_id": -9223372036854775809}]}',
        "row_id",
        "expected text",
    ),
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
    replica = Replica(regression, None, replica="r1", limits=Limits(body_bytes=100))
    client = Client(replica.app())
    codes = {
        client.post("/invocations", content=b" " * 101).status_code: "too large",
        client.post("/invocations", headers={"Content-Type": "text/xml"}).status_code: "type",
        client.get("/invocations").status_code: "method",
        client.get("/nothing").status_code: "path",
    }
    assert codes == {413: "too large", 415: "type", 405: "method", 404: "path"}
    assert "Not Found" in client.get("/nothing").json()["error"]["message"]
