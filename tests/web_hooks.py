"""A place that alerts are sent to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from tests.projects import write_config


class Receiver(HTTPServer):
    """A web hook on a free port that keeps the titles it was sent; it may refuse them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.titles: list[str] = []
        self.refuses = False


class Hook(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.refuses:
            self.server.titles.append(message["title"])
        self.send_response(500 if self.server.refuses else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def receiving(root: Path) -> Iterator[Receiver]:
    """Let a project's model alert a web hook, as long as the block lasts."""
    with Receiver() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        url = f"json://127.0.0.1:{server.server_port}/hook"
        write_config(root, alerts=f'"{url}"')
        yield server
        server.shutdown()
        thread.join()
