"""What does a model say about rows, whatever it is and whatever protocol they came in by?

The port that both runtimes stand behind. Training-time golden rows, the gate and the server all
ask a model through it, so that all of them read a row the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from modelyard.domain.values import Contract, Runtime
from modelyard.errors import BundleError, ModelCodeError, ModelYardError
from modelyard.serving.features import Features


@contextmanager
def model_code(doing: str) -> Iterator[None]:
    """Run code of a model, which is anybody's: raises ModelCodeError for whatever it raises."""
    try:
        yield
    except ModelYardError:
        raise
    except (Exception, SystemExit) as err:
        raise ModelCodeError(
            f"The model failed {doing}: {type(err).__name__}: {err}. Mend the estimator, the "
            "pipeline or its parameters."
        ) from err


class Prediction(NamedTuple):
    """What the model said about n rows."""

    predictions: list[float | None] | list[str]
    """n outcomes: numbers (None where the model gave no finite one), or class labels."""
    probabilities: np.ndarray | None
    """float, shape (n, classes) in the contract's order; None where the model gives none."""

    def part(self, start: int, end: int) -> Prediction:
        """Return what was said about the rows from `start` to before `end`."""
        probabilities = None if self.probabilities is None else self.probabilities[start:end]
        return Prediction(self.predictions[start:end], probabilities)


class Predictor(Protocol):
    """A fitted model behind its contract."""

    @property
    def contract(self) -> Contract: ...

    @property
    def runtime(self) -> Runtime: ...

    @property
    def gives_probabilities(self) -> bool: ...

    def predict(self, features: Features) -> Prediction:
        """Say something about each row. What one row gets never depends on the others."""
        ...


def as_numbers(raw: np.ndarray, rows: int) -> Prediction:
    """Return a regression's outcomes as a prediction; a number that is not finite is None."""
    numbers = np.asarray(raw, dtype=np.float64).reshape(rows)
    values: list[float | None] = [*numbers.tolist()]
    for row in np.flatnonzero(~np.isfinite(numbers)):
        values[row] = None
    return Prediction(values, None)


def class_order(known: Sequence[object], contract: Contract) -> list[int]:
    """Return where the model has each of the contract's classes; raise BundleError for others."""
    names = [str(label) for label in known]
    if sorted(names) != sorted(contract.classes):
        raise BundleError(
            f"The model knows the classes {', '.join(names)}, its contract says "
            f"{', '.join(contract.classes)}. Train it again with this contract."
        )
    return [names.index(label) for label in contract.classes]
