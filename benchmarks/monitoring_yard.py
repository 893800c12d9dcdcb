"""A project with a champion and twelve days of logged traffic, to monitor again and again."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from modelyard.domain.incidents import recalled
from modelyard.domain.monitoring import WindowRecord
from modelyard.ledger import Incident, Ledger

MODEL = "rides"
DAY = timedelta(days=1)
DAYS = 12
FIRST = datetime(2024, 1, 15, tzinfo=UTC)
"""What came before this moment is history; traffic comes from here on."""
LAST = FIRST + DAYS * DAY
WRONG = (4, 5, 6)
"""Days on which twice as many rides are counted, in weather that the model does not know."""
SILENT = 9
"""A day without traffic."""
ROWS_A_DAY = 144
LONGEST_SECONDS = 240.0
_CONFIG = f"""\
name: {MODEL}
task: regression
data:
  source: rides.csv
  target: cnt
  id: row_id
  time: time
  features: {{numeric: [temp, wind], categorical: [season]}}
training: {{estimator: sklearn.linear_model.Ridge}}
evaluation: {{primary_metric: mae, holdout: newest 4d}}
service: {{target: local, replicas: 1}}
monitoring: {{window: 1d, min_rows: 100}}
"""

# Killed processes are forked from one that has imported everything: it takes them seconds else,
# and most kills would hit an import. A fork server has none of this process's threads.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "mlflow.sklearn",
        "mlflow.store.tracking.sqlalchemy_store",
        "prefect.flow_engine",
        "prefect.task_engine",
        "flows.model_monitoring",
        "modelyard.adapters.mlflow",
        "evidently",
    ]
)


@dataclass(frozen=True)
class Seen:
    """What monitoring left in the ledger, without the times at which it did."""

    windows: list[WindowRecord]
    incidents: list[dict[str, Any]] = field(default_factory=list)
    notices: list[tuple[str, str]] = field(default_factory=list)
    """Kind and title, sorted."""
    waiting: int = 0
    """Notices that not every place has."""


@dataclass(frozen=True)
class Yard:
    """A project, and the Prefect server that its runs talk to."""

    root: Path
    server: str

    @property
    def log(self) -> Path:
        return self.root / ".modelyard" / "log" / MODEL

    def copy(self, name: str) -> Yard:
        """Return a copy of it beside it."""
        root = self.root.with_name(name)
        shutil.copytree(self.root, root)
        return Yard(root, self.server)

    def monitor(self, after_seconds: float | None = None) -> int:
        """Run the flow in a process of its own; return its exit code, -9 where it was killed."""
        process = _context.Process(target=_monitor, args=(str(self.root), self.server))
        process.start()
        process.join(LONGEST_SECONDS if after_seconds is None else after_seconds)
        if process.is_alive():
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        assert code is not None
        return code

    def seen(self) -> Seen:
        """Return what is in the ledger now."""
        ledger = Ledger.open(self._ledger_url)
        try:
            records = [WindowRecord.model_validate(w.record) for w in ledger.windows(MODEL)]
            with ledger._engine.connect() as connection:
                told = connection.execute(sa.text("SELECT kind, title, closed_at FROM notices"))
                notices = [tuple(row) for row in told]
            return Seen(
                windows=[r.model_copy(update={"measured_at": None}) for r in records],
                incidents=[_timeless(i) for i in ledger.incidents(MODEL, open_only=False)],
                notices=sorted((kind, title) for kind, title, _ in notices),
                waiting=sum(closed_at is None for *_, closed_at in notices),
            )
        finally:
            ledger.close()

    def forget(self) -> None:
        """Let monitoring begin anew."""
        ledger = Ledger.open(self._ledger_url)
        with ledger._engine.begin() as connection:
            for table in ("deliveries", "notices", "incidents", "windows"):
                connection.execute(sa.text(f"DELETE FROM {table}"))
        ledger.close()

    @property
    def _ledger_url(self) -> str:
        return f"sqlite:///{self.root / '.modelyard' / 'ledger.db'}"


def _timeless(incident: Incident) -> dict[str, Any]:
    """Return an incident without its id, and without what differs from run to run."""
    details = recalled(incident.details)
    said = details.model_dump(mode="json", exclude={"links"}) if details else incident.details
    about_windows = {"opened_at": incident.opened_at, "resolved_at": incident.resolved_at}
    return {
        "cause": incident.cause,
        "details": said,
        "is_open": incident.resolved_at is None,
        **(about_windows if details else {}),
    }


@contextmanager
def yard() -> Iterator[Yard]:
    """Make the project and start a Prefect server; at the end nothing of it is left."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    os.environ |= {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="modelyard-monitoring-") as folder:
        root = Path(folder) / "original"
        with prefect_test_harness(server_startup_timeout=180):
            os.environ["MODELYARD_ROOT"] = str(root)
            try:
                _make_project(root)
                yield Yard(root, str(PREFECT_API_URL.value()))
            finally:
                del os.environ["MODELYARD_ROOT"]


