"""A storm of events about one bad window, and a reconciliation at the same moment: one retraining?

And how long is it from an event to the running flow, and how much of the way from an event to the
new champion is orchestration: finding the worker, starting processes, asking the server?
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from benchmarks.claims import Claim, claim, main, show
from benchmarks.retraining_yard import DAY, LAST, Yard, yard

_STORM_SECONDS = 600.0
_LOOKS = (1, 10)
"""Single events whose way is timed: in a quick run, and else."""
_MOST_STARTS = 8.0
"""Event to running flow, in imports of the flow by a fresh process: Prefect sees the event, the
worker asks every two seconds, two processes start one after another."""
_MOST_RUNS = 3
"""Flow runs that a storm may cause: the first event's, the reconciliation's, and what that asks
for. The other events must not wait in a queue, each to be told that there is nothing to do."""


def measure(quick: bool) -> Sequence[Claim]:
    """Send the storm, then single events; return what must hold."""
    storm, looks = (100, _LOOKS[0]) if quick else (1_000, _LOOKS[1])
    with yard() as at:
        record = at.record_window(LAST - 4 * DAY)
        # half of them under the same id, as a flow that is run again sends them; half under
        # others, as a sender would that does not know of the first
        events = [at.event(record, same_id=number % 2 == 0) for number in range(storm)]
        at.emit(events[: storm // 2])
        reconciliation = at.reconcile()
        at.emit(events[storm // 2 :])
        settled = at.settle(_STORM_SECONDS)
        retrainings, runs = at.retrainings(), at.runs("retrain")
        promoted = retrainings.count("champion")
        way = _way(at, runs, datetime.fromisoformat(events[0]["occurred"]))
        show(
            f"{storm:,} events about one window, and a reconciliation",
            ("", "count"),
            [
                ("deliveries that the controller began", len(retrainings)),
                ("of them champion", promoted),
                ("flow runs of retrain", len(runs)),
                ("the reconciliation ended well", _ended_well(at, reconciliation)),
            ],
        )
        _show_way(way)
        at.import_seconds()  # the first one compiles
        # one after another, so that both find the machine as busy
        timed = [(_latency(at, number), at.import_seconds()) for number in range(looks)]
    known = [(seconds, start) for seconds, start in timed if seconds is not None]
    shares = [seconds / start for seconds, start in known]
    show(
        "Event to running flow",
        ("event", "seconds", "importing the flow, seconds", "in imports"),
        [(number + 1, *known[number], shares[number]) for number in range(len(known))],
    )
    return (
        claim("retrainings of one cause: at least", len(retrainings), ">=", 1),
        claim("retrainings of one cause: at most", len(retrainings), "<=", 1),
        claim("new champions", promoted, ">=", 1),
        claim("flow runs that the storm caused", len(runs), "<=", _MOST_RUNS),
        claim("the storm is over, and the reconciliation ended well", settled, ">=", 1),
        claim("events that led to a running flow, share", len(known) / looks, ">=", 1),
        claim(
            "event to running flow, median, in imports of the flow",
            median(shares) if shares else float("nan"),
            "<=",
            _MOST_STARTS,
        ),
    )


def _latency(at: Yard, number: int) -> float | None:
    """Return the seconds from an event about a window of its own to its running flow."""
    record = at.record_window(LAST - 3 * DAY + number * timedelta(hours=1))
    known = {run["id"] for run in at.runs("retrain")}
    event = at.event(record)
    at.emit([event])
    deadline = time.monotonic() + _STORM_SECONDS
    while time.monotonic() < deadline:
        new = [run for run in at.runs("retrain") if run["id"] not in known and run["end_time"]]
        new = [run for run in new if run["start_time"]]
        if new:  # its end, so that the next event's does not wait for it
            occurred = datetime.fromisoformat(event["occurred"])
            return (datetime.fromisoformat(new[0]["start_time"]) - occurred).total_seconds()
        time.sleep(0.5)
    return None


def _way(at: Yard, runs: list[dict[str, Any]], occurred: datetime) -> dict[str, float]:
    """Return the seconds of a retraining's parts, from its event to its end."""
    ids = {task["flow_run_id"] for task in _tasks(at, [run["id"] for run in runs], nested=True)}
    run = next((r for r in runs if r["id"] in ids), None)
    if run is None or not run["end_time"]:
        return {}
    started, ended = (datetime.fromisoformat(run[key]) for key in ("start_time", "end_time"))
    work = _tasks(at, [run["id"], *_children(at, run["id"])], nested=False)
    spans = sorted(
        (datetime.fromisoformat(task["start_time"]), datetime.fromisoformat(task["end_time"]))
        for task in work
        if task["start_time"] and task["end_time"]
    )
    return {
        "event to running flow": (started - occurred).total_seconds(),
        "steps": _union(spans),
        "between the steps": (ended - started).total_seconds() - _union(spans),
    }


def _show_way(way: dict[str, float]) -> None:
    total = sum(way.values())
    rows = [(part, seconds, f"{seconds / total:.0%}") for part, seconds in way.items()]
    show("From the event to the end of the retraining", ("", "seconds", "share"), rows)


def _children(at: Yard, flow_run_id: str) -> list[str]:
    body = {"flow_runs": {"parent_flow_run_id": {"any_": [flow_run_id]}}, "limit": 200}
    found: list[dict[str, Any]] = at.api.ask("POST", "/flow_runs/filter", body)
    return [run["id"] for run in found]


def _tasks(at: Yard, flow_run_ids: list[str], *, nested: bool) -> list[dict[str, Any]]:
    """Return task runs of flow runs: those that stand for a nested flow, or the others."""
    body = {"flow_runs": {"id": {"any_": flow_run_ids}}, "limit": 200}
    found: list[dict[str, Any]] = at.api.ask("POST", "/task_runs/filter", body)
    return [t for t in found if bool(t["state"]["state_details"]["child_flow_run_id"]) is nested]


def _union(spans: list[tuple[datetime, datetime]]) -> float:
    """Return the seconds in which at least one of some spans, sorted, lasts."""
    seconds, until = 0.0, None
    for start, end in spans:
        begin = start if until is None or start > until else until
        seconds += max(0.0, (end - begin).total_seconds())
        until = end if until is None else max(until, end)
    return seconds


def _ended_well(at: Yard, flow_run_id: str) -> bool:
    return at.api.ask("GET", f"/flow_runs/{flow_run_id}")["state_type"] == "COMPLETED"


if __name__ == "__main__":
    main(__doc__ or "", measure)
