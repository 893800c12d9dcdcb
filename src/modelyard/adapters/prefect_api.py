"""What does a Prefect server know of our worker and flow runs?

Asked over its REST API, because importing Prefect takes seconds and `status` should not.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime
from typing import Any, Self

import httpx

from modelyard.errors import ServiceUnavailableError

_WORKER_LABEL = "prefect.worker.name"


class PrefectApi:
    """A few questions and one command to a Prefect server; use it in a `with` block."""

    def __init__(self, url: str, *, timeout_seconds: float = 30) -> None:
        key = os.environ.get("PREFECT_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def worker_heard_at(self, work_pool: str, worker: str) -> datetime | None:
        """Return when a worker last reported; None when it, or its work pool, is not known."""
        answer = self._http.post(f"/work_pools/{work_pool}/workers/filter", json={})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        heard = [w["last_heartbeat_time"] for w in self._json(answer) if w["name"] == worker]
        return datetime.fromisoformat(heard[0]) if heard and heard[0] else None

    def next_runs(self, tag: str) -> dict[str, datetime]:
        """Return the start of the next scheduled flow run by model.

        A model is the `model` parameter of flow runs that carry `tag`.
        """
        body = {
            "flow_runs": {
                "state": {"type": {"any_": ["SCHEDULED"]}},
                "tags": {"all_": [tag]},
            },
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": 200,
        }
        next_runs: dict[str, datetime] = {}
        for run in self._json(self._http.post("/flow_runs/filter", json=body)):
            at = datetime.fromisoformat(run["expected_start_time"])
            next_runs.setdefault(run["parameters"].get("model"), at)
        return next_runs

    def crash_lost_runs(self, worker: str, alive: Collection[int]) -> int:
        """Record that flow runs of a worker ended whose process is gone; return how many.

        A killed process cannot say so itself, and its deployment's only slot would stay taken.
        """
        body = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
        lost = [
            run
            for run in self._json(self._http.post("/flow_runs/filter", json=body))
            if run["labels"].get(_WORKER_LABEL) == worker
            and int(run["infrastructure_pid"] or 0) not in alive
        ]
        for run in lost:
            cancelled = run["state_type"] == "CANCELLING"
            state = {
                "type": "CANCELLED" if cancelled else "CRASHED",
                "message": "Its process was ended together with the platform's worker.",
            }
            self._json(self._http.post(f"/flow_runs/{run['id']}/set_state", json={"state": state}))
        return len(lost)

    def _json(self, answer: httpx.Response) -> Any:
        if not answer.is_success:
            raise ServiceUnavailableError(
                f"Prefect answered {answer.status_code} to {answer.request.url}: "
                f"{answer.text[:300]}. See its log in the project's run folder."
            )
        return answer.json()
