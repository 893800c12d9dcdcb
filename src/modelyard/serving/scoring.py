"""What happens to rows between a protocol and the model, and back?

Knows no HTTP: rows are validated against the contract, get their ids and event times, are
predicted with whatever else has queued, and are logged before they are answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

import orjson

from modelyard.domain.values import ColumnKind, Contract, Runtime
from modelyard.errors import ModelCodeError, RequestError, TooLargeError
from modelyard.serving.batching import Batcher, Limits, Tell, Waiting
from modelyard.serving.bundle import Bundle
from modelyard.serving.features import Features, PlainRow, Reader
from modelyard.serving.inference_log import InferenceLog
from modelyard.serving.metrics import ReplicaMetrics
from modelyard.serving.predictor import Prediction
from modelyard.serving.rows import Layouts, OneRow, Rows

# One absurd event time would stretch the time axis of monitoring over centuries. What was observed
# is not older than the first records kept; what is forecast is at most a (leap) year ahead.
EARLIEST_EVENT = datetime(1900, 1, 1, tzinfo=UTC)
LATEST_EVENT_AHEAD = timedelta(days=366)

_LEAST_ID, _IDS_END = -(2**63), 2**64
"""Integers that are read exactly; those beyond come as floats, the nearest ones as these two."""

INLINE_ROWS = {Runtime.COMPILED: 2000, Runtime.SKLEARN: 256}
"""Batches that hold up the event loop for a few (compiled) or a few tens of milliseconds."""

_log = logging.getLogger(__name__)


class RefusedRowsError(RequestError):
    """The model does not take a value in these rows; the cause says why."""

    def __init__(self) -> None:
        super().__init__(
            "The model does not take a value in these rows: a category that it never saw, or "
            "a number out of its range."
        )


@dataclass(slots=True, eq=False)
class _Asked(Waiting):
    """A request, with what the log tells of it beside what was said to it."""

    request_id: str
    at: datetime
    ids: Sequence[str | None] | None
    times: Sequence[str | None] | None
    """None where no row has one."""


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
        self.layouts = Layouts(contract)
        """What the columns of requests with one row were called."""
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
        self._log = log
        self._batcher = Batcher[_Asked](
            self._predict,
            limits,
            inline_rows=INLINE_ROWS[bundle.predictor.runtime],
            on_batch=metrics.batch,
            before_telling=self._record,
        )

    @property
    def contract(self) -> Contract:
        return self._contract

    @property
    def gives_probabilities(self) -> bool:
        return self._bundle.predictor.gives_probabilities

    def score(
        self, rows: Rows | OneRow, request_id: str, tell: Tell, *, numeric_text: bool
    ) -> None:
        """Validate, predict and log rows, and then tell what the model says, or why not.

        `tell` gets RefusedRowsError, DeadlineError, or what the model raises. Raises RequestError
        for rows that break the contract, TooLargeError for too many of them, and OverloadedError.
        """
        if rows.count > self._limits.rows:
            raise TooLargeError(
                f"{rows.count:,} rows are more than the {self._limits.rows:,} that one request "
                "may have. Send fewer rows."
            )
        features = self._read(rows, self._readers[numeric_text])
        at = self._clock()
        ids = _given_ids(rows, self._contract)
        times = _given_times(rows, self._contract, at)
        self._batcher.submit(_Asked(features, tell, request_id, at, ids, times))

    def _read(self, rows: Rows | OneRow, reader: Reader) -> Features | PlainRow:
        if rows.count == 1:
            one = rows if isinstance(rows, OneRow) else self._as_one(rows)
            plain = None if one is None else reader.read_plain(one)
            if plain is not None:
                return plain
        return reader.read(rows.cells, rows.count)

    def _as_one(self, rows: Rows) -> OneRow | None:
        layout = self.layouts.of(tuple(rows.cells))
        return layout and OneRow(layout, [column[0] for column in rows.cells.values()])

    def _predict(self, features: Features) -> Prediction:
        try:
            return self._bundle.predictor.predict(features)
        except (ValueError, ModelCodeError) as err:
            # ValueError is what estimators raise about values that they do not take
            cause = err.__cause__ if isinstance(err, ModelCodeError) else err
            if not isinstance(cause, ValueError):
                raise
            raise RefusedRowsError from err

    def _record(self, answered: Sequence[tuple[_Asked, Prediction]]) -> None:
        """Count and log all requests of a batch at once, before the first of them is answered."""
        self._metrics.predicted(sum([asked.rows for asked, _ in answered]))
        if self._log is None or not answered:
            return
        try:
            self._log.append_lines([_line(asked, said, self._order) for asked, said in answered])
        except (OSError, orjson.JSONEncodeError):
            # an answer is worth more than its line: the count is what to alert on
            self._metrics.not_logged(len(answered))
            names = ", ".join(asked.request_id for asked, _ in answered)
            _log.exception("requests %s were answered but not logged", names)


def _line(asked: _Asked, said: Prediction, order: list[int] | None) -> bytes:
    """Return a request's line of the log.

    Rows without an id get one of the request's id and their number, without a time this one.
    """
    request_id, at, ids, times = asked.request_id, asked.at, asked.ids, asked.times
    own_ids = [f"{request_id}-{row}" for row in range(asked.rows)]
    # an InferenceRecord, without what the segment says of all of them; orjson writes a moment as
    # ISO 8601, and null for what is not a number
    record = {
        "request_id": request_id,
        "at": at,
        "ids": own_ids if ids is None else _filled(ids, own_ids),
        "times": [at] * asked.rows if times is None else _filled(times, repeat(at)),
        "rows": _json_cells(asked.features, order),
        "predictions": said.predictions,
        "probabilities": None if said.probabilities is None else said.probabilities.tolist(),
    }
    return orjson.dumps(record)


def _filled(given: Sequence[str | None], own: Iterable[Any]) -> list[Any]:
    """Return what was given, and where nothing was, its own."""
    return [mine if theirs is None else theirs for theirs, mine in zip(given, own, strict=False)]


def _given_ids(rows: Rows | OneRow, contract: Contract) -> Sequence[str | None] | None:
    """Return the caller's id of each row, None for one that has none; None without that column."""
    given = None if contract.id is None else rows.column(contract.id)
    if given is None:
        return None
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


def _given_times(
    rows: Rows | OneRow, contract: Contract, at: datetime
) -> Sequence[str | None] | None:
    """Return the caller's event time of each row as ISO 8601 in UTC, None as in `_given_ids`."""
    given = None if contract.time is None else rows.column(contract.time)
    if given is None:
        return None
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


def _missing(value: Any) -> bool:
    return value is None or value != value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json_cells(
    features: Features | PlainRow, order: list[int] | None
) -> list[list[float | str | None]]:
    """Return features as n lists of values, NaN or None for what is missing.

    `order` says where the contract's columns are among the numeric and then categorical ones.
    """
    if isinstance(features, PlainRow):
        rows = [[*features.numeric, *features.categorical]]
    else:
        pairs = zip(features.numeric.tolist(), features.categorical.tolist(), strict=True)
        rows = [[*numbers, *texts] for numbers, texts in pairs]
    return rows if order is None else [[cells[at] for at in order] for cells in rows]
