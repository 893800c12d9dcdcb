"""How does a replica speak HTTP?

`/invocations` (MLflow's scoring protocol), `/live`, `/ready`, `/version` and `/metrics`. Requests
are predicted in the event loop: a thread pool only adds waiting for the interpreter's lock.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard.domain.values import ColumnKind, Contract
from modelyard.errors import RequestError
from modelyard.serving.bundle import Bundle
from modelyard.serving.frames import features_frame, read_features
from modelyard.serving.inference_log import InferenceLog, InferenceRecord, utc_now
from modelyard.serving.metrics import CONTENT_TYPE, ReplicaMetrics
from modelyard.serving.payloads import parse_csv, parse_json
from modelyard.serving.predictor import Prediction

MAX_BODY_BYTES = 64 * 2**20
RELEASE_HEADER = "X-ModelYard-Release"
REQUEST_ID_HEADER = "X-Request-Id"

# One absurd event time would stretch the time axis of monitoring over centuries. What was observed
# is not older than the first records kept; what is forecast is at most a (leap) year ahead.
EARLIEST_EVENT = datetime(1900, 1, 1, tzinfo=UTC)
LATEST_EVENT_AHEAD = timedelta(days=366)

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_log = logging.getLogger(__name__)


class Replica:
    """One loaded bundle with its log and counts, behind HTTP."""

    def __init__(
        self,
        bundle: Bundle,
        log: InferenceLog | None,
        *,
        replica: str,
        clock: Callable[[], datetime] = utc_now,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._bundle = bundle
        self._log = log
        self._replica = replica
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self.metrics = ReplicaMetrics(bundle.manifest.version, replica)
        self.draining = False
        """Set when the replica is about to stop: it is live, but no longer ready."""

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/invocations", self._invocations, methods=["POST"]),
                Route("/live", self._live, methods=["GET"]),
                Route("/ready", self._ready, methods=["GET"]),
                Route("/version", self._version, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._http_error},
        )

    async def _invocations(self, request: Request) -> Response:
        given = request.headers.get(REQUEST_ID_HEADER, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        begun = time.perf_counter()
        try:
            body = await self._body(request)
            begun = time.perf_counter()
            status, answer = 200, self._answer(request, body, request_id)
        except RequestError as err:
            status, answer = 400, _error(str(err), err.field)
        except HTTPException as err:
            status, answer = err.status_code, _error(err.detail)
        except ClientDisconnect:
            status, answer = 400, _error("The request ended before its body was complete.")
        except Exception:  # the process boundary: the caller gets no stack trace, the log does
            _log.exception("request %s failed", request_id)
            status = 500
            answer = _error(
                "The model failed on this request. The replica's log says why: look for "
                f"{request_id}."
            )
        self.metrics.request(status, time.perf_counter() - begun)
        return self._respond(answer, status, {REQUEST_ID_HEADER: request_id})

    async def _body(self, request: Request) -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > self._max_body_bytes:
                raise HTTPException(
                    413, f"The body is larger than {self._max_body_bytes} bytes. Send fewer rows."
                )
        return b"".join(parts)

    def _answer(self, request: Request, body: bytes, request_id: str) -> dict[str, Any]:
        contract, predictor = self._bundle.contract, self._bundle.predictor
        with_probabilities = _flag(request, "probabilities")
        if with_probabilities and not predictor.gives_probabilities:
            raise RequestError("This model gives no probabilities.", "probabilities")
        frame = _rows(request, body, contract)
        given = read_features(frame, contract)
        features = features_frame(given, contract, frame.index)
        at = self._clock().astimezone(UTC)
        ids = _ids(frame, contract, request_id)
        times = _times(frame, contract, at)
        said = predictor.predict(given)
        self.metrics.predicted(len(features))
        self._append(request_id, at, ids, times, features, said)
        answer: dict[str, Any] = {"predictions": said.predictions}
        if with_probabilities:
            answer |= {"probabilities": said.probabilities, "classes": contract.classes}
        return answer

    def _append(
        self,
        request_id: str,
        at: datetime,
        ids: list[str],
        times: list[str],
        features: pd.DataFrame,
        said: Prediction,
    ) -> None:
        """Log a request before it is answered."""
        if self._log is None:
            return
        contract = self._bundle.contract
        record = InferenceRecord.model_construct(
            request_id=request_id,
            at=at,
            release=self._bundle.manifest.version,
            replica=self._replica,
            columns=contract.names(),
            ids=ids,
            times=times,
            rows=_json_cells(features, contract),
            predictions=said.predictions,
            probabilities=said.probabilities,
            classes=contract.classes,
            positive=contract.positive,
        )
        try:
            self._log.append(record)
        except OSError:
            # an answer is worth more than its line: the count is what to alert on
            self.metrics.not_logged()
            _log.exception("request %s was answered but not logged", request_id)

    async def _live(self, request: Request) -> Response:
        return self._respond({"live": True})

    async def _ready(self, request: Request) -> Response:
        return self._respond({"ready": not self.draining}, 503 if self.draining else 200)

    async def _version(self, request: Request) -> Response:
        manifest = self._bundle.manifest
        return self._respond(
            {
                "model": manifest.model,
                "release": manifest.version,
                "digest": self._bundle.digest,
                "contract": manifest.contract.model_dump(mode="json"),
                "provenance": manifest.provenance,
                "replica": self._replica,
                "python": platform.python_version(),
            }
        )

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _http_error(self, request: Request, err: Exception) -> Response:
        assert isinstance(err, HTTPException)
        return self._respond(
            _error(f"{err.detail}: {request.method} {request.url.path}."),
            err.status_code,
            dict(err.headers or {}),
        )

    def _respond(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        # an error may quote what no encoding can carry, such as half a surrogate pair
        ascii_only = status >= 400
        return Response(
            json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=ascii_only),
            status,
            {RELEASE_HEADER: self._bundle.manifest.version, **(headers or {})},
            media_type="application/json",
        )


def _rows(request: Request, body: bytes, contract: Contract) -> pd.DataFrame:
    media_type = request.headers.get("Content-Type", "application/json").split(";")[0].strip()
    if media_type.lower() == "application/json":
        return parse_json(body, contract)
    if media_type.lower() == "text/csv":
        return parse_csv(body, contract)
    raise HTTPException(
        415, f"Content-Type {media_type!r} is not known: send application/json or text/csv."
    )


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false"):
        raise RequestError(f"{name} must be true or false, got {text!r}.", name)
    return text == "true"


def _ids(frame: pd.DataFrame, contract: Contract, request_id: str) -> list[str]:
    """Return one id a row: the caller's, or one made of the request's id and the row's number."""
    given = _column(frame, contract.id)
    return [
        f"{request_id}-{row}" if _missing(value) else _id(value, row, contract.id)
        for row, value in enumerate(given)
    ]


