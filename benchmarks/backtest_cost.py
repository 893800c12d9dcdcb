"""What do eight policies cost beside one, in fits, memory and time?

The standard six and a grid of two on elec2, with fresh folders for each run: what one run has
fitted, none of the others finds.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from joblib.externals.loky import get_reusable_executor

from benchmarks.claims import Claim, claim, console, data_folder, show
from benchmarks.gate_streams import ROOT
from modelyard.adapters.backtest.history import read_history
from modelyard.adapters.backtest.policies import Policy, read_policies, standard_policies
from modelyard.adapters.backtest.running import PastPolicy, Question, run_policies
from modelyard.config import ModelConfig, load_model_config
from modelyard.domain.policy_runs import NEVER, ORACLE

STREAM = "elec2"
EVERY = 4
_GRID = """\
name: tried
retraining: {windows: 1 of 1}
grid: {retraining.cooldown: [28d, 84d]}
"""
_QUICK_WINDOWS = 6
_TIMES = 2
"""Runs with one process and with two, in turn."""


@dataclass(frozen=True)
class Measured:
    """One run of a backtest."""

    policies: tuple[PastPolicy, ...]
    seconds: float
    fits: int
    """Models in its folder afterwards."""
    peak_mb: float
    """Most memory that the process which was asked held at once."""

    @property
    def results(self) -> list[dict[str, object]]:
        """Return what must be the same whoever did it."""
        return [one.model_dump(exclude={"run": {"fit_seconds"}}) for one in self.policies]


def measure_cost(quick: bool) -> list[Claim]:
    """Run the same backtest by one process, by two, by Dask, and with fewer policies."""
    data_folder(STREAM)
    config = load_model_config(ROOT / "configs" / "models", STREAM)
    with tempfile.TemporaryDirectory(prefix="modelyard-backtest-") as folder:
        eight = _policies(config, Path(folder))
        few = tuple(p for p in eight if p.name in {NEVER, ORACLE})  # never fits nothing
        yard = _Yard(Path(folder), config, _QUICK_WINDOWS if quick else None)
        by_one, by_two = [], []
        for _ in range(1 if quick else _TIMES):
            by_one.append(yard.run("8 policies, one process", eight, processes=1))
            if not quick:
                by_two.append(yard.run("8 policies, two processes", eight, processes=2))
        two = yard.run("never and the oracle, one process", few, processes=1)
        on_dask = yard.run("8 policies, Dask cluster of two", eight, processes=None)
    one = by_one[0]
    _show(one, yard.done)
    dearest = max(two.fits, *(done.run.fits for done in one.policies))
    others = [*by_one[1:], *by_two]
    claims = [
        claim("fits of 8 policies beside the most expensive one's", one.fits / dearest, "<=", 3),
        claim("peak memory of 8 policies beside 2", one.peak_mb / two.peak_mb, "<=", 1.15),
        claim("policies that end otherwise on a Dask cluster", _differing(one, on_dask), "<=", 0),
    ]
    if by_two:
        faster = median(a.seconds / b.seconds for a, b in zip(by_one, by_two, strict=True))
        differing = sum(_differing(one, other) for other in others)
        claims += [
            claim("times as fast with two processes", faster, ">=", 1.6),
            claim("policies that end otherwise with two processes", differing, "<=", 0),
        ]
    return claims


def _policies(config: ModelConfig, folder: Path) -> tuple[Policy, ...]:
    path = folder / "tried.yaml"
    path.write_text(_GRID)
    return (*standard_policies(config, EVERY), *read_policies(path, config))


class _Yard:
    """Runs of one question, each in a process and a folder of its own."""

    def __init__(self, folder: Path, config: ModelConfig, windows: int | None) -> None:
        self._folder, self._config = folder, config
        self._end: datetime | None = None
        if windows is not None:
            self._end = read_history(config, ROOT).windows[windows - 1].end
        self.done: list[tuple[str, Measured]] = []

    def run(self, name: str, policies: tuple[Policy, ...], processes: int | None) -> Measured:
        """Run policies; without a number of processes, on a Dask cluster of two workers."""
        folder = self._folder / str(len(self.done))
        question = Question(ROOT, folder, self._config, end=self._end)
        context = multiprocessing.get_context("spawn")
        with console.status(name), ProcessPoolExecutor(1, mp_context=context) as asked:
            done = asked.submit(_measured, question, policies, processes).result()
        self.done.append((name, done))
        return done


def _measured(question: Question, policies: tuple[Policy, ...], processes: int | None) -> Measured:
    with _address(processes) as dask:
        began = time.monotonic()
        gone = run_policies(question, policies, processes=processes, dask=dask)
        seconds = time.monotonic() - began
    fits = sum(1 for _ in (question.folder / "fits").glob("*/*/fit.json"))
    # a process that is not the main one waits for its own, which else idle for five minutes
    get_reusable_executor().shutdown()
    return Measured(gone.policies, seconds, fits, _peak_mb())


@contextmanager
def _address(processes: int | None) -> Iterator[str | None]:
    if processes is not None:
        yield None
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.ERROR,  # on a busy machine workers take longer to end than it likes
    ) as cluster:
        yield cluster.scheduler_address


def _peak_mb() -> float:
    """Return this process's peak of resident memory; getrusage would tell a parent's as well."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _differing(one: Measured, other: Measured) -> int:
    return sum(a != b for a, b in zip(one.results, other.results, strict=True))


def _show(one: Measured, done: Sequence[tuple[str, Measured]]) -> None:
    show(
        f"{STREAM}: what each policy has fitted, had it been alone",
        ("policy", "trainings", "fits", "seconds of fitting"),
        [
            (p.run.policy, p.run.trainings, p.run.fits, f"{p.run.fit_seconds:.1f}")
            for p in one.policies
        ],
    )
    show(
        f"{STREAM}: {len(one.policies[0].figures)} windows",
        ("run", "models fitted", "seconds", "peak MB of the process"),
        [(name, m.fits, f"{m.seconds:.1f}", f"{m.peak_mb:.0f}") for name, m in done],
    )
