"""A week of twenty models' schedules, in which a day takes minutes: is any missed, and what grows?

Days, windows and schedules are short; all else is as it is: services that answer rows, labels that
are loaded, `modelyard up`'s servers on SQLite and its worker, and a process for each flow run. All
models are due at the same moments, as those are whose config says `0 * * * *`.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.claims import Claim, claim, console, show
from benchmarks.retraining_yard import modelyard
from benchmarks.schedules_yard import ROWS_A_DAY, Scale, platform, rides
from modelyard.adapters.client import ServiceClient
from modelyard.adapters.data.labels import store_labels
from modelyard.adapters.platform.parts import read_platform, stop_platform
from modelyard.adapters.platform.prefect_api import PrefectApi
from modelyard.adapters.workspace import Workspace
from modelyard.errors import ServiceUnavailableError
from modelyard.project import Project

_LOCKED = "database is locked"
_BATCHES_A_DAY = 6
_LOOK_SECONDS = 2.0
_PARTS = ("prefect", "worker")
_FULL = Scale(models=20, days=7, day=timedelta(seconds=480), reconciliations=1)
_QUICK = Scale(models=2, days=2, day=timedelta(seconds=90), reconciliations=1)
_LONGEST_DAYS = 4
"""That runs which were due may still take after the week; what then is not done is missed."""
_OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Seen:
    """What was seen of the platform from outside while it ran."""

    memory: list[tuple[float, str, float]] = field(default_factory=list)
    """Time, part, resident MB of its process."""
    requests: int = 0
    lost: int = 0
    asked: int = 0
    """How often a user asked for the status."""
    failed: list[str] = field(default_factory=list)
    """What that user was told where it did not work, or took a database for locked."""


def measure_week(quick: bool) -> Sequence[Claim]:
    """Let a week pass; hold every scheduled moment against the flow runs there were."""
    scale = _QUICK if quick else _FULL
    with platform(scale) as project:
        start = _next_day(scale)
        end = start + scale.days * scale.day
        seen = Seen()
        with _observed(project, scale, seen), console.status("a week passes"):
            time.sleep((end - datetime.now(UTC)).total_seconds())
            runs = _runs_in_the_end(project, scale, start, end)
        windows = _windows(project, scale, start, end)
        stop_platform(project, lambda *_: None)
        locked = _locked(project)
    missed = _missed(runs, scale, start, end)
    _show_runs(runs, missed)
    growth = _show_memory(seen, scale, start)
    show(
        "What a user saw",
        ("", "count"),
        [
            ("requests", seen.requests),
            ("of them lost", seen.lost),
            ("times that the status was asked for", seen.asked),
            ("of them in vain", len(seen.failed)),
            *((f"`{_LOCKED}` in {where}", count) for where, count in locked.items()),
        ],
    )
    every = scale.models * scale.days
    twice = sum(_in_a_row(moments) for moments in missed.values())
    told = locked["states of flow runs"] + locked["logs of flow runs"] + len(seen.failed)
    return [
        claim("week: lost requests", seen.lost, "<=", 0),
        claim(f"week: `{_LOCKED}` that reached a user", told, "<=", 0),
        claim("week: schedules missed twice in a row", twice, "<=", 0),
        claim("week: scheduled moments without a run that ended well", _count(missed), "<=", 0),
        claim("week: windows with exactly one record", windows, ">=", every),
        *(
            claim(f"week: memory of {part}, most of a day over the first's", worst, "<=", 1.2)
            for part, worst in growth.items()
        ),
    ]


def _next_day(scale: Scale) -> datetime:
    """Return the next moment at which all models are due."""
    length = scale.day.total_seconds()
    return datetime.fromtimestamp((time.time() // length + 1) * length, UTC)


@contextmanager
def _observed(project: Project, scale: Scale, seen: Seen) -> Iterator[None]:
    """Send rows, load their labels, look at the memory and ask for the status, all the while."""
    over = threading.Event()
    threads = [
        threading.Thread(target=work, args=(project, scale, seen, over))
        for work in (_send, _look, _ask)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _send(project: Project, scale: Scale, seen: Seen, over: threading.Event) -> None:
    workspace = Workspace(project)
    pause = scale.day.total_seconds() / _BATCHES_A_DAY
    for seed in itertools.count(1_000):
        began = time.monotonic()
        for name in scale.names:
            rows = rides(pd.Series([pd.Timestamp.now(UTC)] * (ROWS_A_DAY // _BATCHES_A_DAY)), seed)
            seen.requests += 1
            try:
                _predict(workspace, name, rows)
            except ServiceUnavailableError:
                seen.lost += 1
        if over.wait(max(0.0, began + pause - time.monotonic())):
            return


def _predict(workspace: Workspace, name: str, rows: pd.DataFrame) -> None:
    champion, status = workspace.ledger.champion(name), workspace.target("local").status(name)
    assert champion is not None
    assert status is not None
    with ServiceClient(status.url, champion.delivery.contract) as client:
        client.predict(rows)
    known = pd.Series(pd.to_datetime(rows["hour"]))
    store_labels(workspace.project.label_folder(name), rows["row_id"], rows["cnt"], known)


def _look(project: Project, scale: Scale, seen: Seen, over: threading.Event) -> None:
    parts = read_platform(project)
    processes = {n: parts[n].process.process() for n in _PARTS}  # type: ignore[union-attr]
    while not over.wait(_LOOK_SECONDS):
        for name, process in processes.items():
            if process is not None and process.is_running():
                seen.memory.append((time.time(), name, process.memory_info().rss / 2**20))


def _ask(project: Project, scale: Scale, seen: Seen, over: threading.Event) -> None:
    while not over.wait(scale.day.total_seconds() / 4):
        done = modelyard(project, "status", "--json")
        said = done.stdout + done.stderr
        seen.asked += 1
        if done.returncode != 0 or _LOCKED in said:
            seen.failed.append(said[-500:])


def _runs_in_the_end(
    project: Project, scale: Scale, start: datetime, end: datetime
) -> list[dict[str, Any]]:
    """Wait for the flow runs due in [start, end]: those at the end measure the last day.

    Schedules go on after the week. Their runs would compete with those that still wait for
    another of their deployment, so they are taken away before they begin.
    """
    url = read_platform(project)["prefect"].url
    assert url is not None
    last = end + _LONGEST_DAYS * scale.day
    with PrefectApi(url, timeout_seconds=180) as api:
        while True:
            every = _scheduled_runs(api)
            for run in every:
                if run["due"] > end and run["state_type"] == "SCHEDULED":
                    api.ask("DELETE", f"/flow_runs/{run['id']}")
            due = [run for run in every if start <= run["due"] <= end]
            if all(run["state_type"] in _OVER for run in due) or datetime.now(UTC) > last:
                return due
            time.sleep(5)


def _scheduled_runs(api: PrefectApi) -> list[dict[str, Any]]:
    """Return the flow runs that a schedule made, by name and the time they were due."""
    found: list[dict[str, Any]] = []
    deployments = {d["id"]: d["name"] for d in api.ask("POST", "/deployments/filter", {})}
    flows = {f["id"]: f["name"] for f in api.ask("POST", "/flows/filter", {})}
    while True:
        body = {"sort": "ID_DESC", "limit": 200, "offset": len(found)}
        page = api.ask("POST", "/flow_runs/filter", body)
        found.extend(page)
        if len(page) < body["limit"]:
            break
    scheduled = [
        {
            **run,
            "due": _planned(run),
            "name": f"{flows[run['flow_id']]}/{deployments[run['deployment_id']]}",
        }
        for run in found
        if run["auto_scheduled"] and run["deployment_id"] in deployments
    ]
    return sorted(scheduled, key=lambda run: (run["name"], run["due"]))


def _planned(run: dict[str, Any]) -> datetime:
    """Return when a flow run was due when its schedule made it, whatever put it off since."""
    _, _, _, moment = run["idempotency_key"].split(" ", 3)
    return datetime.fromisoformat(moment).replace(microsecond=0)


def _windows(project: Project, scale: Scale, start: datetime, end: datetime) -> int:
    ledger = Workspace(project).ledger
    found: Counter[tuple[str, datetime]] = Counter()
    for name in scale.names:
        found.update((name, w.start) for w in ledger.windows(name) if start <= w.start < end)
    return sum(count == 1 for count in found.values())


def _missed(
    runs: Sequence[dict[str, Any]], scale: Scale, start: datetime, end: datetime
) -> dict[str, list[bool]]:
    """Return for each schedule, moment by moment, whether no run of it ended well."""
    periods = {"monitor": scale.day, "reconcile": scale.day / scale.reconciliations}
    well: dict[tuple[str, datetime], bool] = {}
    for run in runs:
        key = (run["name"], run["due"])
        well[key] = well.get(key, False) or run["state_type"] == "COMPLETED"
    missed = {}
    for flow, model in itertools.product(periods, scale.names):
        name, period = f"{flow}/{model}", periods[flow]
        moments = [start + place * period for place in range(round((end - start) / period))]
        missed[name] = [not well.get((name, moment), False) for moment in moments]
    return missed


def _in_a_row(moments: Sequence[bool]) -> int:
    return sum(a and b for a, b in itertools.pairwise(moments))


def _count(missed: dict[str, list[bool]]) -> int:
    return sum(map(sum, missed.values()))


def _show_runs(runs: Sequence[dict[str, Any]], missed: dict[str, list[bool]]) -> None:
    rows = []
    for flow in sorted({run["name"].partition("/")[0] for run in runs}):
        own = [run for run in runs if run["name"].startswith(f"{flow}/")]
        states = Counter(run["state_name"] for run in own)
        late = [_seconds(run["due"], run["start_time"]) for run in own if run["start_time"]]
        took = [run["total_run_time"] for run in own if run["start_time"]]
        gaps = sum(sum(m) for name, m in missed.items() if name.startswith(f"{flow}/"))
        words = ", ".join(f"{count} {state}" for state, count in states.items())
        rows.append((flow, len(own), words, gaps, median(late), max(late), median(took)))
    show(
        "Scheduled flow runs",
        ("flow", "runs", "ended", "missed", "s late, median", "s late, most", "s long, median"),
        rows,
    )


def _seconds(due: datetime, started: str) -> float:
    return (datetime.fromisoformat(started) - due).total_seconds()


def _show_memory(seen: Seen, scale: Scale, start: datetime) -> dict[str, float]:
    """Show each part's memory day by day; return the most of a later day over the first's."""
    length = scale.day.total_seconds()
    by_day: dict[str, list[float]] = {}
    for part in _PARTS:
        days = [
            [
                mb
                for at, name, mb in seen.memory
                if name == part and day <= (at - start.timestamp()) / length < day + 1
            ]
            for day in range(scale.days)
        ]
        by_day[part] = [max(values) for values in days if values]
    show(
        "Most memory of a day, MB resident",
        ("part", *(f"day {day + 1}" for day in range(scale.days))),
        [(part, *(round(mb) for mb in most)) for part, most in by_day.items()],
    )
    return {part: max(most[1:]) / most[0] for part, most in by_day.items()}


def _locked(project: Project) -> dict[str, int]:
    """Return how often a locked database is spoken of, and where."""
    with closing(sqlite3.connect(project.folder("prefect") / "prefect.db")) as database:
        query = "SELECT count(*) FROM {} WHERE message LIKE ?"
        counts = {
            where: database.execute(query.format(table), [f"%{_LOCKED}%"]).fetchone()[0]
            for where, table in (
                ("states of flow runs", "flow_run_state"),
                ("logs of flow runs", "log"),
            )
        }
    for name in ("prefect", "mlflow", "worker"):
        text = (project.run_folder() / f"{name}.log").read_text(errors="replace")
        counts[f"{name}.log"] = text.count(_LOCKED)
    return counts
