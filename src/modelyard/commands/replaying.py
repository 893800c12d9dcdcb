"""How does a replay run window by window, and what does it show at the end?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from modelyard.adapters.controlling import concerns_controller
from modelyard.adapters.pictures.monitoring_plots import replay_story, window_points
from modelyard.adapters.platform.parts import read_platform
from modelyard.adapters.replay import Replay, Traffic
from modelyard.adapters.workspace import Workspace
from modelyard.commands.running import console
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.deliveries import Retraining
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.releases import UNFINISHED, Release
from modelyard.domain.windows import Window
from modelyard.errors import ConflictError

AUTOMATION_SECONDS = 60.0
"""How long the platform's automation may take to decide, before the replay asks by itself: what
the scheduled reconciliation does for an event that was lost."""

DELIVERY_SECONDS = 600.0
_LOOKED_AT = 200
"""Newest windows that the controller goes by."""


def run_replay(
    workspace: Workspace,
    champion: Release,
    url: str,
    *,
    monitor: Callable[..., list[WindowRecord]],
    retrain: Callable[..., Retraining],
    source: str | None,
    start: datetime | None,
    end: datetime | None,
    speed: float | None,
    as_json: bool,
    in_step: bool = False,
) -> None:
    """Replay rows against the live service, and print what every window showed."""
    config = workspace.project.model(champion.model)
    with _alone(workspace, config.name):
        replay = Replay(
            workspace, config, champion, url, source=source, start=start, end=end, speed=speed
        )
        loop = _Loop(workspace, replay, config.name, monitor, retrain, in_step=in_step)
        records = loop.run()
    if as_json:
        console.print_json(
            data={
                "windows": [record.model_dump(mode="json") for record in records],
                "requests": replay.traffic.requests,
                "failed": replay.traffic.failed,
                "sent_before": replay.sent_before,
                "learnt": replay.learnt,
            }
        )
        return
    console.print(_story_table(records, config.evaluation.primary_metric, loop.notes))
    console.print(_traffic_line(replay.traffic))
    if replay.sent_before:
        console.print(f"{replay.sent_before:,} rows were in the log already and not sent again.")
    if replay.learnt:
        console.print(
            f"The release had learnt {replay.learnt:,} of these rows: its errors on them are "
            "smaller than on new ones. For a fair replay deliver with an earlier --as-of first."
        )
    console.print(f"Plot: [bold]{_plot(workspace, config.name, records)}[/]")


@contextmanager
def _alone(workspace: Workspace, model: str) -> Iterator[None]:
    """Let one replay of a model run at a time; the kernel frees the lock, however it ends."""
    try:
        with FileLock(workspace.project.run_folder() / f"replay-{model}.lock", timeout=0):
            yield
    except Timeout as err:
        raise ConflictError(
            f"Another replay of {model} is under way. Wait for it to end, or end it."
        ) from err


class _Loop:
    """Traffic of one window and the flows about the one before, side by side."""

    def __init__(
        self,
        workspace: Workspace,
        replay: Replay,
        model: str,
        monitor: Callable[..., list[WindowRecord]],
        retrain: Callable[..., Retraining],
        *,
        in_step: bool,
    ) -> None:
        self._workspace = workspace
        self._in_step = in_step
        self._replay = replay
        self._model = model
        self._monitor = monitor
        self._retrain = retrain
        self._by_platform = "worker" in read_platform(workspace.project)
        self.notes: dict[str, str] = {}
        """What came of a window, by its id."""

    def run(self) -> list[WindowRecord]:
        windows = self._replay.windows
        with (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            ) as progress,
            ThreadPoolExecutor(1) as sender,
        ):
            bar = progress.add_task("Replaying windows", total=len(windows))
            sent: Future[None] = sender.submit(self._replay.send, windows[0])
            for number, window in enumerate(windows):
                sent.result()
                self._replay.load_labels(window.end)
                following = windows[number + 1 : number + 2]
                if following and not self._in_step:
                    self._replay.flow_at_work(True)
                    sent = sender.submit(self._replay.send, following[0])
                if self._replay.fills(window):
                    progress.update(bar, description=f"Window {window.start:%Y-%m-%d}: monitoring")
                    self._watch(window, lambda text: progress.update(bar, description=text))
                self._replay.flow_at_work(False)
                if following and self._in_step:
                    sent = sender.submit(self._replay.send, following[0])
                progress.advance(bar)
        return self._records(windows)

    def _watch(self, window: Window, say: Callable[[str], None]) -> None:
        """Monitor what has ended with a window of the replay, and ask the controller about it."""
        config = self._workspace.project.model(self._model)
        self._monitor(self._model, as_of=window.end + config.monitoring.lateness)
        before = self._champion()
        recorded = self._workspace.ledger.windows(self._model, last=_LOOKED_AT)
        records = [WindowRecord.model_validate(w.record) for w in recorded]
        own = [record for record in records if record.release == before]
        own = [record for record in own if record.window.end <= window.end]
        is_due = config.retraining.is_scheduled(window.start, window.end)
        if not own or not (is_due or concerns_controller(own, config, window.end)):
            return
        seen = own[-1].window
        why = "the schedule" if is_due else ", ".join(own[-1].causes) or "labels came"
        say(f"Window {seen.start:%Y-%m-%d}: {why}; asking the controller")
        verdict = self._ask(seen, RetrainingCause.SCHEDULE) if is_due else self._decide(seen)
        after = self._champion()
        self.notes[seen.id] = f"→ {after}" if after != before else verdict

    def _decide(self, window: Window) -> str:
        if self._by_platform:
            decided = self._wait_for_platform(window)
            if decided is not None:
                return decided
        # whichever it is: without a schedule or a person the windows decide
        return self._ask(window, RetrainingCause.PERFORMANCE)

    def _ask(self, window: Window, cause: RetrainingCause) -> str:
        return self._retrain(self._model, cause=cause, as_of=window.end).words

    def _wait_for_platform(self, window: Window) -> str | None:
        """Wait until the automation's flow run has decided on a window, and its delivery ended."""
        ledger = self._workspace.ledger
        began = time.monotonic()
        while time.monotonic() - began < AUTOMATION_SECONDS:
            made = [
                d for d in ledger.decisions(self._model) if d.decision.get("window_id") == window.id
            ]
            if made:
                while time.monotonic() - began < DELIVERY_SECONDS and self._under_way(made[-1].key):
                    time.sleep(0.25)
                return made[-1].verdict
            time.sleep(0.25)
        return None

    def _under_way(self, key: str) -> bool:
        decision = self._workspace.ledger.decision(key)
        if decision is None or decision.verdict != "retrain":
            return False
        if decision.release_id is None:
            return True
        return self._workspace.ledger.release_by_id(decision.release_id).state in UNFINISHED

    def _champion(self) -> str:
        champion = self._workspace.ledger.champion(self._model)
        return str(champion.version) if champion else "-"

    def _records(self, windows: tuple[Window, ...]) -> list[WindowRecord]:
        begun, ended = windows[0].start, windows[-1].end
        recorded = self._workspace.ledger.windows(self._model)
        return [WindowRecord.model_validate(w.record) for w in recorded if begun < w.end <= ended]


