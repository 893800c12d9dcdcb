"""Which windows of a model are to be measured now?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

import numpy as np
import pyarrow as pa

from modelyard.adapters.data.inference_log import TIME
from modelyard.adapters.data.labels import labels_since
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.config.values import RowCount
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.windows import (
    Window,
    counted_windows,
    counting_from,
    due_windows,
    plausible_span,
    until_silence,
    window_of,
)
from modelyard.ledger import RecordedWindow

MOST_WINDOWS = 1000
"""Most new windows of one run; the next run goes on from there."""

REOPENED = 24
"""How many of the last windows, at least, are measured again when rows or labels come late; of
short ones those of a day are."""
_A_DAY = timedelta(days=1)


def new_windows(
    workspace: Workspace, config: ModelConfig, now: datetime, watermark: datetime | None
) -> tuple[Window, ...]:
    """Return the windows after the watermark that have ended in time, oldest first."""
    extent, settled = config.monitoring.window, now - config.monitoring.lateness
    by_count = isinstance(extent, RowCount)
    heard = _heard(workspace, config.name, now, _A_DAY if by_count else extent)
    first = heard[0] if heard else None
    if by_count:
        start = counting_from(watermark, first)
        return () if start is None else _counted(workspace, config.name, start, settled, extent)
    windows = due_windows(
        config.name,
        watermark=watermark,
        as_of=now,
        length=extent,
        first_event=first,
        allowed_lateness=config.monitoring.lateness,
        limit=MOST_WINDOWS,
    )
    return windows if heard is None else until_silence(windows, heard[1])


def reopened_windows(
    workspace: Workspace, model: str, measured: tuple[RecordedWindow, ...], now: datetime
) -> tuple[Window, ...]:
    """Return the measured windows that are to be measured again, oldest first.

    Those of the last ones that got rows or labels since, or about which an interrupted run told
    nobody, and any whose labels were not due yet and are by now.
    """
    labels = workspace.project.label_folder(model)
    of_a_day = sum(measured[-1].end - old.end < _A_DAY for old in measured[-MOST_WINDOWS:])
    first = -max(REOPENED, of_a_day)
    older, last = measured[:first], measured[first:]
    late_rows = workspace.prediction_log(model).late(
        [(old.start, old.end, old.measured_at) for old in last]
    )

    def late_labels(old: RecordedWindow) -> bool:
        return labels_since(labels, old.measured_at)

    again = [old for old in older if _came_due(old, now) and _has_labels(old, late_labels(old))]
    again += [
        old
        for old, has_late_rows in zip(last, late_rows, strict=True)
        if has_late_rows or _unfinished(old, now, late_labels=late_labels(old))
    ]
    return tuple(window_of(model, old.start, old.end) for old in again)


def _counted(
    workspace: Workspace, model: str, start: datetime, settled: datetime, extent: RowCount
) -> tuple[Window, ...]:
    def times(batches: pa.RecordBatchReader) -> Iterator[np.ndarray]:
        for batch in batches:
            yield batch.column(TIME).to_numpy(zero_copy_only=False)

    def windows(batches: pa.RecordBatchReader) -> tuple[Window, ...]:
        found = counted_windows(model, start, times(batches), extent.rows)
        return tuple(islice(found, MOST_WINDOWS))

    return workspace.prediction_log(model).fold(start, settled, windows, columns=[TIME])


def _heard(
    workspace: Workspace, model: str, now: datetime, reach: timedelta
) -> tuple[datetime, datetime] | None:
    """Return the span of logged event times that can be meant."""
    span = workspace.prediction_log(model).span()
    begun = [release.delivery.training.span.start for release in workspace.ledger.releases(model)]
    known = [start for start in begun if start is not None]
    if span is None or not known:
        return span
    return plausible_span(*span, started=min(known), now=now, reach=reach)


def _came_due(old: RecordedWindow, now: datetime) -> bool:
    """Return whether labels of a window are due that were not when it was measured.

    By the stored figures and not by clocks: what is replayed happened long before it is measured.
    """
    told, due_at = old.record["performance"], old.record.get("due_at")
    waited = told.get("due") is not None and told["due"] < told["rows"]
    return waited and due_at is not None and datetime.fromisoformat(due_at) <= now


def _has_labels(old: RecordedWindow, late_labels: bool) -> bool:
    return late_labels or old.record["performance"].get("early", 0) > 0


def _unfinished(old: RecordedWindow, now: datetime, *, late_labels: bool) -> bool:
    record = WindowRecord.model_validate(old.record)
    told = record.performance
    # Labels that came early count from the moment on at which they are due.
    came_due = told.early > 0 and record.due_at is not None and record.due_at <= now
    return not record.told or came_due or (late_labels and told.coverage < 1)
