"""What does a Prefect server know of our worker and flow runs?

Asked over its REST API, because importing Prefect takes seconds and `status` should not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from datetime import datetime
from typing import Any, Self

import httpx

from modelyard.errors import ServiceUnavailableError

_WORKER_LABEL = "prefect.worker.name"


class PrefectApi:
    """A few questions and one command to a Prefect server; use it in a `with` block."""

    def __init__(self, url: str, *, timeout_seconds: float = 30) -> None:
        """`timeout_seconds` is for one answer, with all tries that it takes."""
        key = os.environ.get("PREFECT_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_seconds)
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def worker_heard_at(self, work_pool: str, worker: str) -> datetime | None:
        """Return when a worker last reported; None when it, or its work pool, is not known."""
        if not self.ask(
            "POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [work_pool]}}}
        ):
            return None
        workers = self.ask("POST", f"/work_pools/{work_pool}/workers/filter", {})
        heard = [w["last_heartbeat_time"] for w in workers if w["name"] == worker]
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
        for run in self.ask("POST", "/flow_runs/filter", body):
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
            for run in self.ask("POST", "/flow_runs/filter", body)
            if run["labels"].get(_WORKER_LABEL) == worker
            and int(run["infrastructure_pid"] or 0) not in alive
        ]
        for run in lost:
            cancelled = run["state_type"] == "CANCELLING"
            state = {
                "type": "CANCELLED" if cancelled else "CRASHED",
                "message": "Its process was ended together with the platform's worker.",
            }
            self.ask("POST", f"/flow_runs/{run['id']}/set_state", {"state": state})
        return len(lost)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the server's JSON answer, None where it has none.

        Prefect says 503 while its SQLite file is locked, so that is asked again. Raises
        ServiceUnavailableError when it does not answer in time, or refuses.
        """
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            try:
                answer = self._http.request(method, path, json=body)
            except httpx.HTTPError as err:
                problem = f"did not answer {method} {path}: {err}"
            else:
                if answer.is_success:
                    return answer.json() if answer.content else None
                problem = f"answered {answer.status_code} to {method} {path}: {answer.text[:300]}"
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    deadline = 0
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(
                    f"Prefect at {self._http.base_url} {problem}. Its log is in the project's "
                    "run folder; `modelyard status` shows whether it runs."
                )
            time.sleep(0.2)
