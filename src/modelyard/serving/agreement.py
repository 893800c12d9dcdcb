"""How far is what a model says from what was expected of it, row by row?"""

from __future__ import annotations

import numpy as np

from modelyard.serving.predictor import Prediction


def differences(expected: Prediction, found: Prediction) -> np.ndarray:
    """Return one difference a row, shape (n,).

    Of probabilities the largest of the row; of numbers relative to the expected one, or to the
    distance of the quartiles of all of them where that is larger: a number near zero is not
    expected to more digits than its neighbours, and a few absurd rows must not hide the others.
    Another label, or a number where there was none, is infinitely far.
    """
    rows = len(expected.predictions)
    if len(found.predictions) != rows:
        return np.full(rows, np.inf)
    if rows and isinstance(expected.predictions[0], str):
        same = np.array(expected.predictions) == np.array(found.predictions)
        apart = np.where(same, 0.0, np.inf)
        if expected.probabilities is None:
            return apart
        if found.probabilities is None:
            return np.full(rows, np.inf)
        before, now = np.array(expected.probabilities), np.array(found.probabilities)
        return np.maximum(apart, _or_infinite(np.abs(before - now).max(axis=1)))
    before = np.array(expected.predictions, dtype=np.float64)
    now = np.array(found.predictions, dtype=np.float64)
    known = before[np.isfinite(before)]
    spread = np.subtract(*np.quantile(known, [0.75, 0.25])) if len(known) else 0.0
    scale = np.maximum(np.abs(before), spread)
    scale[scale == 0] = 1.0
    neither = np.isnan(before) & np.isnan(now)
    return np.where(neither, 0.0, _or_infinite(np.abs(before - now) / scale))


def _or_infinite(numbers: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(numbers), np.inf, numbers)
