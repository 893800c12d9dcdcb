"""Does a compiled model say the same as the pipeline that was trained?

It is asked about the holdout's rows, and about rows at the edge of what may be sent: nothing in a
column, levels that were never seen, numbers far outside. Only then may it serve in the pipeline's
place.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.learning.compiling import compile_forms
from modelyard.domain.values import ColumnKind, Contract
from modelyard.errors import BundleError, ModelCodeError, NotCompilableError
from modelyard.serving.agreement import differences
from modelyard.serving.compiled import CompiledPredictor
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.features import Features, join
from modelyard.serving.frames import read_features
from modelyard.serving.predictor import Prediction

PROOF_ROWS = 5000
GOLDEN_ROWS = 50
TOLERANCE = 1e-5
"""Largest difference of a probability, or of a number relative to itself or the spread of all.
What float32 costs is a hundredth of it; a threshold crossed by rounding is a thousand times it."""

_UNSEEN = "\N{SNOWMAN} never seen"
_EXTREMES = (0.0, -1.0, 1e-9, 1e30, -1e30)


class Expectation(NamedTuple):
    """What the fitted pipeline says about rows."""

    rows: Features
    said: Prediction
    not_null: tuple[str, ...]
    """Columns in which the pipeline does not take a missing value."""


class Compiled(NamedTuple):
    """A graph that was proven equal, or None, with the reason."""

    graph: bytes | None
    reason: str


def expect(pipeline: Any, contract: Contract, holdout: pd.DataFrame, rows: int) -> Expectation:
    """Ask the pipeline about the first rows of the holdout and about rows at the edge.

    Rows that it refuses are left out. Raises BundleError when there is no row that it takes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd rows are meant to be odd
        return _expect(EstimatorPredictor(pipeline, contract), contract, holdout, rows)


def _expect(
    predictor: EstimatorPredictor, contract: Contract, holdout: pd.DataFrame, rows: int
) -> Expectation:
    usual = read_features(holdout.head(rows), contract)
    edges, emptied = _edge_rows(usual, contract)
    taken = np.full(len(edges), True)
    if not _takes(predictor, edges):
        taken = np.array([_takes(predictor, edges[row : row + 1]) for row in range(len(edges))])
    kept = Features(edges.numeric[taken], edges.categorical[taken])
    refused = tuple(name for name, row in emptied.items() if not taken[row])
    asked = join([usual, kept])
    try:
        return Expectation(asked, predictor.predict(asked), refused)
    except ModelCodeError as err:
        raise BundleError(
            f"The model does not predict the rows that it was judged on: {type(err).__name__}: "
            f"{err}. Train it again."
        ) from err


def compile_proven(pipeline: Any, contract: Contract, expected: Expectation) -> Compiled:
    """Compile a pipeline to the first form that says what is expected, or tell why none does."""
    failures = []
    try:
        for form, graph in compile_forms(pipeline, contract):
            failure, largest = disagreement(graph, contract, expected)
            if failure is None:
                rows = len(expected.rows)
                return Compiled(
                    graph,
                    f"compiled in {form}: {rows:,} rows differ from the pipeline by at most "
                    f"{largest:.2g} (tolerance {TOLERANCE:g})",
                )
            failures.append(f"in {form} {failure}")
    except NotCompilableError as err:
        failures.append(str(err))
    return Compiled(None, f"not compiled: {'; '.join(failures)}")


def disagreement(
    graph: bytes, contract: Contract, expected: Expectation
) -> tuple[str | None, float]:
    """Return what stands against a graph, and its largest difference."""
    try:
        found = CompiledPredictor(graph, contract).predict(expected.rows)
    except Exception as err:  # onnxruntime's own exceptions share no base class
        return f"it does not run: {str(err).splitlines()[0]}", np.inf
    apart = differences(expected.said, found)
    worst = int(apart.argmax())
    if apart[worst] <= TOLERANCE:
        return None, float(apart[worst])
    count = int((apart > TOLERANCE).sum())
    return (
        f"{count:,} of {len(apart):,} rows differ from the pipeline, the most by "
        f"{apart[worst]:.2g} (tolerance {TOLERANCE:g})",
        float(apart[worst]),
    )


def _edge_rows(usual: Features, contract: Contract) -> tuple[Features, dict[str, int]]:
    """Return rows at the edge, and which of them lacks nothing but one column's value."""
    numeric, categorical = list(usual.numeric[0]), list(usual.categorical[0])
    rows: list[tuple[list[Any], list[Any]]] = []
    emptied = {}
    for index, name in enumerate(contract.names(ColumnKind.NUMERIC)):
        emptied[name] = len(rows)
        seen = usual.numeric[:, index]
        seen = seen[~np.isnan(seen)]
        ends = (seen.min(), seen.max(), np.nextafter(seen.max(), np.inf)) if len(seen) else ()
        for value in (np.nan, *_EXTREMES, *ends):
            rows.append(([*numeric[:index], value, *numeric[index + 1 :]], categorical))
    for index, name in enumerate(contract.names(ColumnKind.CATEGORICAL)):
        emptied[name] = len(rows)
        for text in (None, _UNSEEN, "", "None", "nan"):
            rows.append((numeric, [*categorical[:index], text, *categorical[index + 1 :]]))
    rows.append(([np.nan] * len(numeric), [None] * len(categorical)))
    rows.append(([np.nan] * len(numeric), [_UNSEEN] * len(categorical)))
    texts = np.empty((len(rows), len(categorical)), dtype=object)
    for row, (_, cells) in enumerate(rows):
        texts[row] = cells
    return Features(np.array([cells for cells, _ in rows], dtype=np.float64), texts), emptied


def _takes(predictor: EstimatorPredictor, rows: Features) -> bool:
    try:
        predictor.predict(rows)
    except ModelCodeError:
        return False
    return True
