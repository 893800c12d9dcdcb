"""A request that arrives whole is answered as one that goes through the application."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
import pytest
from uvicorn.server import ServerState

from modelyard.serving.api_keys import ApiKeys
from modelyard.serving.app import Replica
from modelyard.serving.batching import Limits
from modelyard.serving.bundle import Bundle
from modelyard.serving.direct import DirectProtocol
from modelyard.serving.inference_log import InferenceLog
from modelyard.serving.server import server_config
from tests.replica_app import NOW, ROW, logged
from tests.wires import Wire

BODY = orjson.dumps({"instances": [ROW]})


def request(
    body: bytes = BODY, path: str = "/invocations", more: str = "", version: str = "1.1"
) -> bytes:
    head = f"POST {path} HTTP/{version}\r\nHost: here\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


PATIENT, HASTY = 300.0, 0.0
"""Seconds that a server waits for the rest of a body before it leaves that to the application."""


def connect(
    replica: Replica, wire: Wire, state: ServerState, app: Any = None, patience: float = PATIENT
) -> DirectProtocol:
    config = server_config(app or replica.app(), direct=replica.direct(patience))
    config.load()
    make: Any = config.http_protocol_class
    protocol = make(config=config, server_state=state, app_state={})
    assert isinstance(protocol, DirectProtocol)
    protocol.connection_made(wire)
    return protocol


async def converse(
    replica: Replica, *pieces: bytes, answers: int = 1, app: Any = None, patience: float = PATIENT
) -> Wire:
    """Send pieces on one connection and return it once it has some answers."""
    wire = Wire()
    protocol = connect(replica, wire, ServerState(), app, patience)
    for piece in pieces:
        protocol.data_received(piece)
        await asyncio.sleep(0.001)
    while len(_answers(wire)) < answers:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    protocol.connection_lost(None)
    return wire


def said(replica: Replica, *pieces: bytes, **how: Any) -> list[bytes]:
    """Return the answers to what is sent in these pieces."""
    return _answers(asyncio.run(converse(replica, *pieces, **how)))


def _answers(wire: Wire) -> list[bytes]:
    return re.split(rb"(?=HTTP/1\.1 [2-5])", b"".join(wire.writes))[1:]


def without_id(answer: bytes) -> list[bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [
        re.sub(rb"^x-request-id: .*", b"x-request-id: *", line) for line in head.split(b"\r\n")
    ]
    return [lines[0], *sorted(lines[1:]), body]


@pytest.fixture
def replica(regression: Bundle, log: InferenceLog) -> Replica:
    return Replica(regression, log, replica="r1", clock=lambda: NOW)


TENSORS = [
    {"name": name, "shape": [1], "datatype": kind, "data": [ROW[name]]}
    for name, kind in {"temp": "INT32", "season": "BYTES", "wind": "FP64"}.items()
]
REQUESTS = {
    "a row": request(),
    "rows": request(orjson.dumps({"instances": [ROW] * 3})),
    "a query": request(path="/invocations?probabilities=false"),
    "tensors": request(orjson.dumps({"id": "q", "inputs": TENSORS}), "/v2/models/bikes/infer"),
    "CSV": request(b"temp,season\n1,summer\n", more="Content-Type: text/csv\r\n"),
    "what is no JSON": request(b"{"),
    "no row": request(b'{"instances": []}'),
    "a wrong flag": request(path="/invocations?probabilities=perhaps"),
    "probabilities of none": request(path="/invocations?probabilities=true"),
    "a kind that is not known": request(more="Content-Type: text/xml\r\n"),
    "nothing": request(b""),
    "an absolute address": request(path="http://here/invocations"),
    "an escaped path": request(path="/%69nvocations"),
    "another path": request(path="/elsewhere"),
    "too much": request(BODY + b" " * 2000),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_the_short_way_and_the_long_one_lead_to_the_same_answer(
    regression: Bundle, log: InferenceLog, what: str
) -> None:
    replica = Replica(
        regression, log, replica="r1", clock=lambda: NOW, limits=Limits(body_bytes=1000)
    )
    sent = REQUESTS[what]
    end = sent.index(b"\r\n\r\n") + 4
    (whole,) = said(replica, sent)
    (unusual,) = said(replica, sent[: end - 2] + b"Expect: 100-continue\r\n\r\n" + sent[end:])
    pieces = (sent[: end - 9], sent[end - 9 : end], sent[end : end + 1], sent[end + 1 :])
    (soon,) = said(replica, *pieces)
    (late,) = said(replica, *pieces, patience=HASTY)
    lines = [line for line in logged(log) if line.pop("request_id")]
    for line in lines:
        line["ids"] = len(line["ids"])
    assert without_id(whole) == without_id(unusual)
    assert without_id(whole) == without_id(soon)
    assert without_id(whole) == without_id(late)
    assert lines == lines[:1] * len(lines)
    assert len(lines) in (0, 4)


@pytest.mark.parametrize(
    ("pieces", "patience", "goes_round"),
    [
        ([request()], PATIENT, False),
        ([request()], HASTY, False),
        ([request()[:-100], request()[-100:]], PATIENT, False),
        ([request()[:-9], request()[-9:]], PATIENT, False),
        ([request()[:-9], request()[-9:]], HASTY, True),
        ([request(path="/elsewhere")], PATIENT, True),
        ([request(more="Expect: 100-continue\r\n")], PATIENT, True),
        ([request(BODY + b" " * 70_000)], PATIENT, False),
        ([request(BODY + b" " * 70_000)[:-1], b" "], PATIENT, True),
    ],
)
def test_only_what_is_unusual_or_slow_or_large_goes_through_the_application(
    replica: Replica, pieces: list[bytes], patience: float, goes_round: bool
) -> None:
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await replica.app()(scope, receive, send)

    (answer,) = said(replica, *pieces, app=app, patience=patience)
    assert bool(asked) == goes_round
    assert answer[9:12] == (b"404" if asked == ["/elsewhere"] else b"200")


def test_requests_sent_at_once_are_answered_in_their_order(replica: Replica) -> None:
    names = [f"q-{number}" for number in range(5)]
    sent = [request(more=f"X-Request-Id: {name}\r\n") for name in names]
    live = b"GET /live HTTP/1.1\r\nHost: here\r\n\r\n"
    answers = said(replica, b"".join([*sent[:2], live, *sent[2:]]), answers=6)
    found = [re.search(rb"x-request-id: (\S+)", answer) for answer in answers]
    assert [match and match[1].decode() for match in found] == [*names[:2], None, *names[2:]]


@pytest.mark.parametrize("sent", [request(more="Connection: close\r\n"), request(version="1.0")])
def test_a_client_that_wants_no_more_gets_its_answer_and_the_end(
    replica: Replica, sent: bytes
) -> None:
    wire = asyncio.run(converse(replica, sent))
    assert wire.closed
    assert b"\r\nconnection: close\r\n" in wire.writes[0]


@pytest.mark.parametrize("how", ["announced", "shut down", "shut down amid the body"])
def test_a_server_that_stops_answers_what_it_took_and_says_that_this_is_the_end(
    replica: Replica, how: str
) -> None:
    async def talk() -> Wire:
        wire, state = Wire(), ServerState()
        protocol = connect(replica, wire, state)
        rest = 9 if how.endswith("body") else 0
        sent = request()
        protocol.data_received(sent[: len(sent) - rest])
        if how == "announced":
            state.default_headers = [*state.default_headers, (b"connection", b"close")]
        else:
            protocol.shutdown()
        if rest:
            protocol.data_received(sent[-rest:])
        while not wire.closed:
            await asyncio.sleep(0.001)
        protocol.connection_lost(None)
        return wire

    wire = asyncio.run(asyncio.wait_for(talk(), 30))
    (answer,) = _answers(wire)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.count(b"connection: close") == 1


def test_the_answer_to_a_client_that_left_is_logged_and_not_written(
    replica: Replica, log: InferenceLog
) -> None:
    async def leave() -> Wire:
        wire = Wire()
        protocol = connect(replica, wire, ServerState())
        protocol.data_received(request())
        wire.close()
        protocol.connection_lost(None)
        while not logged(log):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        return wire

    wire = asyncio.run(asyncio.wait_for(leave(), 30))
    assert not wire.writes
    assert len(logged(log)) == 1


def test_a_client_that_leaves_amid_its_request_asked_nothing(
    replica: Replica, log: InferenceLog
) -> None:
    async def leave() -> Wire:
        wire = Wire()
        protocol = connect(replica, wire, ServerState(), patience=0.01)
        protocol.data_received(request()[:-1])
        protocol.connection_lost(None)
        await asyncio.sleep(0.05)
        return wire

    assert not asyncio.run(leave()).writes
    assert not logged(log)


def test_what_is_no_http_any_more_ends_the_connection(replica: Replica) -> None:
    wire = asyncio.run(converse(replica, request() + b"\0\0\0\r\n\r\n"))
    assert wire.closed
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("before", [b"", b"GET /live HTTP/1.1\r\nHost: here\r\n\r\n"])
def test_a_header_after_the_body_is_none_of_the_request(
    regression: Bundle, tmp_path: Any, before: bytes
) -> None:
    file = tmp_path / "keys"
    file.write_text("a-key-of-many-characters")
    replica = Replica(regression, None, replica="r1", api_keys=ApiKeys(file))
    key = b"Authorization: Bearer a-key-of-many-characters\r\n"
    head = b"POST /invocations HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n"
    body = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    many = 2 if before else 1
    late = said(replica, before + head + b"\r\n" + body + key + b"\r\n", answers=many)[-1]
    slow = (before + head + b"\r\n" + body + key, b"\r\n")
    slowly = said(replica, *slow, answers=many, patience=HASTY)[-1]
    early = said(replica, before + head + key + b"\r\n" + body + b"\r\n", answers=many)[-1]
    assert late.startswith(b"HTTP/1.1 401")
    assert slowly.startswith(b"HTTP/1.1 401")
    assert early.startswith(b"HTTP/1.1 200")


UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("apart", [True, False])
def test_a_client_that_would_rather_speak_http_2_is_answered_in_this_one(
    replica: Replica, log: InferenceLog, apart: bool
) -> None:
    asks = request(more=UPGRADE)
    inner = b"GET /version HTTP/1.1\r\nHost: here\r\n\r\n"
    hides = request(inner, more=UPGRADE)
    cut = asks.index(b"\r\n\r\n") + 4
    pieces = [asks[:cut], asks[cut:] + request() + hides[: -len(inner)], inner]
    answers = said(replica, *(pieces if apart else [b"".join(pieces)]), answers=3)
    assert [answer[9:12] for answer in answers] == [b"200", b"200", b"400"]
    assert len(logged(log)) == 2


def test_an_address_too_long_for_the_server_is_refused_before_its_body_came(
    replica: Replica,
) -> None:
    late = request(path=f"/invocations?{'a' * 66_000}")[:-1]
    (answer,) = said(replica, late, patience=HASTY)
    assert answer.startswith(b"HTTP/1.1 400")


def test_what_follows_a_hash_is_no_part_of_a_query(replica: Replica) -> None:
    (answer,) = said(replica, request(path="/invocations?probabilities=false#true"))
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "endless",
    [
        b"POST /invocations HTTP/1.1\r\nX: ",
        b"POST /invocations?",
        request(b"")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n1;",
        request(more="Connection: Upgrade\r\nUpgrade: h2c\r\n") + b"GET /",
    ],
)
def test_a_head_that_has_no_end_is_the_end_of_the_connection(
    replica: Replica, endless: bytes
) -> None:
    endless = endless.replace(b"Content-Length: 0\r\n", b"")
    wire = asyncio.run(converse(replica, endless, *[b"a" * 9_000] * 8))
    assert wire.closed
    assert b"".join(wire.writes).count(b"HTTP/1.1 400") == 1


@pytest.mark.parametrize("begun", [b"", b"POST /inv", request() + b"POST /inv"])
def test_a_client_that_does_not_finish_a_head_is_not_waited_for(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr("modelyard.serving.protocol.HEAD_SECONDS", 0.05)

    async def talk() -> None:
        wire = Wire()
        protocol = connect(replica, wire, ServerState())
        for piece in (begun, b"o"):
            if begun:
                protocol.data_received(piece)
        while not wire.closed:
            await asyncio.sleep(0.01)
        protocol.connection_lost(None)

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_the_rest_of_a_head_that_comes_in_time_is_waited_for_no_more(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.serving.protocol.HEAD_SECONDS", 0.05)

    async def talk() -> Wire:
        wire = Wire()
        protocol = connect(replica, wire, ServerState())
        protocol.data_received(request()[:9])
        protocol.data_received(request()[9:])
        await asyncio.sleep(0.2)
        assert not wire.closed
        protocol.connection_lost(None)
        return wire

    (answer,) = _answers(asyncio.run(talk()))
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_client_that_asks_ahead_is_not_read_on_before_its_turn(replica: Replica) -> None:
    class Held(Wire):
        reads = True

        def pause_reading(self) -> None:
            self.reads = False

        def resume_reading(self) -> None:
            self.reads = True

    async def talk() -> list[bool]:
        wire = Held()
        protocol = connect(replica, wire, ServerState())
        live = b"GET /live HTTP/1.1\r\nHost: here\r\n\r\n"
        protocol.data_received(request() + live * 4 + request()[:-1])
        held = []
        while len(_answers(wire)) < 5:
            held.append(not wire.reads or len(_answers(wire)) > 4)
            await asyncio.sleep(0)
        while not wire.reads:
            await asyncio.sleep(0)
        protocol.data_received(request()[-1:])
        while len(_answers(wire)) < 6:
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return held

    assert all(asyncio.run(asyncio.wait_for(talk(), 30)))


def test_what_follows_the_last_answer_is_not_taken(replica: Replica, log: InferenceLog) -> None:
    async def talk() -> Wire:
        wire, state = Wire(), ServerState()
        protocol = connect(replica, wire, state)
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        protocol.data_received(request(b"{") + request())
        await asyncio.sleep(0.02)
        protocol.connection_lost(None)
        return wire

    (answer,) = _answers(asyncio.run(talk()))
    assert answer.startswith(b"HTTP/1.1 400")
    assert not logged(log)
