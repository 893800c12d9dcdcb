"""What does the gate say to inputs that ought to break it? Never: promote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks.claims import Claim, claim, show
from benchmarks.gate_simulation import (
    BINARY,
    REGRESSION,
    Draw,
    compared,
    draw_binary,
    draw_regression,
)
from modelyard.adapters.learning.gating import judge, refused
from modelyard.adapters.learning.judging import Comparison
from modelyard.adapters.learning.outcomes import as_truth
from modelyard.config import Evaluation
from modelyard.errors import InvalidInputError

ROWS = 400
BETTER = 3.0
"""A gain that passes if nothing else is wrong."""


def regression(**changes: np.ndarray) -> Comparison:
    draw = draw_regression(np.random.default_rng(1), ROWS, 0.0, BETTER)
    return compared(REGRESSION, draw._replace(**changes))


def binary(**changes: np.ndarray) -> Comparison:
    draw = draw_binary(np.random.default_rng(1), ROWS, 0.0, BETTER)
    return compared(BINARY, draw._replace(**changes))


def sliced(levels: Sequence[object], losers: np.ndarray) -> Comparison:
    """Return a holdout of a better challenger that is much worse on some rows."""
    draw = draw_regression(np.random.default_rng(1), len(levels), 0.0, BETTER)
    worse = np.where(losers, draw.challenger + 40, draw.challenger)
    whole = compared(REGRESSION, Draw(draw.truth, worse, draw.champion))
    return replace(whole, rows=pd.DataFrame({"level": levels}))


def broken_scorer(estimator: object, rows: np.ndarray, truth: np.ndarray) -> float:
    """A user's scorer that works on a sample and not on the holdout."""
    if len(truth) > 20:
        raise ZeroDivisionError("no positives among the top 0")
    return 1.0


def unknown_class() -> Comparison:
    as_truth(pd.Series(["no", "maybe"]), BINARY)
    raise AssertionError("a label that the model does not know was taken")


def cases() -> Mapping[str, tuple[Callable[[], Comparison], Evaluation]]:
    """Return each hostile holdout and the evaluation it meets."""
    mae, auc = Evaluation(primary_metric="mae"), Evaluation(primary_metric="roc_auc")
    by_level = Evaluation(primary_metric="mae", slices=("level",))
    scorer = Evaluation(primary_metric="benchmarks.gate_hostile:broken_scorer")
    loses = np.arange(310_000) % 10_000 == 7
    return {
        "one prediction is NaN": (lambda: regression(challenger=_with(np.nan)), mae),
        "one prediction is infinite": (lambda: regression(challenger=_with(np.inf)), mae),
        "all predictions are NaN": (lambda: regression(challenger=np.full(ROWS, np.nan)), mae),
        "constant predictions": (lambda: regression(challenger=np.full(ROWS, 7.0)), mae),
        "constant scores": (lambda: binary(challenger=np.full(ROWS, 0.5)), auc),
        "NaN scores": (lambda: binary(challenger=np.full(ROWS, np.nan)), auc),
        "one class in the holdout": (lambda: binary(truth=np.ones(ROWS, dtype=int)), auc),
        "one row of the other class": (lambda: binary(truth=np.eye(1, ROWS, 9)[0]), auc),
        "a class never seen": (unknown_class, auc),
        "5 rows": (lambda: compared(REGRESSION, _few(5)), mae),
        "1 row": (lambda: compared(REGRESSION, _few(1)), mae),
        "the champion's predictions": (
            lambda: regression(challenger=regression().rival.outcomes.values),
            mae,
        ),
        "400 slices of one row, all lost": (
            lambda: sliced(range(ROWS), np.ones(ROWS, dtype=bool)),
            by_level,
        ),
        "10,000 slices, one is lost": (
            lambda: sliced(list(np.arange(310_000) % 10_000), loses),
            by_level,
        ),
        "a scorer that raises": (regression, scorer),
        "a metric that does not exist": (regression, Evaluation(primary_metric="mea")),
        "a metric of another task": (regression, auc),
    }


def _with(value: float) -> np.ndarray:
    said = np.array(regression().challenger.outcomes.values)
    said[17] = value
    return said


def _few(rows: int) -> Draw:
    return draw_regression(np.random.default_rng(1), rows, 0.0, BETTER)


def measure_hostile(quick: bool) -> list[Claim]:
    """Show each case to the gate, as the delivery's step does, and count promotions."""
    rows, promoted = [], 0
    assert judge(regression(), None, Evaluation(primary_metric="mae")).promotes
    for name, (comparison, evaluation) in cases().items():
        try:
            gated = judge(comparison(), None, evaluation)
        except InvalidInputError as err:
            gated = refused(str(err), None)
        promoted += gated.promotes
        rows.append((name, gated.decision.verdict.upper(), gated.decision.reasons[0][:110]))
    show("Hostile inputs", ("input", "verdict", "why"), rows)
    return [claim("hostile inputs promoted", promoted, "<=", 0)]
