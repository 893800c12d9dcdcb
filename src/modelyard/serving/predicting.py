"""What becomes of a request for predictions, in either protocol?

Whoever has read a request asks here with a way to reply, and is replied to once: at once where it
is refused, else when its batch was predicted.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from modelyard.errors import DeadlineError, OverloadedError, RequestError, TooLargeError
from modelyard.serving.api_keys import ApiKeys
from modelyard.serving.batching import Limits
from modelyard.serving.binary_tensors import LENGTH_HEADER, decode_tensors, encode_tensors
from modelyard.serving.bundle import Manifest
from modelyard.serving.http import Answer, ClientGoneError, Reply, Request, as_json, too_large
from modelyard.serving.inference_protocol import PROBABILITIES, read_inference, write_inference
from modelyard.serving.metrics import ReplicaMetrics
from modelyard.serving.payloads import parse_csv, parse_json
from modelyard.serving.predictor import Prediction
from modelyard.serving.scoring import RefusedRowsError, Scorer

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_LENGTH_HEADER = LENGTH_HEADER.lower().encode()
_log = logging.getLogger(__name__)

Write = Callable[[Prediction], Answer]
Handler = Callable[[Request, bytes, Reply], None]


class MediaTypeError(Exception):
    """A body of a kind that is not known."""


_STATUS: dict[type[Exception], int] = {
    MediaTypeError: 415,
    TooLargeError: 413,
    OverloadedError: 429,
    DeadlineError: 504,
    ClientGoneError: 400,
}


class Predicting:
    """Both protocols of one loaded bundle."""

    def __init__(
        self,
        manifest: Manifest,
        scorer: Scorer,
        metrics: ReplicaMetrics,
        limits: Limits,
        api_keys: ApiKeys | None,
    ) -> None:
        self._manifest = manifest
        self._scorer = scorer
        self._metrics = metrics
        self._limits = limits
        self._api_keys = api_keys
        self._held_bytes = 0
        self._own_id, self._requests = os.urandom(12).hex(), itertools.count()
        model = f"/v2/models/{manifest.model}"
        self.handlers: dict[str, Handler] = {
            "/invocations": self._invocations,
            # where `mlflow.deployments` asks a server that has several models
            f"/endpoints/{manifest.model}/invocations": self._invocations,
            f"{model}/infer": self._infer,
            f"{model}/versions/{manifest.version}/infer": self._infer,
        }
        """What is posted to, by path."""

    def take(self, request: Request, body: bytes, reply: Reply) -> None:
        """Answer a request whose body is there already."""
        if self.admit(request, reply):
            self.ask(request, body, reply)

    def admit(self, request: Request, reply: Reply) -> bool:
        """Begin with a request; replies to one whose body need not be read."""
        request.begun = time.perf_counter()
        given = request.header(b"x-request-id")
        request.id = given if given and _REQUEST_ID.fullmatch(given) else self._next_id()
        keys = self._api_keys
        if keys is not None and not keys.allow(request.header(b"authorization")):
            needed = "An API key is needed: Authorization: Bearer KEY."
            answer = error_answer(401, needed, request.path)
            answer.headers.append((b"www-authenticate", b"Bearer"))
            self._finish(request, answer, reply)
            return False
        if self._held_bytes > self._limits.held_bytes:
            busy = "Too many large requests wait already: try again in a second."
            self.refuse(request, OverloadedError(busy), reply)
            return False
        return True

    def ask(self, request: Request, body: bytes, reply: Reply) -> None:
        """Answer a request that was admitted, and whose body was read."""
        request.held_bytes = len(body)
        self._held_bytes += request.held_bytes
        try:
            if len(body) > self._limits.body_bytes:
                raise too_large(self._limits.body_bytes)
            self.handlers[request.path](request, body, reply)
        except Exception as err:
            self.refuse(request, err, reply)

    def refuse(self, request: Request, err: Exception, reply: Reply) -> None:
        """Answer a request that failed."""
        self._finish(request, self._refusal(request, err), reply)

    def _finish(self, request: Request, answer: Answer, reply: Reply) -> None:
        self._held_bytes -= request.held_bytes
        answer.headers.append((b"x-request-id", request.id.encode()))
        self._metrics.request(answer.status, time.perf_counter() - request.begun)
        reply(answer)

    def _next_id(self) -> str:
        """Return an id that no other request has, of this replica or another."""
        return f"{self._own_id}-{next(self._requests):x}"

    def _invocations(self, request: Request, body: bytes, reply: Reply) -> None:
        """MLflow's scoring protocol."""
        contract = self._scorer.contract
        with_probabilities = self._wants_probabilities(request.flag("probabilities"))
        if _is_json(request):
            rows = parse_json(body, contract, self._scorer.layouts)
        else:
            rows = parse_csv(body)

        def write(said: Prediction) -> Answer:
            content: dict[str, Any] = {"predictions": said.predictions}
            if with_probabilities and said.probabilities is not None:
                content["probabilities"] = said.probabilities.tolist()
                content["classes"] = contract.classes
            return as_json(content)

        tell = partial(self._tell, request, write, reply)
        self._scorer.score(rows, request.id, tell, numeric_text=True)

    def _infer(self, request: Request, body: bytes, reply: Reply) -> None:
        """The Open Inference Protocol."""
        manifest = self._manifest
        tensors = decode_tensors(body, request.header(_LENGTH_HEADER))
        asked = read_inference(tensors, manifest.contract)
        self._wants_probabilities(PROBABILITIES in asked.outputs)
        if asked.identity is not None and _REQUEST_ID.fullmatch(asked.identity):
            request.id = asked.identity

        def write(said: Prediction) -> Answer:
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
            told = (_LENGTH_HEADER, str(json_length).encode())
            return Answer(body, media_type=b"application/octet-stream", headers=[told])

        tell = partial(self._tell, request, write, reply)
        self._scorer.score(asked.rows, request.id, tell, numeric_text=False)

    def _tell(
        self, request: Request, write: Write, reply: Reply, said: Prediction | Exception
    ) -> None:
        try:
            answer = self._refusal(request, said) if isinstance(said, Exception) else write(said)
        except Exception as err:
            answer = self._refusal(request, err)
        self._finish(request, answer, reply)

    def _wants_probabilities(self, wanted: bool) -> bool:
        if wanted and not self._scorer.gives_probabilities:
            raise RequestError("This model gives no probabilities.", "probabilities")
        return wanted

    def _refusal(self, request: Request, err: Exception) -> Answer:
        """Return the answer to a request that failed: the caller gets no stack trace."""
        if isinstance(err, RefusedRowsError):
            cause = err.__cause__
            _log.info("request %s: the model refused its rows: %s", request.id, cause)
        if isinstance(err, RequestError):
            return error_answer(400, str(err), request.path, err.field)
        for kind, status in _STATUS.items():
            if isinstance(err, kind):
                answer = error_answer(status, str(err), request.path)
                if status == 429:
                    answer.headers.append((b"retry-after", b"1"))
                return answer
        _log.error("request %s failed", request.id, exc_info=err)
        return error_answer(
            500,
            f"The model failed on this request. The replica's log says why: look for {request.id}.",
            request.path,
        )


def error_answer(status: int, message: str, path: str, field: str | None = None) -> Answer:
    """Return an error; the Open Inference Protocol wants it as plain text."""
    plain = path.startswith("/v2")
    content = {"error": message if plain else {"field": field, "message": message}}
    try:
        return as_json(content, status)
    except orjson.JSONEncodeError:
        # an error may quote what no encoding can carry, such as half a surrogate pair
        return Answer(json.dumps(content).encode(), status)


def _is_json(request: Request) -> bool:
    """Say whether a body is JSON, and not CSV. Raises MediaTypeError for one that is neither."""
    media_type = request.headers.get(b"content-type", b"application/json")
    if media_type == b"application/json":
        return True
    name = media_type.partition(b";")[0].strip().lower()
    if name not in (b"application/json", b"text/csv"):
        shown = name.decode("latin-1")[:60]
        raise MediaTypeError(
            f"Content-Type {shown!r} is not known: send application/json or text/csv."
        )
    return name == b"application/json"
