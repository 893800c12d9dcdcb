"""Real streams: how much of what retraining can gain does the config that ships get, at what price?

Each stream is gone through by the policies that `modelyard backtest` compares. Four have something
to gain: their policy `config` is held against the oracle, which learns all that is known before
every window, and against never retraining. In two nothing lasting happens: there each retraining
is one too many.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import Progress

from benchmarks.backtest_tables import decisions_table, scores_table
from benchmarks.claims import Claim, claim, console, data_folder, show
from benchmarks.gate_streams import ROOT, STREAMS
from benchmarks.monitoring_cases import CASES
from modelyard.adapters.backtest.policies import Policy, standard_policies
from modelyard.adapters.backtest.running import Question, run_policies
from modelyard.adapters.learning.scorers import find_metric
from modelyard.config import ModelConfig, load_model_config
from modelyard.domain.backtest import Backtest, assess
from modelyard.domain.policy_runs import CONFIGURED, NEVER, ORACLE, Step

LEAST_RECOVERED = 0.8
MOST_TRAININGS = 1 / 3
"""Of the oracle's."""
MOST_NEEDLESS = 2
_QUICK, _QUICK_END = "noaa_weather", datetime(1966, 1, 1, tzinfo=UTC)
EVERY = 4
"""Windows between two retrainings by the schedule alone."""

_WINDOWS = {"noaa_weather": timedelta(days=182), "beijing_pm25": timedelta(days=28)}
"""Of the controls: half years of daily rows, four weeks of hourly ones."""
_LEAST_ROWS = 100
_BEGIN = {"bank_marketing": datetime(2009, 11, 16, tzinfo=UTC)}
"""By default after a quarter of the rows. Of the bank's, no fit is better than the naive model on
the newest fifth until then, so that the gate lets no first release pass."""


@dataclass(frozen=True)
class Stream:
    """A data set, and how it is monitored and retrained."""

    config: ModelConfig
    is_control: bool = False

    @property
    def name(self) -> str:
        return self.config.name


def streams(folder: Path) -> Iterator[Stream]:
    """Return the streams that ship as examples, and then the controls.

    `folder` takes the rows that get a column of times.
    """
    for name in STREAMS:
        data_folder(name)
        yield Stream(load_model_config(ROOT / "configs" / "models", name))
    for case in CASES:
        if case.is_control:
            yield Stream(_control(case.stream.config, folder), is_control=True)


def _control(config: ModelConfig, folder: Path) -> ModelConfig:
    """Return how a control is monitored: as by default, in windows as long as its rows need."""
    data = config.data
    if data.time is None:  # a row a day: their order is known, their dates are not
        rows = pd.read_csv(str(data.source))
        rows["day"] = pd.date_range("1949-01-01", periods=len(rows), freq="D")
        path = folder / f"{config.name}.csv.gz"
        rows.to_csv(path, index=False)
        data = data.model_copy(update={"source": str(path), "time": "day"})
    changes = {"window": _WINDOWS[config.name], "min_rows": _LEAST_ROWS}
    monitoring = config.monitoring.model_copy(update=changes)
    return ModelConfig.model_validate(
        dict(config.model_copy(update={"data": data, "monitoring": monitoring}))
    )


def go_through(
    config: ModelConfig, policies: tuple[Policy, ...], folder: Path, end: datetime | None = None
) -> Backtest:
    """Run a backtest of a config, as the command does."""
    question = Question(ROOT, folder, config, _BEGIN.get(config.name), end)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(config.name, total=None)

        def tell(done: int, total: int, what: str) -> None:
            progress.update(bar, completed=done, total=total)

        gone = run_policies(question, policies, tell=tell)
    metric = find_metric(config.evaluation.primary_metric, config.task)
    return assess(
        config.name,
        metric.name,
        [one.run for one in gone.policies],
        {one.run.policy: one.figures for one in gone.policies},
        higher_is_better=metric.higher_is_better,
        promise=gone.promise,
    )


def measure_streams(quick: bool) -> list[Claim]:
    """Go through all streams, or in a quick run through some years of a control."""
    end = _QUICK_END if quick else None
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory(prefix="modelyard-backtest-") as folder:
        chosen = list(streams(Path(folder)))
        for stream in [s for s in chosen if s.name == _QUICK] if quick else chosen:
            policies = standard_policies(stream.config, EVERY)
            if quick:
                policies = tuple(p for p in policies if p.name in {NEVER, CONFIGURED, ORACLE})
            began = time.monotonic()
            done = go_through(stream.config, policies, Path(folder) / stream.name, end)
            seconds = time.monotonic() - began
            scores_table(f"{stream.name}: {done.windows} windows, {seconds:.0f} s", done)
            decisions_table(f"{stream.name}: what policy {CONFIGURED} did", _steps(done))
            found = list(_claims(stream, done))
            claims += found
            if not all(c.holds for c in found):
                show(
                    f"{stream.name} does not hold: where {CONFIGURED} lost against the oracle",
                    ("before the windows", "windows", "share of what was lost"),
                    [
                        (one.words, one.windows, f"{one.share:.0%}")
                        for score in done.scores
                        if score.policy == CONFIGURED
                        for one in score.shortfalls
                    ],
                )
    return claims


def _claims(stream: Stream, done: Backtest) -> Iterator[Claim]:
    scores = {score.policy: score for score in done.scores}
    config, oracle = scores[CONFIGURED], scores[ORACLE]
    if stream.is_control:
        name = f"{stream.name} (control): retrainings"
        yield claim(name, config.trainings, "<=", MOST_NEEDLESS)
        return
    share = config.recovered
    yield claim(
        f"{stream.name}: share of the oracle's gain recovered",
        np.nan if share is None else share.value,
        ">=",
        LEAST_RECOVERED,
    )
    yield claim(
        f"{stream.name}: trainings beside the oracle's",
        config.trainings / oracle.trainings,
        "<=",
        MOST_TRAININGS,
    )


def _steps(done: Backtest) -> tuple[Step, ...]:
    return next(run.steps for run in done.runs if run.policy == CONFIGURED)
