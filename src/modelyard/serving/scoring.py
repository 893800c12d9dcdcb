"""What happens to rows between a protocol and the model, and back?

Knows no HTTP: rows are validated against the contract, get their ids and event times, are
predicted with whatever else has queued, and are logged before they are answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import orjson

from modelyard.domain.values import ColumnKind, Contract, Runtime
from modelyard.errors import (
    DeadlineError,
    ModelCodeError,
    OverloadedError,
    RequestError,
    TooLargeError,
)
from modelyard.serving.batching import Batcher, Limits
from modelyard.serving.bundle import Bundle
from modelyard.serving.features import Features, Reader
from modelyard.serving.inference_log import InferenceLog
from modelyard.serving.metrics import ReplicaMetrics
from modelyard.serving.payloads import Rows
from modelyard.serving.predictor import Prediction

# One absurd event time would stretch the time axis of monitoring over centuries. What was observed
# is not older than the first records kept; what is forecast is at most a (leap) year ahead.
EARLIEST_EVENT = datetime(1900, 1, 1, tzinfo=UTC)
LATEST_EVENT_AHEAD = timedelta(days=366)

_LEAST_ID, _IDS_END = -(2**63), 2**64
"""Integers that are read exactly; those beyond come as floats, the nearest ones as these two."""

INLINE_ROWS = {Runtime.COMPILED: 2000, Runtime.SKLEARN: 256}
"""Batches that hold up the event loop for a few (compiled) or a few tens of milliseconds."""

_log = logging.getLogger(__name__)


class _Asked(NamedTuple):
    """What the log tells of a request beside what was said to it."""

    request_id: str
    at: datetime
    ids: Sequence[str | None]
    times: Sequence[str | None]
    features: Features


class Scorer:
    """One loaded bundle with its log and counts."""

    def __init__(
        self,
        bundle: Bundle,
        log: InferenceLog | None,
        metrics: ReplicaMetrics,
        *,
        replica: str,
        clock: Callable[[], datetime],
        limits: Limits,
    ) -> None:
        self._bundle = bundle
        contract = self._contract = bundle.contract
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        if log is not None:
            log.describe(contract, replica)
        not_null = bundle.manifest.not_null
        names = (*contract.names(ColumnKind.NUMERIC), *contract.names(ColumnKind.CATEGORICAL))
        order = [names.index(name) for name in contract.names()]
        self._order = None if order == sorted(order) else order
        self._readers = {
            text: Reader(bundle.contract, not_null=not_null, numeric_text=text)
            for text in (False, True)
        }
        self._batcher = Batcher(
            bundle.predictor.predict,
            limits,
            inline_rows=INLINE_ROWS[bundle.predictor.runtime],
            on_batch=metrics.batch,
            before_answers=None if log is None else partial(self._write_log, log),
        )

    @property
    def contract(self) -> Contract:
        return self._contract

    @property
    def gives_probabilities(self) -> bool:
        return self._bundle.predictor.gives_probabilities

    async def score(self, rows: Rows, request_id: str, *, numeric_text: bool) -> Prediction:
        """Validate, predict and log rows.

        Raises RequestError for rows that break the contract, TooLargeError for too many of them,
        OverloadedError and DeadlineError like `Batcher.predict`.
        """
        if rows.count > self._limits.rows:
            raise TooLargeError(
                f"{rows.count:,} rows are more than the {self._limits.rows:,} that one request "
                "may have. Send fewer rows."
            )
        features = self._readers[numeric_text].read(rows.cells, rows.count)
        at = self._clock()
        ids = _given_ids(rows, self._contract)
        times = _given_times(rows, self._contract, at)
        try:
            said = await self._batcher.predict(
                features, _Asked(request_id, at, ids, times, features)
            )
        except (OverloadedError, DeadlineError):
            raise
        except (ValueError, ModelCodeError) as err:
            # ValueError is what estimators raise about values that they do not take
            if not isinstance(
                err.__cause__ if isinstance(err, ModelCodeError) else err, ValueError
            ):
                raise
            _log.info("request %s: the model refused its rows: %s", request_id, err)
            raise RequestError(
                "The model does not take a value in these rows: a category that it never saw, or "
                "a number out of its range."
            ) from err
        self._metrics.predicted(rows.count)
        return said

    def _write_log(self, log: InferenceLog, answered: Sequence[tuple[_Asked, Prediction]]) -> None:
        """Log all requests of a batch at once, before the first of them is answered."""
        try:
            log.append_lines([_line(asked, said, self._order) for asked, said in answered])
        except (OSError, orjson.JSONEncodeError):
            # an answer is worth more than its line: the count is what to alert on
            self._metrics.not_logged(len(answered))
            names = ", ".join(asked.request_id for asked, _ in answered)
            _log.exception("requests %s were answered but not logged", names)


def _line(asked: _Asked, said: Prediction, order: list[int] | None) -> bytes:
    """Return a request's line of the log.

    Rows without an id get one of the request's id and their number, without a time this one.
    """
    request_id = asked.request_id
    # an InferenceRecord, without what the segment says of all of them; orjson writes a moment as
    # ISO 8601, and null for what is not a number
    return orjson.dumps(
        {
            "request_id": request_id,
            "at": asked.at,
            "ids": [f"{request_id}-{row}" if i is None else i for row, i in enumerate(asked.ids)],
            "times": [asked.at if time is None else time for time in asked.times],
            "rows": _json_cells(asked.features, order),
            "predictions": said.predictions,
            "probabilities": None if said.probabilities is None else said.probabilities.tolist(),
        }
    )


def _given_ids(rows: Rows, contract: Contract) -> Sequence[str | None]:
    """Return the caller's id of each row, None for one that has none."""
    given = _column(rows, contract.id)
    if given is None:
        return (None,) * rows.count
    return [
        None if _missing(value) else _id(value, row, contract.id) for row, value in enumerate(given)
    ]


