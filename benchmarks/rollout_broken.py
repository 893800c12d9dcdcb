"""Does a rollout catch releases that are broken in twenty ways, and let sound ones pass?

Each release is delivered for real, up to its image, and rolled out as a canary on the Docker target
under steady traffic with labels. What is broken about it begins in its replicas only, seconds after
they proved themselves: nothing before the rollout can find it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from benchmarks import faulty_pipeline
from benchmarks.claims import Claim, claim, show
from modelyard.errors import BundleError

MODEL = "rides"
BEFORE_TRAFFIC = ("does_not_start", "starts_slowly")
IN_TRAFFIC = (
    "ends",
    "leaks",
    "hangs",
    "slow_for_all",
    "slow_at_p99",
    "fails_always",
    "fails_at_2_percent",
    "fails_on_a_category",
    "gives_text",
    "gives_too_few",
    "gives_nan",
    "gives_nan_at_5_percent",
    "gives_infinity",
    "constant",
    "sticks",
    "swaps_columns",
    "wrong_units",
    "wrong_sign",
    "worse",
)
QUICK = ("swaps_columns",)
_CLIENTS = 4
_HISTORY = datetime(2024, 1, 1, tzinfo=UTC)
_LONGEST_SECONDS = 180.0
_CONFIG = """\
name: rides
task: regression
data: {{source: rides.csv, target: cnt, id: row_id, time: hour}}
training:
  pipeline: faulty:build
  params: {{fault: {fault}, half: {half}}}
evaluation: {{holdout: newest 3d, refit: not shown worse}}
service:
  target: docker
  replicas: 2
  rollout:
    strategy: {strategy}
    steps: {steps}
    bake: {bake}
    patience: 1m
    {rollout}
    analysis: {{interval: {interval}, least_requests: 150, labels: 100}}
