"""How are several policies gone through at once, on all cores or on a Dask cluster?

What each has done is kept, and fits are shared: a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

from joblib import Parallel, cpu_count, delayed, parallel_config
from threadpoolctl import threadpool_limits

import modelyard
from modelyard.adapters.backtest.fits import FitStore
from modelyard.adapters.backtest.history import History, read_history
from modelyard.adapters.backtest.policies import Policy
from modelyard.adapters.backtest.releases import PastDelivery, PastRelease, deliver
from modelyard.adapters.backtest.simulation import Simulation
from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.learning.outcomes import as_outcomes, as_truth
from modelyard.adapters.learning.pipelines import build_pipeline
from modelyard.adapters.learning.scorers import find_metric
from modelyard.config import ModelConfig
from modelyard.domain.intervals import metric_interval
from modelyard.domain.policy_runs import ORACLE, PolicyRun, Step, WindowFigure
from modelyard.domain.promises import promise_limit
from modelyard.domain.values import Contract, Value
from modelyard.domain.windows import Window
from modelyard.errors import ConfigError, InvalidInputError
from modelyard.serving.frames import predict_frame
from modelyard.serving.predictor import Prediction


@dataclass(frozen=True)
class Question:
    """What history is gone through: small, since each process reads the rows itself."""

    root: Path
    """Folder of the project."""
    folder: Path
    """Where fits and results are kept."""
    config: ModelConfig
    start: datetime | None = None
    end: datetime | None = None
    asked: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of each question anew: processes keep the rows of one question, and no longer."""

    def __hash__(self) -> int:
        return hash(self.asked)


class PastPolicy(Value):
    """What one policy did, and how good its service truly was."""

    run: PolicyRun
    figures: tuple[WindowFigure, ...]


class _OracleWindow(Value):
    figure: WindowFigure
    fit_key: str
    fit_seconds: float


class Gone(Value):
    """What all policies did."""

    policies: tuple[PastPolicy, ...]
    promise: float
    """The primary metric's worst value that counts as what the first release promised."""


Tell = Callable[[int, int, str], None]
"""Called with parts done, parts there are, and what was done last."""

listeners: list[Tell] = []
"""Called by `announce`: the terminal's progress bar subscribes here."""


def announce(done: int, total: int, what: str) -> None:
    """Tell whoever listens in this process how far a backtest is."""
    for listener in listeners:
        listener(done, total, what)


def run_policies(
    question: Question,
    policies: Sequence[Policy],
    *,
    processes: int | None = None,
    dask: str | None = None,
    tell: Tell = lambda done, total, what: None,
) -> Gone:
    """Go through history with each policy, and return them in the same order.

    Args:
        processes: at the same time; None is one a core.
        dask: address of a scheduler whose workers do it instead; they share this file system.

    Raises DataError and InvalidInputError for history that cannot be gone through, ConfigError for
    a recipe that cannot be built.
    """
    history, first = _beginning(question)  # here: whatever is wrong with the rows is told once
    for policy in policies:
        _check_recipe(policy, first)
    promise = _promise(question, first)
    others = [policy for policy in policies if policy.name != ORACLE]
    windows = len(history.windows)
    jobs = [
        *((_oracle_window, (number,), 1) for number in range(windows)),
        *((_go_through, (policy,), windows) for policy in others),
    ]
    total = sum(weight for _, _, weight in jobs)
    found: dict[str, PastPolicy] = {}
    ideal: dict[int, _OracleWindow] = {}
    done = 0
    with _workers(processes, dask) as pool:
        calls = (delayed(_limited)(work, question, *args) for work, args, _ in jobs)
        for result in cast(Iterator[Any], pool(calls)):
            if isinstance(result, PastPolicy):
                found[result.run.policy] = result
                done, what = done + windows, result.run.policy
            else:
                number, window = result
                ideal[number] = window
                done, what = done + 1, ORACLE
            tell(done, total, what)
    found[ORACLE] = _oracle(history, [ideal[number] for number in range(windows)], policies)
    return Gone(policies=tuple(found[policy.name] for policy in policies), promise=promise)


@contextmanager
def _workers(processes: int | None, dask: str | None) -> Iterator[Parallel]:
    if dask is None:
        count = processes or cpu_count()
        yield Parallel(n_jobs=count, return_as="generator_unordered")
        return
    try:
        from distributed import Client
    except ImportError:
        raise InvalidInputError(
            "A Dask cluster needs the package `distributed`: install modelyard[dask]."
        ) from None
    try:
        client = Client(dask)
    except (OSError, ValueError) as err:
        raise InvalidInputError(
            f"No Dask scheduler answers at {dask}: {err}. Start one there, or leave out --dask."
        ) from None
    with client, parallel_config(backend="dask"):
        yield Parallel(return_as="generator_unordered")


def _limited(work: Callable[..., Any], question: Question, *args: Any) -> Any:
    """Run one part on one thread, so that it gives the same whoever runs it, and beside others.

    What joblib would do in parallel within it is done in turn: in a Dask worker each step of each
    pipeline would be a task of the cluster, waited for by a worker that has nothing else to do.
    """
    with threadpool_limits(1), parallel_config(backend="sequential"):
        return work(question, *args)


