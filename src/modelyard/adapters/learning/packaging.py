"""Which files serve a fitted pipeline, and on which runtime?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.learning.proving import (
    GOLDEN_ROWS,
    PROOF_ROWS,
    TOLERANCE,
    Expectation,
    compile_proven,
    expect,
)
from modelyard.domain.values import Contract, Runtime
from modelyard.errors import BundleError
from modelyard.serving.bundle import write_bundle
from modelyard.serving.features import Features, join
from modelyard.serving.model_file import ModelFile, load_model, save_compiled
from modelyard.serving.predictor import Prediction

WantedRuntime = Literal["auto", "compiled", "sklearn"]


class Packaged(NamedTuple):
    """A bundle that was written."""

    digest: str
    runtime: Runtime
    reason: str


def package_release(
    folder: Path,
    *,
    model: str,
    version: str,
    contract: Contract,
    model_file: ModelFile,
    model_folder: Path,
    holdout: pd.DataFrame,
    requirements: Callable[[Runtime], str],
    provenance: Mapping[str, str],
    code: Path | None = None,
    wanted: WantedRuntime = "auto",
) -> Packaged:
    """Write the bundle of a fitted pipeline: compiled where that is proven to be the same.

    `requirements` gives the pins of a replica on a runtime. A compiled bundle holds neither the
    pipeline nor the user's code. Raises BundleError when a compiled one was asked for and there is
    none, and like `write_bundle`.
    """
    pipeline = load_model(model_file, model_folder)
    compiles = wanted != "sklearn"
    expected = expect(pipeline, contract, holdout, PROOF_ROWS if compiles else GOLDEN_ROWS)
    graph, reason = None, "not compiled: service.runtime says sklearn"
    if compiles:
        graph, reason = compile_proven(pipeline, contract, expected)
    if graph is None and wanted == "compiled":
        raise BundleError(
            f"{model} {version} must be compiled, and is {reason}. Change the pipeline, or let "
            "service.runtime be auto."
        )
    runtime = Runtime.SKLEARN if graph is None else Runtime.COMPILED
    golden, said = _golden(expected, min(PROOF_ROWS if compiles else GOLDEN_ROWS, len(holdout)))
    with tempfile.TemporaryDirectory() as scratch:
        served, source = model_file, model_folder
        if graph is not None:
            served, source = save_compiled(graph, Path(scratch)), Path(scratch)
        digest = write_bundle(
            folder,
            model=model,
            version=version,
            contract=contract,
            model_file=served,
            model_folder=source,
            golden=golden,
            expected=said,
            requirements=requirements(runtime),
            provenance=provenance,
            code=code if graph is None else None,
            tolerance=TOLERANCE if graph is not None else _SAME,
            runtime_reason=reason,
            not_null=expected.not_null,
        )
    return Packaged(digest, runtime, reason)


_SAME = 1e-6
"""Tolerance of the pipeline itself, on another machine or another release of a library."""


def _golden(expected: Expectation, usual: int) -> tuple[Features, Prediction]:
    """Return the first of the usual rows, and those at the edge."""
    rows, said = expected.rows, expected.said
    first, edge = min(GOLDEN_ROWS, usual), slice(usual, len(rows))
    before, after = said.part(0, first), said.part(usual, len(rows))
    probabilities = None
    if before.probabilities is not None and after.probabilities is not None:
        probabilities = np.concatenate([before.probabilities, after.probabilities])
    predictions: Any = [*before.predictions, *after.predictions]
    return join([rows[:first], rows[edge]]), Prediction(predictions, probabilities)