"""


@dataclass
class Yard:
    """A project with a champion on the Docker target, and rows that were never seen."""

    root: Path
    rows: pd.DataFrame
    sent: Counter[str] = field(default_factory=Counter)
    """Answers by release; `failed` are those without one."""

    def configure(
        self,
        fault: str = "none",
        *,
        half: bool = False,
        strategy: str = "canary",
        steps: str = "[25]",
        bake: str = "30s",
        interval: str = "2s",
        rollout: str = "",
    ) -> None:
        """Write the model's config: what the next delivery trains, and how it comes into traffic.

        `rollout` is one more line of the rollout's section.
        """
        text = _CONFIG.format(
            fault=fault,
            half=str(half).lower(),
            strategy=strategy,
            steps=steps,
            bake=bake,
            interval=interval,
            rollout=rollout,
        )
        (self.root / "configs" / "models" / f"{MODEL}.yaml").write_text(text)

    def deliver(self, hours: int) -> str:
        """Bring a release as far as its image, and start its rollout; return its id."""
        from tasks.checks import check_rows
        from tasks.data import open_delivery
        from tasks.evaluation import gate_candidate
        from tasks.images import build_release
        from tasks.registration import register_release
        from tasks.rollout import start_rollout
        from tasks.training import refit_candidate, train_candidate

        delivery = open_delivery.fn(MODEL, "benchmark", self.until(hours))
        check_rows.fn(delivery)
        judged = train_candidate.fn(delivery)
        gated = gate_candidate.fn(delivery, judged)
        assert gated.promotes, gated.decision.reasons
        candidate = refit_candidate.fn(delivery, judged, gated)
        registration = register_release.fn(delivery, candidate, gated)
        build = build_release.fn(delivery, candidate, registration)
        start_rollout.fn(delivery, registration, build)
        return delivery.id

    def until(self, hours: int) -> datetime:
        """Return the time by which so many rows were known."""
        return _HISTORY + timedelta(hours=hours)

    def roll_out(self, release_id: str) -> Any:
        """Carry a rollout on until it has ended; return its last report."""
        from tasks.rollout import advance_rollout

        end = time.monotonic() + _LONGEST_SECONDS
        while True:
            report = advance_rollout.fn(release_id)
            if report.ended or time.monotonic() > end:
                return report
            time.sleep(0.5)

    def put_back(self) -> None:
        """Undo the promotion of a release that should not have got it."""
        from tasks.rollout import choose_former_release, put_back

        put_back.fn(choose_former_release.fn(MODEL), "benchmark")

    @contextmanager
    def traffic(self, url: str, pause_seconds: float = 0.002) -> Iterator[Counter[str]]:
        """Send rows all the time, one a request; count who answers.

        Each client waits for `pause_seconds` from one request to the next.
        """
        self.sent.clear()
        over = threading.Event()
        threads = [
            threading.Thread(target=self._send, args=(url, place, over, pause_seconds))
            for place in range(_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self.sent
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _send(self, url: str, place: int, over: threading.Event, pause_seconds: float) -> None:
        records = self.rows.drop(columns="cnt").to_dict(orient="records")
        with httpx.Client(base_url=url, timeout=70) as client:
            for number in itertools.count(place, _CLIENTS):
                if over.wait(pause_seconds):
                    return
                record = records[number % len(records)]
                try:
                    answer = client.post("/invocations", json={"dataframe_records": [record]})
                    told = answer.headers.get("x-modelyard-release", "")
                    self.sent[told if answer.status_code == 200 else "failed"] += 1
                except httpx.HTTPError:
                    self.sent["failed"] += 1


@contextmanager
def yard(platform: str = "", seed: int = 7) -> Iterator[Yard]:
    """Make a project with a champion that serves, and leave nothing of it.

    `platform` are further lines of its configs/platform.yaml, `seed` that of its rows.
    """
    from modelyard.adapters.data.labels import store_labels
    from modelyard.adapters.workspace import Workspace

    folder = Path(tempfile.mkdtemp(prefix="rollout-"))
    made = Yard(folder, _rides(24 * 200, seed))
    made.rows.to_csv(folder / "rides.csv", index=False)
    shutil.copy(faulty_pipeline.__file__, folder / "faulty.py")
    (folder / "configs" / "models").mkdir(parents=True)
    (folder / "configs" / "platform.yaml").write_text(f"home: .modelyard\n{platform}")
    os.environ["MODELYARD_ROOT"] = str(folder)
    sys.path.insert(0, str(folder))  # the project's own code
    workspace = Workspace.find()
    try:
        made.configure(half=True)
        first = made.roll_out(made.deliver(24 * 60))
        assert first.promoted, first.state.why
        rows, known = made.rows, datetime.now(UTC)
        store_labels(
            workspace.project.label_folder(MODEL),
            rows["row_id"],
            rows["cnt"],
            pd.Series(known, index=rows.index),
        )
        yield made
    finally:
        workspace.target("docker").remove(MODEL)
        workspace.ledger.close()
        del os.environ["MODELYARD_ROOT"]
        sys.path.remove(str(folder))
        sys.modules.pop("faulty", None)  # the next project has one of its own
        shutil.rmtree(folder, ignore_errors=True)


def measure_broken(quick: bool) -> list[Claim]:
    """Roll broken releases out, and sound ones between them."""
    faults = QUICK if quick else (*BEFORE_TRAFFIC, *IN_TRAFFIC)
    sound = 1 if quick else 50
    table, caught, aborted = [], 0, 0
    with warnings.catch_warnings(), yard() as made:
        warnings.simplefilter("ignore")
        url = service_url()
        for fault in faults:
            made.configure(fault)
            row, stopped = _try(made, url, fault, 24 * 60)
            table.append(row)
            caught += stopped
            if not stopped:
                made.put_back()
        for number in range(sound):
            made.configure(bake="10s")
            row, stopped = _try(made, url, "none: sound", 24 * (61 + number))
            table.append(row)
            aborted += stopped
    show(
        "Canaries at 25 % of the traffic",
        ("fault", "outcome", "in", "found by", "seconds", "answered by it", "failed", "of"),
        table,
    )
    return [
        claim("broken releases that were caught, of all", caught / len(faults), ">=", 1.0),
        claim("sound releases that were aborted", aborted, "<=", 0),
    ]


def _try(made: Yard, url: str, fault: str, hours: int) -> tuple[tuple[object, ...], bool]:
    try:
        release_id = made.deliver(hours)
    except BundleError as err:  # its image was proven first
        return (fault, "refused", "build", str(err).splitlines()[0][:60], None, 0, 0, 0), True
    with made.traffic(url) as sent:
        started = time.monotonic()
        report = made.roll_out(release_id)
        seconds = time.monotonic() - started
    looks = report.state.looks
    failed = [m.name for m in looks[-1].measurements if m.verdict == "failed"] if looks else []
    outcome = "promoted" if report.promoted else "aborted" if report.ended else "goes on"
    row = (
        fault,
        outcome,
        "traffic" if looks else "start",
        ", ".join(failed) or report.state.why[:60],
        round(seconds),
        sent[report.version],
        sent["failed"],
        sum(sent.values()),
    )
    return row, report.ended and not report.promoted


def service_url() -> str:
    """Return where the model answers."""
    from modelyard.adapters.workspace import Workspace

    status = Workspace.find().target("docker").status(MODEL)
    assert status is not None
    return status.url


def _rides(hours: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    temp, wind = rng.uniform(0, 30, hours).round(2), rng.uniform(0, 10, hours).round(2)
    season = rng.choice(["dry", "wet"], hours)
    counted = 40 + 2 * temp - wind - 8 * (season == "wet") + rng.normal(0, 2, hours)
    return pd.DataFrame(
        {
            "row_id": [f"r{number}" for number in range(hours)],
            "hour": pd.date_range(_HISTORY, periods=hours, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "temp": temp,
            "wind": wind,
            "season": season,
            "cnt": counted.round(3),
        }
    )
