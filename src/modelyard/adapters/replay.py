"""How is history sent again as live traffic, with labels that come when they really came?"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from modelyard.adapters.client import ServiceClient
from modelyard.adapters.data.inference_log import ID
from modelyard.adapters.data.labels import store_labels
from modelyard.adapters.data.sources import matured_by, read_rows
from modelyard.adapters.data.times import as_datetime64
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.releases import Release
from modelyard.domain.windows import Window, counted_windows, due_windows, window_of
from modelyard.errors import DataError, InvalidInputError, ServiceUnavailableError

BATCH_ROWS = 100
TRICKLE_PER_SECOND = 10.0
"""Requests a second, one row each, while a flow is at work: traffic must not stop then."""


@dataclass
class Traffic:
    """What was sent and answered so far."""

    rows: int = 0
    requests: int = 0
    failed: int = 0
    served: Counter[str] = field(default_factory=Counter)
    """Rows by the release that answered."""


class Replay:
    """One file's rows in time order against the live service of a model."""

    def __init__(
        self,
        workspace: Workspace,
        config: ModelConfig,
        champion: Release,
        url: str,
        *,
        source: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        speed: float | None = None,
    ) -> None:
        """Read the rows from `start` on: by default those newer than what the champion was judged
        on, or where there is none, the ones that it was judged on.

        `speed` is how many times faster than real time rows are sent; None is as fast as the
        service answers. Raises DataError where no row is left.
        """
        if config.data.time is None:
            raise InvalidInputError(
                f"{config.name} has no time column to replay by. Name one in data.time."
            )
        self._workspace = workspace
        self._config = config
        self._contract = champion.delivery.contract
        self._url = url
        self._speed = speed
        self._time = config.data.time
        self._session = uuid.uuid4().hex[:8]
        self._flow_at_work = threading.Event()
        self.traffic = Traffic()
        self.rows = self._read(source, start, end, champion)
        learnt_until = champion.learnt.span.end
        self.learnt = (
            0 if learnt_until is None else int((self.rows[self._time] <= learnt_until).sum())
        )
        """Rows that the champion has learnt: its errors on them say nothing."""
        self._sent_as = self._sent_before()
        self.sent_before = int(self._sent_as.notna().sum())
        self._labelled = pd.Series(False, index=self.rows.index)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The monitoring windows that the rows fall into; the last one may be short of rows.

        Windows of so many rows are counted from the first row here, and by monitoring from where
        its last window ended: there may be a few rows between.
        """
        extent, times = self._config.monitoring.window, self.rows[self._time]
        first, newest = times.iloc[0].to_pydatetime(), times.iloc[-1].to_pydatetime()
        if isinstance(extent, timedelta):
            return due_windows(
                self._config.name,
                watermark=None,
                as_of=newest + extent + timedelta(microseconds=1),
                length=extent,
                first_event=first,
            )
        whole = tuple(
            counted_windows(self._config.name, first, [as_datetime64(times)], extent.rows)
        )
        begun, after = whole[-1].end if whole else first, newest + timedelta(microseconds=1)
        return (*whole, window_of(self._config.name, begun, after)) if begun < after else whole

    def fills(self, window: Window) -> bool:
        """Return whether the rows reach over at least half of a window, or are all that it takes.

        One that the replay cuts off earlier would be told from its volume that data were lost.
        """
        extent = self._config.monitoring.window
        if not isinstance(extent, timedelta):
            return self._inside(window).sum() >= extent.rows
        reach: pd.Timestamp = self.rows[self._time].max()
        return reach - window.start >= (window.end - window.start) / 2

    def flow_at_work(self, working: bool) -> None:
        """Say whether a flow runs: while one does, rows trickle and do not stop."""
        if working:
            self._flow_at_work.set()
        else:
            self._flow_at_work.clear()

    def send(self, window: Window) -> None:
        """Send one window's rows, and count what failed: nothing is sent twice."""
        chosen = self.rows[self._inside(window) & self._sent_as.isna()]
        began, first = time.monotonic(), window.start
        with ServiceClient(self._url, self._contract) as client:
            place = 0
            while place < len(chosen):
                at_work = self._flow_at_work.is_set()
                batch = chosen.iloc[place : place + (1 if at_work else BATCH_ROWS)]
                self._pace(batch[self._time].iloc[0], first, began, at_work)
                self._send(client, batch)
                place += len(batch)

    def load_labels(self, by: datetime) -> int:
        """Load the labels of rows that were sent which became known by then; return how many.

        One that is known at the moment at which its window begins waits until its row was sent.
        """
        known = matured_by(self.rows, self._config.data)
        chosen = known.notna() & (known <= by) & self._sent_as.notna() & ~self._labelled
        self._labelled |= chosen
        return store_labels(
            self._workspace.project.label_folder(self._config.name),
            self._sent_as[chosen],
            self.rows.loc[chosen, self._config.data.target],
            known[chosen],
        )

    def _inside(self, window: Window) -> pd.Series:
        times = self.rows[self._time]
        return (times >= window.start) & (times < window.end)

    def _sent_before(self) -> pd.Series:
        """Return the ids of the rows that the log has already, None for the others.

        A replay that was interrupted goes on: rows that stood in the log twice would be told as a
        fault of the data. Without a column of ids no row can be known again.
        """
        unsent = pd.Series([None] * len(self.rows), dtype=object)
        key = self._config.data.id
        if key is None:
            return unsent
        times = self.rows[self._time]
        end = times.max().to_pydatetime() + timedelta(microseconds=1)
        log = self._workspace.prediction_log(self._config.name)
        logged = log.read(times.min().to_pydatetime(), end, columns=[ID])
        ids = self.rows[key].astype(str)
        return unsent.mask(ids.isin(set(logged[ID])), ids)

    def _send(self, client: ServiceClient, batch: pd.DataFrame) -> None:
        self.traffic.requests += 1
        request_id = f"{self._session}-{batch.index[0]}"
        try:
            answer = client.predict(batch, request_id)
        except ServiceUnavailableError:
            self.traffic.failed += 1
            return
        self.traffic.rows += len(batch)
        self.traffic.served[answer.release] += len(batch)
        # What a replica logs a row as: its own id, or the request's with the row's number.
        key = self._config.data.id
        self._sent_as[batch.index] = (
            [f"{request_id}-{number}" for number in range(len(batch))]
            if key is None
            else batch[key].astype(str)
        )

    def _pace(self, now: datetime, first: datetime, began: float, at_work: bool) -> None:
        if at_work:
            time.sleep(1.0 / TRICKLE_PER_SECOND)
        elif self._speed is not None:
            due = began + (now - first).total_seconds() / self._speed
            time.sleep(max(0.0, due - time.monotonic()))

    def _read(
        self, source: str | None, start: datetime | None, end: datetime | None, champion: Release
    ) -> pd.DataFrame:
        data = self._config.data
        if source is not None:
            data = data.model_copy(update={"source": source, "query": None})
        root: Path = self._workspace.project.root
        rows = read_rows(data, root=root, task=self._config.task)
        rows = rows.sort_values(self._time, kind="stable", ignore_index=True)
        delivery = champion.delivery
        seen = start or delivery.holdout.span.end
        if start is None and not (rows[self._time] > seen).any():
            seen = delivery.training.span.end
        rows = rows[rows[self._time] >= seen if start else rows[self._time] > seen]
        if end is not None:
            rows = rows[rows[self._time] < end]
        if rows.empty:
            raise DataError(
                f"{data.source} has no row between {seen} and {end or 'its end'} to replay. "
                f"Release {champion.version} was trained on what came before; deliver with --as-of "
                "an earlier time, or give --from."
            )
        return rows.reset_index(drop=True)
