"""Rides that are asked for all the time, while something is done to the service."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from modelyard.adapters.client import ServiceClient
from modelyard.domain.values import Contract
from modelyard.errors import ModelYardError
from tests.projects import rides


class Traffic:
    """Requests all the time, each over a new connection, and who answered them."""

    def __init__(self, url: str, contract: Contract) -> None:
        self._url, self._contract = url, contract
        self._row = rides().tail(1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._over.wait(0.05):
            try:
                with ServiceClient(self._url, self._contract) as client:
                    self.answered[client.predict(self._row).release] += 1
            except ModelYardError as err:
                self.failed.append(str(err))