def _id(value: Any, row: int, field: str | None) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    # pandas makes an integer column with a missing value one of floats
    if isinstance(value, float) and value.is_integer() and _LEAST_ID < value < _IDS_END:
        return str(int(value))
    raise RequestError(
        f"Column {field!r}, row {row}: expected text, an integer or null, got {_shown(value)}.",
        field,
    )


def _given_times(rows: Rows, contract: Contract, at: datetime) -> Sequence[str | None]:
    """Return the caller's event time of each row as ISO 8601 in UTC, None for one without."""
    given = _column(rows, contract.time)
    if given is None:
        return (None,) * rows.count
    return [
        None if _missing(value) else _time(value, row, contract.time, at)
        for row, value in enumerate(given)
    ]


def _time(value: Any, row: int, field: str | None, at: datetime) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as err:
        raise RequestError(
            f"Column {field!r}, row {row}: expected a time such as 2024-05-01T12:00:00Z "
            f"or null, got {_shown(value)}.",
            field,
        ) from err
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    latest = at + LATEST_EVENT_AHEAD
    # compared before it is converted: the calendar's first and last hours overflow in UTC
    if not EARLIEST_EVENT <= moment <= latest:
        raise RequestError(
            f"Column {field!r}, row {row}: expected a time from {EARLIEST_EVENT.isoformat()} to "
            f"{latest.isoformat()} ({LATEST_EVENT_AHEAD.days} days from now), got {value!r}.",
            field,
        )
    return moment.astimezone(UTC).isoformat()


def _column(rows: Rows, name: str | None) -> Sequence[Any] | None:
    return None if name is None else rows.cells.get(name)


def _missing(value: Any) -> bool:
    return value is None or value != value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json_cells(features: Features, order: list[int] | None) -> list[list[float | str | None]]:
    """Return features as n lists of values, NaN or None for what is missing.

    `order` says where the contract's columns are among the numeric and then categorical ones.
    """
    numeric: list[list[Any]] = features.numeric.tolist()
    if not features.categorical.shape[1]:
        return numeric
    pairs = zip(numeric, features.categorical.tolist(), strict=True)
    rows = [[*numbers, *texts] for numbers, texts in pairs]
    return rows if order is None else [[cells[at] for at in order] for cells in rows]
