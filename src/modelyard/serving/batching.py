"""How are concurrent requests predicted together, without anybody waiting for a timer?

What has queued while the last batch was predicted is the next batch. A small one is predicted in
the event loop: a thread only adds waiting for the interpreter's lock. A large one goes to the one
worker thread, so that probes and refusals are still answered meanwhile.

Of many clients that ask again as soon as they are answered, some would always wait while the others
are predicted, and batches would stay half as large as they could be. So a batch that follows a
shared one waits until as many have asked again, for a quarter of what that one took and never more
than 5 ms: whoever is alone never waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, TypeVar

from modelyard.domain.values import ReplicaLimits
from modelyard.errors import DeadlineError, OverloadedError
from modelyard.serving.features import Features, PlainRow, join
from modelyard.serving.predictor import Prediction

_log = logging.getLogger(__name__)

Predict = Callable[[Features], Prediction]

_PATIENCE = 0.25
"""Of the time that the last batch took."""
_LONGEST_PATIENCE = 0.005
"""Seconds. Who asks again at once has done so by then, however slow the model is; the event loop
turns meanwhile without a rest."""


class Limits(ReplicaLimits):
    """What a replica takes on before it says that it is busy."""

    held_bytes: int = 256 * 2**20
    """Of all bodies together that are read or wait."""
    batch_rows: int = 4096
    """A request with more of them is a batch of its own."""


Tell = Callable[[Prediction | Exception], None]
"""Called once, with what the model says about a request's rows, or why it says nothing."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that waits for its prediction."""

    features: Features | PlainRow
    tell: Tell
    rows: int = field(init=False, default=0)
    deadline: float = field(init=False, default=math.inf)
    """By the event loop's clock."""
    told: bool = field(init=False, default=False)


W = TypeVar("W", bound=Waiting)


class Batcher(Generic[W]):
    """Predicts for many at once, each as if it were alone."""

    def __init__(
        self,
        predict: Predict,
        limits: Limits,
        *,
        inline_rows: int,
        on_batch: Callable[[int, int], None] = lambda requests, rows: None,
        before_telling: Callable[[Sequence[tuple[W, Prediction]]], None] = lambda answered: None,
    ) -> None:
        """A batch of up to `inline_rows` is predicted in the event loop.

        `on_batch` hears of the requests and rows of each batch, `before_telling` of who is told
        what, before the first of them is; neither must raise.
        """
        self._predict = predict
        self._limits = limits
        self._inline_rows = inline_rows
        self._on_batch = on_batch
        self._before_telling = before_telling
        self._waiting: deque[W] = deque()
        self._busy = False
        self._expected = 0
        """How many may ask again soon, and until when that is waited for."""
        self._not_before = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="predict")

    def submit(self, request: W) -> None:
        """Have a request told what the model says, DeadlineError, or what the model raises.

        Raises OverloadedError when too many wait already.
        """
        if len(self._waiting) >= self._limits.waiting:
            raise OverloadedError(
                f"{len(self._waiting)} requests wait already: try again in a second."
            )
        loop = self._running()
        request.rows = len(request.features)
        request.deadline = loop.time() + self._limits.seconds
        self._waiting.append(request)
        if not self._busy:
            self._busy = True
            # not at once: what other connections have sent already is read first
            loop.call_soon(self._gather)

    def _running(self) -> asyncio.AbstractEventLoop:
        """Return the event loop; before Python 3.12 to ask for it is a system call each time."""
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
        return self._loop

    def close(self) -> None:
        self._worker.shutdown(wait=False)

    def _gather(self) -> None:
        """Begin with a batch, once those who were just answered ask again, or could have."""
        if len(self._waiting) < self._expected and perf_counter() < self._not_before:
            self._running().call_soon(self._gather)
        else:
            self._drain()

    def _drain(self) -> None:
        loop = self._running()
        batch, rows = self._next_batch(loop.time())
        if not batch:
            self._busy = False
            return
        self._on_batch(len(batch), rows)
        if rows <= self._inline_rows:
            begun = perf_counter()
            self._answer(batch, self._run(batch))
            if len(batch) > 1:
                ended = perf_counter()
                self._expected = len(batch)
                self._not_before = ended + min(_PATIENCE * (ended - begun), _LONGEST_PATIENCE)
            if self._waiting:
                loop.call_soon(self._drain)
            else:
                self._busy = False
            return
        watch = loop.call_at(batch[0].deadline, self._expire, batch)
        job = loop.run_in_executor(self._worker, self._run, batch)

        def done(finished: asyncio.Future[list[Prediction | Exception]]) -> None:
            watch.cancel()
            self._answer(batch, finished.result())
            self._drain()

        job.add_done_callback(done)

    def _next_batch(self, now: float) -> tuple[list[W], int]:
        """Return requests that are predicted together, and how many rows they have."""
        batch: list[W] = []
        rows = 0
        while self._waiting:
            request = self._waiting[0]
            if batch and rows + request.rows > self._limits.batch_rows:
                break
            self._waiting.popleft()
            if request.told:
                continue
            if now > request.deadline:
                self._tell(request, self._too_late())
                continue
            batch.append(request)
            rows += request.rows
        return batch, rows

    def _run(self, batch: list[W]) -> list[Prediction | Exception]:
        """Return for each request what the model says, or what it raises about these rows."""
        try:
            said = self._predict(join([request.features for request in batch]))
        except Exception as err:
            if len(batch) == 1:
                return [err]
            # The others have done nothing wrong: halving finds who has in a few predictions,
            # where one for each request would hold up a thousand of them.
            middle = len(batch) // 2
            return [*self._run(batch[:middle]), *self._run(batch[middle:])]
        parts: list[Prediction | Exception] = []
        start = 0
        for request in batch:
            end = start + request.rows
            parts.append(said.part(start, end))
            start = end
        return parts

    def _answer(self, batch: list[W], said: list[Prediction | Exception]) -> None:
        pairs = [pair for pair in zip(batch, said, strict=True) if not pair[0].told]
        self._before_telling([(r, a) for r, a in pairs if isinstance(a, Prediction)])
        for request, answer in pairs:
            self._tell(request, answer)

    def _tell(self, request: W, answer: Prediction | Exception) -> None:
        request.told = True
        try:
            request.tell(answer)
        except Exception:  # the others are told, and the next batch is begun with
            _log.exception("a request was not told its prediction")

    def _expire(self, batch: list[W]) -> None:
        """Tell those whose time is up while a thread is busy, and look again for the next ones."""
        now = self._running().time()
        waiting = [r for r in (*batch, *self._waiting) if not r.told]
        late = [r for r in waiting if r.deadline <= now]
        for request in late:
            self._tell(request, self._too_late())
        left = [r.deadline for r in waiting if not r.told]
        if left and self._busy:
            self._running().call_at(min(left), self._expire, batch)

    def _too_late(self) -> DeadlineError:
        return DeadlineError(
            f"The prediction took longer than {self._limits.seconds:g} s. Send fewer rows, or try "
            "again when there is less to do."
        )
