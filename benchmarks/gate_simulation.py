"""How often is an equal challenger promoted, and how often a better one?

Two models' errors on n holdout rows are drawn: independent from row to row, or alike over time as
an AR(1) series. The challenger's recipe is new; it is exactly as good, or better by twice the half
width of the gate's own interval. Beside the gate: `challenger >= champion`, and MLflow's
`validate_evaluation_results` with a metric threshold that asks for 1 % relative improvement.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import MetricThreshold
from mlflow.models.evaluation import EvaluationResult
from mlflow.models.evaluation.validation import ModelValidationFailedException
from rich.progress import track
from scipy import signal, stats

from benchmarks.claims import Claim, claim, console, show
from modelyard.adapters.learning.gating import judge
from modelyard.adapters.learning.judging import Comparison, Judged
from modelyard.adapters.learning.outcomes import Outcomes
from modelyard.config import Evaluation
from modelyard.domain.intervals import paired_difference
from modelyard.domain.metrics import METRICS, Metric
from modelyard.domain.values import Contract, MLTask

STATED_RATE = 0.05
REGRESSION = Contract(task=MLTask.REGRESSION, columns=(), target="y")
BINARY = Contract(task=MLTask.BINARY, columns=(), target="y", classes=("no", "yes"), positive="yes")


class Draw(NamedTuple):
    """One delivery's holdout: truth, and what both models said; each of shape (n,)."""

    truth: np.ndarray
    challenger: np.ndarray
    champion: np.ndarray


def errors(rng: np.random.Generator, rows: int, memory: float) -> np.ndarray:
    """Return an AR(1) series of unit variance."""
    noise = rng.normal(size=rows + 200)
    return signal.lfilter([1.0], [1.0, -memory], noise)[200:] * np.sqrt(1 - memory**2)


def draw_regression(rng: np.random.Generator, rows: int, memory: float, gain: float) -> Draw:
    """Absolute errors of mean 10 that both share in part; the challenger's are less by `gain`."""
    truth = rng.gamma(2.0, 50.0, rows)
    shared = errors(rng, rows, memory)
    champion = 10 + 1.5 * shared + errors(rng, rows, memory)
    challenger = 10 - gain + 1.5 * shared + errors(rng, rows, memory)
    return Draw(truth, truth + challenger, truth + champion)


def draw_binary(rng: np.random.Generator, rows: int, memory: float, gain: float) -> Draw:
    """Scores of one strength, noisier for the champion by `gain`."""
    truth = (rng.random(rows) < 0.3).astype(int)
    shared = errors(rng, rows, memory)

    def scores(strength: float) -> np.ndarray:
        noise = 0.7 * shared + 0.7 * errors(rng, rows, memory)
        return stats.norm.cdf(strength * truth - 0.5 + noise)

    return Draw(truth, scores(1.0 + gain), scores(1.0))


KINDS: dict[str, tuple[Contract, str, Callable[..., Draw]]] = {
    "regression, mae": (REGRESSION, "mae", draw_regression),
    "binary, roc_auc": (BINARY, "roc_auc", draw_binary),
}


def compared(contract: Contract, draw: Draw) -> Comparison:
    """Return a holdout as the gate takes it."""

    def said(values: np.ndarray) -> Outcomes:
        if contract.task is MLTask.BINARY:
            return Outcomes((values > 0.5).astype(int), values)
        return Outcomes(values, None)

    middle = np.full(len(draw.truth), float(np.median(draw.truth)))
    return Comparison(
        contract=contract,
        rows=pd.DataFrame(index=range(len(draw.truth))),
        truth=draw.truth,
        times=None,
        challenger=Judged("the challenger", said(draw.challenger)),
        champion=Judged("the champion", said(draw.champion)),
        champion_note="",
        baseline=Judged("the naive model", said(middle)),
    )


Promotes = Callable[[Draw, Contract, Metric], bool]


def gate(draw: Draw, contract: Contract, metric: Metric) -> bool:
    """Return what ModelYard's gate says of a new recipe, by default."""
    return judge(compared(contract, draw), None, Evaluation(primary_metric=metric.name)).promotes


def at_least_as_good(draw: Draw, contract: Contract, metric: Metric) -> bool:
    """Return `challenger >= champion`."""
    challenger = metric(draw.truth, draw.challenger)
    champion = metric(draw.truth, draw.champion)
    return challenger >= champion if metric.higher_is_better else challenger <= champion


def past_threshold(draw: Draw, contract: Contract, metric: Metric) -> bool:
    """Return what MLflow says with a threshold of 1 % relative improvement."""
    threshold = MetricThreshold(min_relative_change=0.01, greater_is_better=metric.higher_is_better)
    challenger, champion = (
        EvaluationResult({metric.name: metric(draw.truth, said)}, {})
        for said in (draw.challenger, draw.champion)
    )
    try:
        mlflow.validate_evaluation_results({metric.name: threshold}, challenger, champion)
    except ModelValidationFailedException:
        return False
    return True


RULES: dict[str, Promotes] = {
    "gate": gate,
    ">= champion": at_least_as_good,
    "MLflow, +1 %": past_threshold,
}


def gain_of_two_half_widths(kind: str, rows: int, memory: float) -> float:
    """Return the gain parameter at which the true gain is twice the interval's half width."""
    _, name, draw = KINDS[kind]
    rng = np.random.default_rng(99)

    def measured(gain: float, draws: int = 200) -> tuple[float, float]:
        found = [
            paired_difference(METRICS[name], *draw(rng, rows, memory, gain)) for _ in range(draws)
        ]
        halves = [(i.high - i.low) / 2 for i in found]
        return float(np.mean([i.value for i in found])), float(np.mean(halves))

    gain = 0.3
    for _ in range(3):  # the gain is nearly linear in its parameter
        value, half = measured(gain)
        gain *= 2 * half / value
    return gain


def measure_simulation(quick: bool) -> list[Claim]:
    """Count promotions of equal and of better challengers."""
    # After the import, which sets the levels of all of MLflow's loggers.
    logging.getLogger("mlflow.models.evaluation.validation").setLevel(logging.ERROR)
    deliveries = 60 if quick else 500
    sizes = (200, 1_000) if quick else (200, 1_000, 5_000)
    most = stats.binom.ppf(0.99, deliveries, STATED_RATE) / deliveries
    cells = [(k, n, m) for k in KINDS for n in sizes for m in (0.0, 0.5, 0.9)]
    rows, claims = [], []
    for kind, n, memory in track(cells, "simulated deliveries", console=console, transient=True):
        contract, name, draw = KINDS[kind]
        better = gain_of_two_half_widths(kind, n, memory)
        shares = {}
        for gain in (0.0, better):
            rng = np.random.default_rng((n, int(memory * 10), int(gain > 0)))
            draws = [draw(rng, n, memory, gain) for _ in range(deliveries)]
            shares[gain] = {
                rule: float(np.mean([promotes(d, contract, METRICS[name]) for d in draws]))
                for rule, promotes in RULES.items()
            }
        rows.append((kind, f"{n:,}", memory, *shares[0.0].values(), *shares[better].values()))
        where = f"{kind}, n = {n}, memory {memory}"
        claims += [
            claim(f"equal recipes promoted: {where}", shares[0.0]["gate"], "<=", most),
            claim(f"better recipes promoted: {where}", shares[better]["gate"], ">=", 0.9),
        ]
    show(
        f"Share of {deliveries} deliveries promoted: equal challengers, then better ones",
        ("holdout", "rows", "memory", *(f"= {r}" for r in RULES), *(f"> {r}" for r in RULES)),
        rows,
    )
    return claims