@lru_cache(maxsize=1)
def _beginning(question: Question) -> tuple[History, PastRelease]:
    """Return history from the moment on at which there is a first release, and that release.

    Where nobody says when to begin, it is the end of the first window after which the gate lets one
    pass. Raises InvalidInputError where none does.
    """
    history = read_history(question.config, question.root, start=question.start, end=question.end)
    tried = 1 if question.start else len(history.windows)
    reasons: tuple[str, ...] = ()
    for number in range(tried):
        later = history.without_first(number)
        made = _first_try(question, later)
        if made.release is not None:
            return later, made.release
        reasons = reasons or made.reasons
    raise InvalidInputError(
        f"{question.config.name}: with what was known on {history.start:%Y-%m-%d %H:%M} no first "
        f"release comes about: {'; '.join(reasons)}. "
        + ("Begin later with --from." if question.start else "Nor does one later.")
    )


def _first_try(question: Question, history: History) -> PastDelivery:
    with threadpool_limits(1):
        return deliver(history, question.config, _store(question), now=history.start)


def _check_recipe(policy: Policy, first: PastRelease) -> None:
    """Build a policy's recipe once; later it would look like a retraining that went wrong."""
    try:
        build_pipeline(policy.config.training, first.contract)
    except ConfigError as err:
        raise ConfigError(f"Policy {policy.name!r}: {err}") from err


def _store(question: Question) -> FitStore:
    return FitStore(question.folder / "fits")


def _promise(question: Question, first: PastRelease) -> float:
    metric = find_metric(question.config.evaluation.primary_metric, question.config.task)
    return promise_limit(metric, first.monitored.promised, 0.0)


def _go_through(question: Question, policy: Policy) -> PastPolicy:
    """Go through history with one policy, or return what was kept of it."""
    history, first = _beginning(question)
    kept = question.folder / "runs" / f"{_digest(history, first, policy)}.json"
    if kept.exists():
        with suppress(ValueError):  # damaged: it is gone through again
            return PastPolicy.model_validate_json(kept.read_bytes())
    figures: list[WindowFigure] = []
    simulation = Simulation(history, policy, _store(question), first)

    def look(window: Window, said: Prediction | None) -> None:
        figures.append(_figure(history, policy.config, window, said, simulation.release.contract))

    run = simulation.run(look)
    done = PastPolicy(run=run, figures=tuple(figures))
    kept.parent.mkdir(parents=True, exist_ok=True)
    half = kept.with_suffix(f".{uuid.uuid4().hex}.part")  # another backtest may write it, too
    half.write_text(done.model_dump_json())
    half.replace(kept)
    return done


def _oracle_window(question: Question, number: int) -> tuple[int, _OracleWindow]:
    """Answer one window by a fit of all that was known when it began."""
    (history, _), config = _beginning(question), question.config
    window = history.windows[number]
    selection = history.split(config, window.start, None)
    contract = infer_contract(config, selection.rows).contract
    chosen = selection.rows[selection.training | selection.holdout].reset_index(drop=True)
    holdout = selection.part("holdout").reset_index(drop=True)
    fit = _store(question).fit(config, contract, chosen, holdout)
    rows = history.rows.iloc[history.of(window)].reset_index(drop=True)
    said = predict_frame(fit.predictor, rows) if len(rows) else None
    figure = _figure(history, config, window, said, contract)
    return number, _OracleWindow(figure=figure, fit_key=fit.key, fit_seconds=fit.seconds)


def _oracle(
    history: History, windows: Sequence[_OracleWindow], policies: Sequence[Policy]
) -> PastPolicy:
    words = next((policy.words for policy in policies if policy.name == ORACLE), "")
    steps = (
        Step(start=w.start, end=w.end, release=f"fit {number + 1}", outcome="champion")
        for number, w in enumerate(history.windows)
    )
    fits = {window.fit_key: window.fit_seconds for window in windows}
    run = PolicyRun(
        policy=ORACLE,
        words=words,
        steps=tuple(steps),
        fits=len(fits),
        fit_seconds=sum(fits.values()),
    )
    return PastPolicy(run=run, figures=tuple(window.figure for window in windows))


def _figure(
    history: History,
    config: ModelConfig,
    window: Window,
    said: Prediction | None,
    contract: Contract,
) -> WindowFigure:
    """Return how good answers to a window were, by all labels that ever came."""
    labels = history.rows[config.data.target].iloc[history.of(window)]
    metric = find_metric(config.evaluation.primary_metric, config.task)
    figure = None
    there = labels.notna().to_numpy()
    if said is not None and there.any():
        try:
            truth = as_truth(labels[there], contract)
            predicted = as_outcomes(said, contract).for_metric(metric)[there]
            figure = metric_interval(
                metric, truth, predicted, confidence=config.evaluation.confidence
            )
        except InvalidInputError:  # one class only, or a class that the release does not know
            figure = None
    return WindowFigure(start=window.start, end=window.end, rows=int(there.sum()), figure=figure)


def _digest(history: History, first: PastRelease, policy: Policy) -> str:
    """Return what a result is kept under: the same for the same rows, policy, packages and code."""
    facts = (
        policy.config.model_dump_json(exclude={"alerts", "service"}),
        policy.name,
        str(policy.every),
        history.fingerprint,
        first.judged_fit.key,
        _code(),
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


@cache
def _code() -> str:
    """Return a digest of the rules themselves: others may decide otherwise."""
    digest = hashlib.sha256()
    package = Path(modelyard.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