def _make_project(root: Path) -> None:
    """Release a model for real, send it all traffic, and load every label; its service ends."""
    from modelyard.adapters.data.labels import store_labels
    from modelyard.adapters.replay import Replay
    from modelyard.adapters.workspace import Workspace
    from tasks.data import open_delivery
    from tasks.evaluation import gate_candidate
    from tasks.images import build_release
    from tasks.registration import register_release
    from tasks.rollout import advance_rollout, start_rollout
    from tasks.training import refit_candidate, train_candidate

    (root / "configs" / "models").mkdir(parents=True)
    (root / "configs" / "platform.yaml").write_text("home: .modelyard\n")
    (root / "configs" / "models" / f"{MODEL}.yaml").write_text(_CONFIG)
    rows = rides()
    rows.to_csv(root / "rides.csv", index=False)
    workspace = Workspace.find()
    delivery = open_delivery.fn(MODEL, "benchmark", FIRST)
    judged = train_candidate.fn(delivery)
    gated = gate_candidate.fn(delivery, judged)
    candidate = refit_candidate.fn(delivery, judged, gated)
    registration = register_release.fn(delivery, candidate, gated)
    start_rollout.fn(delivery, registration, build_release.fn(delivery, candidate, registration))
    service = advance_rollout.fn(delivery.id).service
    champion = workspace.ledger.champion(MODEL)
    assert service is not None
    assert champion is not None
    try:
        config = workspace.project.model(MODEL)
        replay = Replay(workspace, config, champion, service.url, end=LAST)
        for window in replay.windows:
            replay.send(window)
        assert replay.traffic.failed == 0
    finally:
        workspace.target("local").remove(MODEL)
    times = pd.to_datetime(rows["time"], utc=True)
    store_labels(workspace.project.label_folder(MODEL), rows["row_id"], rows["cnt"], times)
    workspace.ledger.close()
    _split_segments(workspace.project.log_folder(MODEL))


def _split_segments(folder: Path) -> None:
    """Cut each segment into four, as replicas that ran for longer would have left them."""
    for segment in sorted(folder.glob("*.jsonl")):
        header, *lines = segment.read_bytes().splitlines(keepends=True)
        for number, part in enumerate(np.array_split(np.arange(len(lines)), 4)):
            kept = b"".join(lines[n] for n in part)
            segment.with_stem(f"{segment.stem}-{number}").write_bytes(header + kept)
        segment.unlink()


def rides() -> pd.DataFrame:
    """Return rides every ten minutes: the history, and the days of traffic."""
    rng = np.random.default_rng(7)
    step = DAY / ROWS_A_DAY
    times = pd.date_range(FIRST - 14 * DAY, LAST, freq=step, inclusive="left")
    day = ((times - FIRST) // DAY).to_numpy()
    times, day = times[day != SILENT], day[day != SILENT]
    wrong = np.isin(day, WRONG)
    temp = rng.uniform(0, 30, len(times)) + 25 * wrong
    wind = rng.uniform(0, 10, len(times))
    season = rng.choice(["dry", "wet"], len(times))
    demand = (20 + 3 * temp - wind + 5 * (season == "dry")) * np.where(wrong, 2, 1)
    return pd.DataFrame(
        {
            "row_id": [f"r{number}" for number in range(len(times))],
            "time": times.strftime("%Y-%m-%dT%H:%M:%S"),
            "temp": temp.round(2),
            "wind": wind.round(2),
            "season": season,
            "cnt": (demand + rng.normal(0, 2, len(times))).round(3),
        }
    )


def _monitor(root: str, server: str) -> None:
    import logging

    os.environ["MODELYARD_ROOT"] = root
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    from flows.model_monitoring import monitor_model

    with temporary_settings({PREFECT_API_URL: server, PREFECT_LOGGING_TO_API_ENABLED: False}):
        monitor_model(MODEL, LAST)
