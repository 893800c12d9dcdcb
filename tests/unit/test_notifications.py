"""Do alerts arrive, and are secrets kept?"""

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from modelyard.adapters.notifications import send_alert


class Receiver(HTTPServer):
    """A web hook on a free port of this machine that keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.received: list[dict[str, str]] = []

    def url(self, path: str = "hook", user: str = "") -> str:
        return f"json://{user}127.0.0.1:{self.server_port}/{path}"


class Hook(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = self.path.startswith("/refuse")
        if not refused:
            self.server.received.append(json.loads(body))
        self.send_response(500 if refused else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_alert_arrives_with_title_and_body(receiver: Receiver) -> None:
    (delivery,) = send_alert([receiver.url()], "bikes drifted", "humidity: **moved**")

    assert delivery.delivered
    assert delivery.problem is None
    assert receiver.received[0]["title"] == "bikes drifted"
    assert "humidity" in receiver.received[0]["message"]


def test_a_place_that_fails_is_told_and_does_not_hold_up_the_others(receiver: Receiver) -> None:
    urls = [receiver.url("refuse"), "nonsense://x", receiver.url()]
    refused, unknown, good = send_alert(urls, "title", "body")

    assert [refused.delivered, unknown.delivered, good.delivered] == [False, False, True]
    assert "500" in (refused.problem or "")
    assert unknown.problem == "not a URL that Apprise knows"
    assert len(receiver.received) == 1


def test_secrets_are_in_no_result_and_no_log(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, token = "pass0word", "T0PSECRETTOKEN"
    deliveries = send_alert(
        [
            receiver.url("refuse", user=f"ada:{secret}@"),
            f"slack://{token}/broken",
            f"unknown://{token}@host",
            token,
            f"{receiver.url('refuse')}?+X-Token={token}",
            receiver.url(f"refuse/{token}"),
        ],
        "title",
        "body",
    )

    told = " ".join(str(delivery) for delivery in deliveries) + caplog.text
    assert not any(delivery.delivered for delivery in deliveries)
    assert secret not in told
    assert token not in told
    assert deliveries[0].place.startswith("json://ada:****@127.0.0.1")


def test_no_place_means_nothing_to_send() -> None:
    assert send_alert([], "title", "body") == ()
