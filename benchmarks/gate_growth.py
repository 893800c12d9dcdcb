"""A data set grows, and what it describes changes: is the better model promoted?

The champion is a random forest fitted on the rows there were. As many rows come again, after a
shift of the concept or without one. A challenger with another recipe is fitted on what its rule
leaves for training: for the gate, all but the newest fifth; for `>=`, a random four fifths of all
rows, the champion's own training rows among the test rows. Whether the challenger is truly better
is measured on rows that come later.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.progress import track
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_absolute_error

from benchmarks.claims import Claim, claim, console, show
from benchmarks.gate_simulation import REGRESSION
from modelyard.adapters.learning.gating import judge
from modelyard.adapters.learning.judging import Comparison, Judged
from modelyard.adapters.learning.outcomes import Outcomes
from modelyard.config import Evaluation
from modelyard.domain.holdout import split_newest

ROWS = 2_000
COLUMNS = 8


class Rows(NamedTuple):
    """Rows in time order."""

    x: np.ndarray
    y: np.ndarray


class Trial(NamedTuple):
    """What each rule said of its own challenger, and by how much that one is better in truth."""

    gate: bool
    gate_gain: float
    random_split: bool
    random_gain: float


def rows_of(rng: np.random.Generator, count: int, shift: float) -> Rows:
    """Return rows whose third column counts by `shift` more than it used to."""
    x = rng.normal(size=(count, COLUMNS))
    y = 3 * x[:, 0] + 2 * np.abs(x[:, 1]) + shift * x[:, 2] + rng.normal(size=count)
    return Rows(x, y)


def forest(rows: Rows, min_leaf: int, seed: int) -> RandomForestRegressor:
    model = RandomForestRegressor(40, min_samples_leaf=min_leaf, random_state=seed)
    return model.fit(rows.x, rows.y)


def try_growth(seed: int, shift: float) -> Trial:
    """Return what both rules say when the second half of the rows has another concept.

    Without a shift, challengers learn as many rows as the champion did and with its parameters, so
    that none has an edge.
    """
    rng = np.random.default_rng(seed)
    old, new, later = rows_of(rng, ROWS, 0.0), rows_of(rng, ROWS, shift), rows_of(rng, 4_000, shift)
    champion = forest(old, 1, seed)
    grown = Rows(np.concatenate([old.x, new.x]), np.concatenate([old.y, new.y]))
    leaf = 2 if shift else 1

    def gain(model: RandomForestRegressor, at: Rows) -> float:
        before = mean_absolute_error(at.y, champion.predict(at.x))
        return before - mean_absolute_error(at.y, model.predict(at.x))

    minutes = np.arange(2 * ROWS).astype("datetime64[m]").astype("datetime64[ns]")
    training, holdout = split_newest(minutes, share=0.2)
    learnt = np.flatnonzero(training) if shift else np.flatnonzero(training)[-ROWS:]
    challenger = forest(Rows(grown.x[learnt], grown.y[learnt]), leaf, seed + 1)
    judged = Rows(grown.x[holdout], grown.y[holdout])
    promoted = judge(
        _comparison(judged, challenger, champion, float(np.median(old.y))),
        None,
        Evaluation(primary_metric="mae"),
    ).promotes

    drawn = rng.permutation(2 * ROWS)
    test, rest = drawn[: 2 * ROWS // 5], drawn[2 * ROWS // 5 :]
    if not shift:
        rest = rest[:ROWS]
    other = forest(Rows(grown.x[rest], grown.y[rest]), leaf, seed + 1)
    return Trial(
        gate=promoted,
        gate_gain=gain(challenger, later),
        random_split=gain(other, Rows(grown.x[test], grown.y[test])) >= 0,
        random_gain=gain(other, later),
    )


def _comparison(
    rows: Rows, challenger: RandomForestRegressor, champion: RandomForestRegressor, middle: float
) -> Comparison:
    return Comparison(
        contract=REGRESSION,
        rows=pd.DataFrame(index=range(len(rows.y))),
        truth=rows.y,
        times=None,
        challenger=Judged("the challenger", Outcomes(challenger.predict(rows.x), None)),
        champion=Judged("the champion", Outcomes(champion.predict(rows.x), None)),
        champion_note="",
        baseline=Judged("the naive model", Outcomes(np.full(len(rows.y), middle), None)),
    )


def measure_growth(quick: bool) -> list[Claim]:
    """Count promotions with and without a shift."""
    trials = 12 if quick else 100
    found: dict[float, list[Trial]] = {}
    for shift in (1.0, 0.0):
        title = f"grown data, shift {shift}"
        seeds = track(range(trials), title, console=console, transient=True)
        found[shift] = [try_growth(seed, shift) for seed in seeds]
    rows = []
    for shift, tried in found.items():
        for rule, promoted, gains in (
            ("gate, newest rows", [t.gate for t in tried], [t.gate_gain for t in tried]),
            (">=, random split", [t.random_split for t in tried], [t.random_gain for t in tried]),
        ):
            rows.append(
                (
                    *("shifted" if shift else "no shift", rule, f"{np.mean(promoted):.0%}"),
                    *(f"{np.mean(np.array(gains) > 0):.0%}", float(np.mean(gains))),
                )
            )
    show(
        f"A data set that doubles, {trials} times",
        ("concept", "rule", "promoted", "truly better", "gain in MAE on later rows"),
        rows,
    )
    better = [t.gate for t in found[1.0] if t.gate_gain > 0]
    equal = [t.gate for t in found[0.0]]
    return [
        claim("grown data: better models promoted", float(np.mean(better)), ">=", 0.85),
        claim("grown data: equal models promoted", float(np.mean(equal)), "<=", 0.05),
    ]
