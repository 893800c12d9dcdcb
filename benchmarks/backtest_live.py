"""Does a backtest decide what the live service decides about the same rows, window by window?

A project of its own: `modelyard deliver --as-of` makes the first release, `modelyard replay
--in-step` sends the rows to the service, loads labels when they were known, and runs the flows of
monitoring and retraining. What the ledger then holds is laid beside the steps of the policy
`config` of a backtest over the same rows.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.claims import Claim, claim, show
from benchmarks.gate_streams import ROOT
from benchmarks.retraining_yard import MODEL, SHIFT, make_project, modelyard
from modelyard.adapters.backtest.fits import FitStore
from modelyard.adapters.backtest.history import History, read_history
from modelyard.adapters.backtest.policies import Policy
from modelyard.adapters.backtest.releases import deliver
from modelyard.adapters.backtest.simulation import Simulation
from modelyard.adapters.platform.parts import platform_id
from modelyard.adapters.platform.processes import marked_processes, stop_processes
from modelyard.adapters.platform.services import stop_services
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.policy_runs import CONFIGURED
from modelyard.domain.releases import Release, ReleaseState
from modelyard.ledger import Ledger
from modelyard.project import Project

STREAM = "elec2"
_QUICK_DAYS = (SHIFT - timedelta(days=1), SHIFT + timedelta(days=2))
_TIME = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True)
class Decided:
    """What was seen and done about one window."""

    start: datetime
    release: str
    """Who answered it."""
    alarms: str
    verdict: str
    cause: str
    outcome: str


def measure_live(quick: bool) -> list[Claim]:
    """Go through one stream twice: in a backtest, and with the real service."""
    with tempfile.TemporaryDirectory(prefix="modelyard-backtest-") as folder:
        project = make_project(Path(folder) / "project")
        name = MODEL if quick else STREAM
        if not quick:
            shutil.copy(
                ROOT / "configs" / "models" / "examples" / f"{STREAM}.yaml",
                project.root / "configs" / "models",
            )
        start, end = _QUICK_DAYS if quick else (None, None)
        config = project.model(name)
        history = read_history(config, project.root, start=start, end=end)
        tried = _go_through(history, Policy(CONFIGURED, config), Path(folder) / "fits")
        lived = _live(project, name, history)
    _show(name, tried, lived)
    same = sum(one == other for one, other in zip(tried, lived, strict=False))
    windows = len(history.windows)
    retrained = sum(bool(one.outcome) for one in lived)
    return [
        claim(f"{name}: windows decided alike, live and in the backtest", same, ">=", windows),
        claim(f"{name}: retrainings among them", retrained, ">=", 1),
    ]


def _go_through(history: History, policy: Policy, folder: Path) -> list[Decided]:
    store = FitStore(folder)
    first = deliver(history, policy.config, store, now=history.start).release
    assert first is not None
    run = Simulation(history, policy, store, first).run(lambda window, said: None)
    return [
        Decided(
            start=step.start,
            release=step.release,
            alarms=", ".join(step.alarms),
            verdict=step.verdict or "",
            cause=step.cause or "",
            outcome=step.outcome or "",
        )
        for step in run.steps
    ]


def _live(project: Project, name: str, history: History) -> list[Decided]:
    first, last = (f"{at:{_TIME}}" for at in (history.start, history.windows[-1].end))
    with _torn_down(project):
        _run(project, "deliver", name, "--as-of", first, "--json")
        _run(project, "replay", name, "--from", first, "--to", last, "--in-step", "--json")
        ledger = Ledger.open(project.ledger_url)
        try:
            return _recorded(ledger, name)
        finally:
            ledger.close()


@contextmanager
def _torn_down(project: Project) -> Iterator[None]:
    try:
        yield
    finally:
        stop_services(project)
        stop_processes(marked_processes(platform_id(project)), grace_seconds=0)


def _run(project: Project, *words: str) -> None:
    done = modelyard(project, *words)
    if done.returncode != 0:
        sys.exit(f"modelyard {' '.join(words)} failed: {done.stdout[-500:]}{done.stderr[-2000:]}")


def _recorded(ledger: Ledger, name: str) -> list[Decided]:
    """Return what the ledger holds of each window; a decision belongs to the one it came after."""
    made = {decision.at: decision for decision in ledger.decisions(name)}
    found = []
    for stored in ledger.windows(name):
        record = WindowRecord.model_validate(stored.record)
        decision = made.get(stored.end)
        release = None
        if decision is not None and decision.release_id is not None:
            release = ledger.release_by_id(decision.release_id)
        found.append(
            Decided(
                start=stored.start,
                release=", ".join(sorted(record.served)),
                alarms=", ".join(map(str, record.causes)),
                verdict="" if decision is None else decision.verdict,
                cause="" if decision is None else decision.decision["cause"] or "",
                outcome="" if release is None else _outcome(release),
            )
        )
    return found


def _outcome(release: Release) -> str:
    """Return what a delivery ended in; what became of a champion later is not its outcome."""
    was_champion = release.payload(ReleaseState.CHAMPION) is not None
    return str(ReleaseState.CHAMPION if was_champion else release.state)


def _show(name: str, tried: Sequence[Decided], lived: Sequence[Decided]) -> None:
    rows = []
    for one, other in zip(tried, lived, strict=False):
        cells = [
            a if a == b else f"{a or '-'} / {b or '-'}"
            for a, b in (
                (str(getattr(one, f.name)), str(getattr(other, f.name)))
                for f in fields(Decided)
                if f.name != "start"
            )
        ]
        rows.append((f"{one.start:%Y-%m-%d}", *cells, "" if one == other else "✗"))
    show(
        f"{name}: decided in the backtest / live, where these differ",
        ("window", "release", "alarms", "verdict", "cause", "outcome", ""),
        rows,
    )
