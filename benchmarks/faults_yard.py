"""A project whose service is alive: a day passes, rows come, labels follow, windows are judged."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pandas as pd

from benchmarks import faults_pipeline
from benchmarks.faults_world import FEATURES, FIRST, City
from benchmarks.serving_load import free_port
from modelyard.adapters.client import ServiceClient
from modelyard.adapters.data.labels import store_labels
from modelyard.adapters.workspace import Workspace
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.releases import Release
from modelyard.domain.retraining import RetrainingDecision
from modelyard.errors import ServiceUnavailableError

MODEL = "parcels"
CHECKOUT = Path(__file__).parents[1]
_BATCH_ROWS = 50
_TRICKLE_SECONDS = 0.1
_DISK_BYTES = 2 * 2**30
_CONFIG = """\
name: parcels
task: regression
data:
  source: parcels.parquet
  target: minutes
  id: parcel
  time: sent_at
  label_time: known_at
  early_labels: learn      # how long a label takes has nothing to do with what it says
  features: {{numeric: [distance, weight, temperature], categorical: [carrier]}}
training: {{{training}, window: 120d}}
evaluation: {{primary_metric: mae, holdout: newest 2d, {gate}}}
service: {{target: local, replicas: 2}}
monitoring: {{schedule: null, window: 1d, min_rows: 100}}
retraining:
  on: [performance, drift]
  windows: 2 of 3
  cooldown: 2d
  budget: 5 per 14d
  min_new_labels: 800
  rows: since change
  schedule: "0 0 29 2 *"
"""
"""The schedule is asked by the simulated calendar; the real one must not."""
_RECIPE = "params: {max_iter: 100}"
_BROKEN_RECIPE = "pipeline: 'parcels_pipeline:build'"


@dataclass
class Traffic:
    """What callers sent, and what came back."""

    requests: int = 0
    lost: int = 0
    answered: set[str] = field(default_factory=set)


@dataclass
class Yard:
    """One project on one machine, with the simulated city around it."""

    root: Path
    server: str
    """Prefect's API, for the days on which the platform itself is not what is tried."""
    city: City
    disk: Path | None
    """The file system of its own that everything ModelYard writes is on, where there is one."""
    traffic: Traffic = field(default_factory=Traffic)
    _labelled: set[str] = field(default_factory=set)
    _asked: set[tuple[str, RetrainingCause]] = field(default_factory=set)

    @property
    def workspace(self) -> Workspace:
        return Workspace.find()

    @property
    def champion(self) -> Release:
        champion = self.workspace.ledger.champion(MODEL)
        assert champion is not None
        return champion

    def configure(self, *, broken: bool = False) -> None:
        """Write the model's config: the recipe as it is, or one that cannot serve."""
        text = _CONFIG.format(
            training=_BROKEN_RECIPE if broken else _RECIPE,
            # the gate is not what is to find it
            gate="new_recipe: not shown worse, margin: 50%" if broken else "new_recipe: better",
        )
        (self.root / "configs" / "models" / f"{MODEL}.yaml").write_text(text)

    def send(self, day: int, share: float = 1.0) -> None:
        """Send what is left of the first `share` of a day's rows."""
        rows = self.city.rows[self.city.rows["day"] == day]
        rows = rows.iloc[: round(share * len(rows))]
        rows = rows[~rows["parcel"].isin(self.traffic.answered)]
        with self._client() as client:
            for place in range(0, len(rows), _BATCH_ROWS):
                self._send(client, rows.iloc[place : place + _BATCH_ROWS])

    @contextmanager
    def sending(self, day: int) -> Iterator[None]:
        """Let rows of a day trickle in meanwhile, one a request: traffic does not wait for us."""
        rows = self.city.rows[self.city.rows["day"] == day]
        over = threading.Event()

        def trickle() -> None:
            with self._client() as client:
                for place in range(len(rows)):
                    if over.wait(_TRICKLE_SECONDS):
                        return
                    self._send(client, rows.iloc[place : place + 1])

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def load_labels(self, now: datetime) -> None:
        """Load what has become known since the last time of rows that were answered."""
        rows = self.city.rows
        known = rows[(rows["day"] >= 0) & (rows["known_at"] <= now)]
        known = known[known["parcel"].isin(self.traffic.answered - self._labelled)]
        store_labels(
            self.workspace.project.label_folder(MODEL),
            known["parcel"],
            known["minutes"],
            known["known_at"],
        )
        self._labelled.update(known["parcel"])

    def monitor(self, now: datetime) -> list[WindowRecord]:
        """Do what the flow `monitor` does, without its pages and pictures."""
        from tasks.alerts import raise_alarms, report_damage
        from tasks.monitoring import find_due_windows, measure_window, record_window

        records = []
        for window in find_due_windows.fn(MODEL, now):
            measured = record_window.fn(MODEL, measure_window.fn(MODEL, window, now))
            records.append(record_window.fn(MODEL, raise_alarms.fn(MODEL, measured)))
        report_damage.fn(MODEL)
        return records

    def ask(self, records: list[WindowRecord]) -> list[RetrainingDecision]:
        """Ask the controller as the automations do: once for each event about a window."""
        from tasks.retraining import decide_to_retrain, watch_circuit

        decisions = []
        for record in records:
            for cause in (RetrainingCause.PERFORMANCE, RetrainingCause.DRIFT):
                if cause not in record.causes or (record.window.id, cause) in self._asked:
                    continue
                self._asked.add((record.window.id, cause))
                decisions.append(decide_to_retrain.fn(MODEL, cause, record.window.end))
                watch_circuit.fn(MODEL)
        return decisions

    def ask_by_schedule(self, now: datetime) -> RetrainingDecision:
        """Ask the controller as the schedule does."""
        from tasks.retraining import decide_to_retrain, watch_circuit

        decision = decide_to_retrain.fn(MODEL, RetrainingCause.SCHEDULE, now)
        watch_circuit.fn(MODEL)
        return decision

    def missed(self) -> RetrainingDecision | None:
        """Look for what the events should have started, as the reconciliation does."""
        from tasks.retraining import find_missed_retraining

        return find_missed_retraining.fn(MODEL)

    def _client(self) -> ServiceClient:
        status = self.workspace.target("local").status(MODEL)
        assert status is not None
        return ServiceClient(status.url, self.champion.delivery.contract)

    def _send(self, client: ServiceClient, rows: pd.DataFrame) -> None:
        self.traffic.requests += 1
        try:
            client.predict(rows, f"from-{rows['parcel'].iloc[0]}")
        except ServiceUnavailableError:
            self.traffic.lost += 1
            return
        self.traffic.answered.update(rows["parcel"])


