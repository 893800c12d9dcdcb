"""How does a caller send rows to a service, and what comes back?"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import pandas as pd

from modelyard.domain.values import Contract
from modelyard.errors import DataError, ServiceUnavailableError

API_KEY_VARIABLE = "MODELYARD_API_KEY"
"""The key that is shown to a service which asks for one."""


@dataclass(frozen=True)
class Answer:
    """What a service said about one request's rows."""

    release: str
    predictions: list[Any]
    probabilities: list[list[float]] | None


class ServiceClient:
    """A connection to one model's service that sends rows as its contract names them."""

    def __init__(self, url: str, contract: Contract, *, timeout_seconds: float = 30.0) -> None:
        self._contract = contract
        key = os.environ.get(API_KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, timeout=timeout_seconds, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def predict(self, rows: pd.DataFrame, request_id: str | None = None) -> Answer:
        """Ask for predictions of raw rows; id and event time go along where the model has them.

        Raises DataError for rows that the service refuses, ServiceUnavailableError where it does
        not answer or fails.
        """
        headers = {"content-type": "application/json"}
        if request_id is not None:
            headers["x-request-id"] = request_id
        try:
            response = self._http.post(
                "/invocations?probabilities=true"
                if self._contract.task.is_classification
                else "/invocations",
                content=as_payload(rows, self._contract),
                headers=headers,
            )
        except httpx.HTTPError as err:
            raise ServiceUnavailableError(
                f"The service at {self._http.base_url} did not answer: {err!r}. See "
                "`modelyard status`."
            ) from err
        if response.status_code >= 500:
            raise ServiceUnavailableError(
                f"The service at {self._http.base_url} failed: {response.status_code} "
                f"{response.text[:300]}"
            )
        if response.status_code >= 400:
            raise DataError(f"The service refused the rows: {response.text[:500]}")
        body = response.json()
        return Answer(
            release=response.headers.get("x-modelyard-release", ""),
            predictions=body["predictions"],
            probabilities=body.get("probabilities"),
        )


def as_payload(rows: pd.DataFrame, contract: Contract) -> str:
    """Return rows as the JSON body of a request: the contract's columns, id and event time."""
    names = [*contract.names(), *(n for n in (contract.id, contract.time) if n)]
    present = rows[[name for name in names if name in rows.columns]]
    return json.dumps(
        {
            "dataframe_split": {
                "columns": list(present.columns),
                "data": [
                    [_cell(value) for value in row]
                    for row in present.itertuples(index=False, name=None)
                ],
            }
        }
    )


def _cell(value: Any) -> Any:
    if value is None or value is pd.NaT or value != value:
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
