"""How does a replica speak HTTP?

Predictions by MLflow's scoring protocol (`/invocations`) and by the Open Inference Protocol
(`/v2/...`); `/live`, `/ready`, `/version`, `/metrics`; and what describes all that, `/openapi.json`
and `/docs`. An ASGI application without a framework: what it needs of one fits in `http`.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from datetime import datetime

from modelyard.serving.api_keys import ApiKeys
from modelyard.serving.batching import Limits
from modelyard.serving.bundle import Bundle
from modelyard.serving.direct import Direct
from modelyard.serving.docs_page import docs_page
from modelyard.serving.http import Answer, Receive, Request, Scope, Send, as_json, read_body
from modelyard.serving.inference_log import InferenceLog, utc_now
from modelyard.serving.inference_protocol import model_metadata, server_metadata
from modelyard.serving.metrics import CONTENT_TYPE, ReplicaMetrics
from modelyard.serving.openapi import describe_service
from modelyard.serving.predicting import Predicting, error_answer
from modelyard.serving.scoring import Scorer

RELEASE_HEADER = b"x-modelyard-release"


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
        self.metrics = ReplicaMetrics(bundle.manifest.version, replica)
        scorer = Scorer(
            bundle, log, self.metrics, replica=replica, clock=clock, limits=self._limits
        )
        self._predicting = Predicting(bundle.manifest, scorer, self.metrics, self._limits, api_keys)
        self.draining = False
        """Set when the replica is about to stop: it is live, but no longer ready."""
        self._usual_headers = [(RELEASE_HEADER, bundle.manifest.version.encode())]
        self._telling = self._tellers(scorer.gives_probabilities, needs_key=api_keys is not None)

    def app(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """Return the ASGI application."""
        return self._serve

    def direct(self, patience_seconds: float = 1.0) -> Direct:
        """Return what a server may hand over without going through the application."""
        takes = dict.fromkeys(map(str.encode, self._predicting.handlers), self._predicting.take)
        return Direct(takes, self._usual_headers, patience_seconds=patience_seconds)

    def _tellers(self, probabilities: bool, needs_key: bool) -> dict[str, Callable[[], Answer]]:
        """Return what is got and tells, by path."""
        manifest = self._bundle.manifest
        model = f"/v2/models/{manifest.model}"
        version = f"{model}/versions/{manifest.version}"
        description = describe_service(
            manifest,
            probabilities=probabilities,
            max_rows=self._limits.rows,
            needs_key=needs_key,
        )
        metadata = model_metadata(
            manifest.contract,
            model=manifest.model,
            version=manifest.version,
            runtime=manifest.runtime,
            probabilities=probabilities,
        )
        described, known = as_json(description), as_json(metadata)
        server = as_json(server_metadata(platform.python_version()))
        page = Answer(docs_page(description).encode(), media_type=b"text/html; charset=utf-8")
        return {
            "/live": self._live,
            "/ready": self._ready,
            "/ping": self._ready,
            "/health": self._ready,
            "/version": self._version,
            "/metrics": self._metrics,
            "/openapi.json": lambda: described,
            "/docs": lambda: page,
            "/v2": lambda: server,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            model: lambda: known,
            version: lambda: known,
            f"{model}/ready": self._ready,
            f"{version}/ready": self._ready,
        }

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if path in self._predicting.handlers and method == "POST":
            query = scope.get("query_string", b"")
            answer = await self._predict(Request(path, query, dict(scope["headers"])), receive)
        else:
            answer = self._tell(path, method)
        headers = [
            (b"content-type", answer.media_type),
            (b"content-length", str(len(answer.body)).encode()),
            *self._usual_headers,
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if method == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    async def _predict(self, request: Request, receive: Receive) -> Answer:
        """Answer a request for predictions, whatever becomes of it."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(answer: Answer) -> None:
            if not answered.done():  # whoever asked may have been cancelled
                answered.set_result(answer)

        if self._predicting.admit(request, reply):
            limits = self._limits
            try:
                body = await read_body(request, receive, limits.body_bytes, limits.seconds)
            except Exception as err:
                self._predicting.refuse(request, err, reply)
            else:
                self._predicting.ask(request, body, reply)
        return await answered

    def _tell(self, path: str, method: str) -> Answer:
        teller = self._telling.get(path)
        if teller is None and path not in self._predicting.handlers:
            return error_answer(404, f"Not Found: {method} {path}.", path)
        if teller is None or method not in ("GET", "HEAD"):
            answer = error_answer(405, f"Method Not Allowed: {method} {path}.", path)
            answer.headers.append((b"allow", b"POST" if teller is None else b"GET, HEAD"))
            return answer
        return teller()

    def _live(self) -> Answer:
        return as_json({"live": True})

    def _ready(self) -> Answer:
        return as_json({"ready": not self.draining}, 503 if self.draining else 200)

    def _version(self) -> Answer:
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

    def _metrics(self) -> Answer:
        return Answer(self.metrics.text(), media_type=CONTENT_TYPE.encode())