@contextmanager
def yard(city: City) -> Iterator[Yard]:
    """Make the project, deliver its first release; at the end nothing of it is left."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    os.environ |= {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    folder = Path(tempfile.mkdtemp(prefix="modelyard-faults-"))
    root = folder / "project"
    (root / ".modelyard").mkdir(parents=True)
    disk = mount(root / ".modelyard")
    os.environ["MODELYARD_ROOT"] = str(root)
    sys.path.insert(0, str(root))  # the project's own code
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), prefect_test_harness(server_startup_timeout=180):
            warnings.simplefilter("ignore")
            made = Yard(root, str(PREFECT_API_URL.value()), city, disk)
            _make_project(made)
            try:
                yield made
            finally:
                made.workspace.target("local").remove(MODEL)
                made.workspace.ledger.close()
    finally:
        logging.disable(logging.NOTSET)
        del os.environ["MODELYARD_ROOT"]
        sys.path.remove(str(root))
        if disk is not None:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def mount(folder: Path) -> Path | None:
    """Put a folder on a file system of its own, so that its disk can be full; None: not allowed."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    with suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(words, check=True, capture_output=True)
        return folder
    return None


@contextmanager
def full_disk(disk: Path) -> Iterator[None]:
    """Leave no room on it meanwhile."""
    used = shutil.disk_usage(disk).used
    _resize(disk, used)
    try:
        yield
    finally:
        _resize(disk, _DISK_BYTES)


def _resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def _make_project(made: Yard) -> None:
    from flows.model_delivery import deliver_model

    root = made.root
    (root / "configs" / "models").mkdir(parents=True)
    (root / "configs" / "platform.yaml").write_text(
        f"home: .modelyard\nports: {{prefect: {free_port()}, mlflow: {free_port()}}}\n"
        "reconciliation: {schedule: null}\n"
    )
    made.configure()
    columns = ["parcel", "sent_at", "known_at", *FEATURES, "minutes"]
    made.city.rows[columns].to_parquet(root / "parcels.parquet", index=False)
    shutil.copy(faults_pipeline.__file__, root / "parcels_pipeline.py")
    for name in ("flows", "tasks", "deployments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, root / name, ignore=ignored)
    deliver_model(MODEL, reason="benchmark", as_of=FIRST)
