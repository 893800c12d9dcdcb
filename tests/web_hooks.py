"""Places that alerts are sent to: a web hook and a mail server on this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.projects import write_config


class Receiver(HTTPServer):
    """A web hook on a free port that keeps what it was sent; it may refuse it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.received: list[dict[str, Any]] = []
        self.refused = 0
        self.refuses = False

    def url(self, path: str = "hook", user: str = "") -> str:
        """Return the Apprise URL of a path; those that begin with `refuse` are refused."""
        return f"json://{user}127.0.0.1:{self.server_port}/{path}"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.received]


class Hook(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = self.server.refuses or self.path.startswith("/refuse")
        if refused:
            self.server.refused += 1
        else:
            self.server.received.append(message)
        self.send_response(500 if refused else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def web_hook() -> Iterator[Receiver]:
    """Listen as long as the block lasts."""
    with Receiver() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def receiving(root: Path) -> Iterator[Receiver]:
    """Let a project's model alert a web hook, as long as the block lasts."""
    with web_hook() as server:
        write_config(root, alerts=f'"{server.url()}"')
        yield server


class MailServer:
    """An SMTP server with one account that keeps the messages it was given."""

    def __init__(self, user: str, password: str) -> None:
        self._login = LoginPassword(user.encode(), password.encode())
        self._account = f"{user}:{password}"
        self.messages: list[EmailMessage] = []
        with socket.socket() as free:  # the controller connects to the port that it was told
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self._port,
            authenticator=self._check,
            auth_required=True,
            auth_require_tls=False,
        )

    def url(self, password: str | None = None) -> str:
        """Return the Apprise URL of its account."""
        user, right = self._account.split(":")
        return (
            f"mailto://{user}:{password or right}@127.0.0.1:{self._port}/?mode=insecure"
            "&from=yard@example.org&to=team@example.org"
        )

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 the library's name
        assert isinstance(envelope.content, bytes)
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    def _check(self, _server: SMTP, _session: Session, _envelope: Envelope, _way: str, told: Any):
        return AuthResult(success=told == self._login)

    def __enter__(self) -> MailServer:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