def _story_table(records: list[WindowRecord], metric: str, notes: dict[str, str]) -> Table:
    table = Table("window", "rows", metric, "performance", "drift", "data", "served by", "then")
    for record in records:
        table.add_row(
            f"{record.window.start:%Y-%m-%d}",
            f"{record.rows:,}",
            "" if record.realized is None else f"{record.realized:.4g}",
            _coloured(record.performance.outcome, "degraded"),
            _coloured(record.drift.outcome, "drifted"),
            _coloured(record.quality.outcome, "broken"),
            ", ".join(f"{version}: {rows:,}" for version, rows in sorted(record.served.items())),
            notes.get(record.window.id, ""),
        )
    return table


def _coloured(outcome: str, wrong: str) -> str:
    return f"[red]{outcome}[/]" if outcome == wrong else str(outcome)


def _traffic_line(traffic: Traffic) -> str:
    colour = "red" if traffic.failed else "green"
    return (
        f"{traffic.rows:,} rows in {traffic.requests:,} requests, "
        f"[{colour}]{traffic.failed} failed[/]."
    )


def _plot(workspace: Workspace, model: str, records: list[WindowRecord]) -> Path:
    config = workspace.project.model(model)
    figure = replay_story(
        window_points(records), config.evaluation.primary_metric, marks=_marks(config)
    )
    path = workspace.project.folder("reports", model) / "replay.png"
    figure.savefig(path, dpi=110)
    run = workspace.tracking.monitoring_run(model)
    workspace.tracking.log_pictures(run, {"replay": path.read_bytes()})
    return path


def _marks(config: Any) -> dict[str, datetime]:
    """Return what is known to have happened: only a simulation knows."""
    if not str(config.data.source).startswith("sim://"):
        return {}
    from modelyard.simulations import known_events

    return known_events(str(config.data.source))
