"""How tests talk to a service, whichever target it runs on: one request, or load all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx

from modelyard.domain.values import ServiceStatus


class Answer(NamedTuple):
    """What a service said to one row, x = 5."""

    request_id: str
    release: str
    prediction: float


@dataclass
class Load:
    """What clients saw."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def said(self) -> set[tuple[str, float]]:
        """Which releases answered, and what."""
        return {(answer.release, answer.prediction) for answer in self.answers}


@contextmanager
def load(status: ServiceStatus, keep_alive: Sequence[bool] = (True, False)) -> Iterator[Load]:
    """Send requests all the time; each client keeps its connection or opens one a request."""
    seen, stop = Load(), threading.Event()

    def run(keeps: bool) -> None:
        headers = {} if keeps else {"Connection": "close"}
        with httpx.Client(base_url=status.url, headers=headers, timeout=20) as client:
            while not stop.is_set():
                try:
                    seen.answers.append(_ask(client))
                except httpx.HTTPError as err:
                    seen.failures.append(repr(err))
                    time.sleep(0.01)

    with ThreadPoolExecutor(len(keep_alive)) as pool:
        clients = [pool.submit(run, keeps) for keeps in keep_alive]
        try:
            yield seen
        finally:
            stop.set()
    for client in clients:
        client.result()


def predict(status: ServiceStatus) -> tuple[str, float]:
    """Return which release answered x = 5, and what."""
    with httpx.Client(base_url=status.url, timeout=20) as client:
        return _ask(client)[1:]


def answers(status: ServiceStatus) -> bool:
    """Say whether the service is ready."""
    try:
        return httpx.get(f"{status.url}/ready", timeout=20).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def _ask(client: httpx.Client) -> Answer:
    answer = client.post("/invocations", json={"instances": [{"x": 5}]}).raise_for_status()
    return Answer(
        answer.headers["X-Request-Id"],
        answer.headers["X-ModelYard-Release"],
        round(answer.json()["predictions"][0], 6),
    )
