"""How do clients ask a service all the time, and notice whatever goes wrong with one answer?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.rollout_service import Yard
from benchmarks.serving_load import LUA, counted

TIMEOUT_SECONDS = 20.0
CLIENTS = (True, True, False, False)
"""Of those that check their answers, two keep their connection and two open one a request."""
PAUSE_SECONDS = 0.02
WRK_CONNECTIONS = 4

_STEADY = f"""\
{LUA}\
local number = 0
function request()
  number = number + 1
  wrk.headers["X-Request-Id"] = os.getenv("PREFIX") .. number
  return wrk.format()
end
function delay()
  return 20
end
"""


def new_prefix() -> str:
    """Return what request ids begin with that nobody has used before."""
    return f"{uuid.uuid4().hex[:12]}-"


class Answer(NamedTuple):
    """What one request came to; times are of the monotonic clock, in seconds."""

    request_id: str
    release: str
    sent: float
    received: float


class WrongAnswerError(Exception):
    """An answer came, and it is not the one to this request."""


@dataclass
class Seen:
    """What clients saw."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    """When, and what."""

    @property
    def outage(self) -> float:
        """Seconds from the last answer before the first failure to the first after the last one."""
        if not self.failures:
            return 0.0
        times, failed = [a.received for a in self.answers], [when for when, _ in self.failures]
        before = max(when for when in times if when <= min(failed))
        return min(when for when in times if when > max(failed)) - before


class Client:
    """One client, which checks each answer; it never sends a request twice."""

    def __init__(self, yard: Yard, url: str, *, keeps: bool = True) -> None:
        """`keeps` is whether the connection stays open from one request to the next."""
        parts = urlsplit(url)
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
        self._yard = yard
        self._headers = {"Content-Type": "application/json"}
        if not keeps:
            self._headers["Connection"] = "close"

    def ask(self, request_id: str, more: Mapping[str, str] = {}) -> Answer:
        """Send one request. Raises OSError, HTTPException or WrongAnswerError."""
        sent = time.monotonic()
        headers = {**self._headers, **more, "X-Request-Id": request_id}
        try:
            self._connection.request("POST", "/invocations", self._yard.body, headers)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            self._connection.close()
            raise
        if answer.status != 200 or answer.getheader("X-Request-Id") != request_id:
            self._connection.close()
            raise WrongAnswerError(f"{request_id}: {answer.status} {body[:200]!r}")
        release = answer.getheader("X-ModelYard-Release") or ""
        (said,) = json.loads(body)["predictions"]
        if abs(said - self._yard.expected[release]) > 1e-4:
            raise WrongAnswerError(f"{request_id}: {release} says {said}")
        return Answer(request_id, release, sent, time.monotonic())

    def close(self) -> None:
        self._connection.close()


@contextmanager
def load(yard: Yard, url: str, clients: Sequence[bool] = CLIENTS) -> Iterator[Seen]:
    """Ask all the time from here on, until the block ends."""
    seen, stop, prefix = Seen(), threading.Event(), new_prefix()

    def run(name: int, keeps: bool) -> None:
        client = Client(yard, url, keeps=keeps)
        for number in count():
            if stop.is_set():
                break
            try:
                seen.answers.append(client.ask(f"{prefix}{name}-{number}"))
            except (OSError, HTTPException, WrongAnswerError) as err:
                seen.failures.append((time.monotonic(), repr(err)))
            time.sleep(PAUSE_SECONDS)
        client.close()

    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(run, name, keeps) for name, keeps in enumerate(clients)]
        try:
            yield seen
        finally:
            stop.set()
    for client in running:
        client.result()


@dataclass
class WrkCounts:
    """What wrk counted; there once it has ended."""

    prefix: str = field(default_factory=new_prefix)
    """What the ids of its requests begin with."""
    answered: int = 0
    failed: int = 0


@contextmanager
def steady_wrk(yard: Yard, url: str) -> Iterator[WrkCounts]:
    """Let wrk ask at a steady pace over connections that it keeps, until the block ends."""
    script, body = yard.folder / "steady.lua", write_body(yard)
    script.write_text(_STEADY)
    counts = WrkCounts()
    with subprocess.Popen(
        [
            *("wrk", "-t1", f"-c{WRK_CONNECTIONS}", "-d24h"),
            *("--timeout", f"{TIMEOUT_SECONDS:.0f}s", "-s", str(script), f"{url}/invocations"),
        ],
        env=os.environ | {"BODY": str(body), "PREFIX": counts.prefix},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield counts
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=2 * TIMEOUT_SECONDS)
    counts.answered, counts.failed = counted(said)


def write_body(yard: Yard) -> Path:
    """Write the request as a file for wrk, and return where."""
    file = yard.folder / "body.json"
    file.write_bytes(yard.body)
    return file


def wait_until(answered: Seen, number: int) -> None:
    """Wait until clients have had so many answers more, a minute at most."""
    wanted, end = len(answered.answers) + number, time.monotonic() + 60
    while len(answered.answers) < wanted:
        if time.monotonic() > end:
            raise SystemExit(f"The service answers no longer: {answered.failures[-3:]}")
        time.sleep(0.02)
