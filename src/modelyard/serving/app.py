"""How does a replica speak HTTP?

Predictions by MLflow's scoring protocol (`/invocations`) and by the Open Inference Protocol
(`/v2/...`); `/live`, `/ready`, `/version`, `/metrics`; and what describes all that, `/openapi.json`
and `/docs`. An ASGI application without a framework: what it needs of one fits in `http`.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import platform
import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import orjson

from modelyard.errors import DeadlineError, OverloadedError, RequestError, TooLargeError
from modelyard.serving.api_keys import ApiKeys
from modelyard.serving.batching import Limits
from modelyard.serving.binary_tensors import LENGTH_HEADER, decode_tensors, encode_tensors
from modelyard.serving.bundle import Bundle
from modelyard.serving.docs_page import docs_page
from modelyard.serving.http import Answer, ClientGoneError, Receive, Request, Scope, Send, as_json
from modelyard.serving.inference_log import InferenceLog, utc_now
from modelyard.serving.inference_protocol import (
    PROBABILITIES,
    model_metadata,
    read_inference,
    server_metadata,
    write_inference,
)
from modelyard.serving.metrics import CONTENT_TYPE, ReplicaMetrics
from modelyard.serving.openapi import describe_service
from modelyard.serving.payloads import parse_csv, parse_json
from modelyard.serving.scoring import Scorer

RELEASE_HEADER = b"x-modelyard-release"

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_STATUS: dict[type[Exception], int] = {
    TooLargeError: 413,
    OverloadedError: 429,
    DeadlineError: 504,
    ClientGoneError: 400,
}
_log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Answer]]


class Replica:
    """One loaded bundle with its log and counts, behind HTTP."""

    def __init__(
        self,
        bundle: Bundle,
        log: InferenceLog | None,
        *,
        replica: str,
        clock: Callable[[], datetime] = utc_now,
        limits: Limits | None = None,
        api_keys: ApiKeys | None = None,
    ) -> None:
        self._bundle = bundle
        self._replica = replica
        self._limits = limits or Limits()
        self._api_keys = api_keys
        self._held_bytes = 0
        self._own_id, self._requests = os.urandom(12).hex(), itertools.count()
        self.metrics = ReplicaMetrics(bundle.manifest.version, replica)
        self._scorer = Scorer(
            bundle, log, self.metrics, replica=replica, clock=clock, limits=self._limits
        )
        self.draining = False
        """Set when the replica is about to stop: it is live, but no longer ready."""
        self._usual_headers = [(RELEASE_HEADER, bundle.manifest.version.encode())]
        self._predicting, self._telling = self._routes()

    def app(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """Return the ASGI application."""
        return self._serve

    def _routes(self) -> tuple[dict[str, Handler], dict[str, Handler]]:
        """Return what is posted to and predicts, and what is got and tells, by path."""
        manifest = self._bundle.manifest
        model = f"/v2/models/{manifest.model}"
        version = f"{model}/versions/{manifest.version}"
        description = describe_service(
            manifest,
            probabilities=self._scorer.gives_probabilities,
            max_rows=self._limits.rows,
            needs_key=self._api_keys is not None,
        )
        metadata = model_metadata(
            manifest.contract,
            model=manifest.model,
            version=manifest.version,
            runtime=manifest.runtime,
            probabilities=self._scorer.gives_probabilities,
        )
        page = Answer(docs_page(description).encode(), media_type=b"text/html; charset=utf-8")
        predicting: dict[str, Handler] = {
            "/invocations": self._invocations,
            # where `mlflow.deployments` asks a server that has several models
            f"/endpoints/{manifest.model}/invocations": self._invocations,
            f"{model}/infer": self._infer,
            f"{version}/infer": self._infer,
        }
        telling: dict[str, Handler] = {
            "/live": self._live,
            "/ready": self._ready,
            "/ping": self._ready,
            "/health": self._ready,
            "/version": self._version,
            "/metrics": self._metrics,
            "/openapi.json": _always(as_json(description)),
            "/docs": _always(page),
            "/v2": _always(as_json(server_metadata(platform.python_version()))),
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            model: _always(as_json(metadata)),
            version: _always(as_json(metadata)),
            f"{model}/ready": self._ready,
            f"{version}/ready": self._ready,
        }
        return predicting, telling

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive, dict(scope["headers"]))
        path, method = scope["path"], scope["method"]
        handler = self._predicting.get(path)
        if handler is not None and method == "POST":
            answer = await self._predict(handler, request)
        else:
            answer = await self._tell(path, method, request)
        headers = [
            (b"content-type", answer.media_type),
            (b"content-length", str(len(answer.body)).encode()),
            *self._usual_headers,
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if method == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    def _next_id(self) -> str:
        """Return an id that no other request has, of this replica or another."""
        return f"{self._own_id}-{next(self._requests):x}"

    async def _tell(self, path: str, method: str, request: Request) -> Answer:
        handler = self._telling.get(path)
        if handler is None and path not in self._predicting:
            return self._error(404, f"Not Found: {method} {path}.", request)
        if handler is None or method not in ("GET", "HEAD"):
            answer = self._error(405, f"Method Not Allowed: {method} {path}.", request)
            answer.headers.append((b"allow", b"POST" if handler is None else b"GET, HEAD"))
            return answer
        return await handler(request)

    async def _predict(self, handler: Handler, request: Request) -> Answer:
        """Answer a request for predictions, whatever becomes of it."""
        begun = time.perf_counter()
        given = request.header(b"x-request-id")
        request.id = given if given and _REQUEST_ID.fullmatch(given) else self._next_id()
        keys = self._api_keys
        if keys is not None and not keys.allow(request.header(b"authorization")):
            answer = self._error(401, "An API key is needed: Authorization: Bearer KEY.", request)
            answer.headers.append((b"www-authenticate", b"Bearer"))
        else:
            try:
                answer = await handler(request)
            except Exception as err:
                answer = self._refusal(err, request)
            finally:
                self._held_bytes -= request.held_bytes
        answer.headers.append((b"x-request-id", request.id.encode()))
        self.metrics.request(answer.status, time.perf_counter() - begun)
        return answer

    def _refusal(self, err: Exception, request: Request) -> Answer:
        """Return the answer to a request that failed: the caller gets no stack trace."""
        if isinstance(err, RequestError):
            return self._error(400, str(err), request, err.field)
        for kind, status in _STATUS.items():
            if isinstance(err, kind):
                answer = self._error(status, str(err), request)
                if status == 429:
                    answer.headers.append((b"retry-after", b"1"))
                return answer
        _log.error("request %s failed", request.id, exc_info=err)
        return self._error(
            500,
            f"The model failed on this request. The replica's log says why: look for {request.id}.",
            request,
        )

    async def _invocations(self, request: Request) -> Answer:
        """MLflow's scoring protocol."""
        media_type = request.headers.get(b"content-type", b"application/json")
        is_json = media_type == b"application/json"
        if not is_json:
            name = media_type.partition(b";")[0].strip().lower()
            is_json = name == b"application/json"
            if not is_json and name != b"text/csv":
                shown = name.decode("latin-1")[:60]
                return self._error(
                    415,
                    f"Content-Type {shown!r} is not known: send application/json or text/csv.",
                    request,
                )
        with_probabilities = self._wants_probabilities(request.flag("probabilities"))
        contract = self._scorer.contract
        body = await self._read(request)
        rows = parse_json(body, contract) if is_json else parse_csv(body)
        said = await self._scorer.score(rows, request.id, numeric_text=True)
        content: dict[str, Any] = {"predictions": said.predictions}
        if with_probabilities and said.probabilities is not None:
            content["probabilities"] = said.probabilities.tolist()
            content["classes"] = contract.classes
        return as_json(content)

    async def _infer(self, request: Request) -> Answer:
        """The Open Inference Protocol."""
        manifest = self._bundle.manifest
        length = request.header(LENGTH_HEADER.lower().encode())
        tensors = decode_tensors(await self._read(request), length)
        asked = read_inference(tensors, manifest.contract)
        self._wants_probabilities(PROBABILITIES in asked.outputs)
        if asked.identity is not None and _REQUEST_ID.fullmatch(asked.identity):
            request.id = asked.identity
        said = await self._scorer.score(asked.rows, request.id, numeric_text=False)
        content = write_inference(
            said,
            manifest.contract,
            model=manifest.model,
            version=manifest.version,
            identity=asked.identity or request.id,
            outputs=asked.outputs,
        )
        if not asked.binary:
            return as_json(content)
        body, json_length = encode_tensors(content, asked.binary)
        told = (LENGTH_HEADER.lower().encode(), str(json_length).encode())
        return Answer(body, media_type=b"application/octet-stream", headers=[told])

    async def _read(self, request: Request) -> bytes:
        """Return the body, or raise OverloadedError when others hold as much as there may be."""
        limits = self._limits
        if self._held_bytes > limits.held_bytes:
            raise OverloadedError("Too many large requests wait already: try again in a second.")
        body = await request.body(limits.body_bytes, limits.seconds)
        request.held_bytes = len(body)
        self._held_bytes += request.held_bytes
        return body

    def _wants_probabilities(self, wanted: bool) -> bool:
        if wanted and not self._scorer.gives_probabilities:
            raise RequestError("This model gives no probabilities.", "probabilities")
        return wanted

    async def _live(self, request: Request) -> Answer:
        return as_json({"live": True})

    async def _ready(self, request: Request) -> Answer:
        return as_json({"ready": not self.draining}, 503 if self.draining else 200)

    async def _version(self, request: Request) -> Answer:
        manifest = self._bundle.manifest
        return as_json(
            {
                "model": manifest.model,
                "release": manifest.version,
                "digest": self._bundle.digest,
                "runtime": manifest.runtime,
                "runtime_reason": manifest.runtime_reason,
                "contract": manifest.contract.model_dump(mode="json"),
                "provenance": manifest.provenance,
                "replica": self._replica,
                "python": platform.python_version(),
            }
        )

    async def _metrics(self, request: Request) -> Answer:
        return Answer(self.metrics.text(), media_type=CONTENT_TYPE.encode())

    def _error(
        self, status: int, message: str, request: Request, field: str | None = None
    ) -> Answer:
        """Return an error; the Open Inference Protocol wants it as plain text."""
        plain = request.scope["path"].startswith("/v2")
        content = {"error": message if plain else {"field": field, "message": message}}
        try:
            return as_json(content, status)
        except orjson.JSONEncodeError:
            # an error may quote what no encoding can carry, such as half a surrogate pair
            return Answer(json.dumps(content).encode(), status)


def _always(answer: Answer) -> Handler:
    async def handler(request: Request) -> Answer:
        return answer

    return handler