def _id(value: Any, row: int, field: str | None) -> str:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise RequestError(
        f"Column {field!r}, row {row}: expected text, an integer or null, got {value!r}.", field
    )


def _times(frame: pd.DataFrame, contract: Contract, at: datetime) -> list[str]:
    """Return one event time a row as ISO 8601 in UTC: the caller's, or when the request came."""
    given = _column(frame, contract.time)
    return [
        at.isoformat() if _missing(value) else _time(value, row, contract.time, at)
        for row, value in enumerate(given)
    ]


def _time(value: Any, row: int, field: str | None, at: datetime) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as err:
        raise RequestError(
            f"Column {field!r}, row {row}: expected a time such as 2024-05-01T12:00:00Z "
            f"or null, got {value!r}.",
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


def _column(frame: pd.DataFrame, name: str | None) -> list[Any]:
    return frame[name].tolist() if name in frame.columns else [None] * len(frame)


def _missing(value: Any) -> bool:
    return value is None or value != value


def _json_cells(features: pd.DataFrame, contract: Contract) -> list[list[float | str | None]]:
    """Return prepared features as n lists of JSON values, null for what is missing."""
    columns = [
        [None if math.isnan(v) else v for v in features[column.name].tolist()]
        if column.kind is ColumnKind.NUMERIC
        else features[column.name].tolist()
        for column in contract.columns
    ]
    return [list(cells) for cells in zip(*columns, strict=True)]


def _error(message: str, field: str | None = None) -> dict[str, Any]:
    return {"error": {"field": field, "message": message}}
