"""How much of a prediction does a column tell?"""

from __future__ import annotations

import numpy as np

from modelyard.domain.profiles import PREDICTION, Profile


def relevance(profile: Profile) -> dict[str, float]:
    """Return the share of what there is to know about the prediction that each column tells, 0..1.

    The mutual information of the groups of column and prediction, divided by the entropy of the
    latter. Few rows make columns look related that are not: Miller (1955, "Note on the bias of
    information estimates"; found by Madow as well) adds (cells - 1) / 2n to each entropy, which
    takes away about as much. Columns come in the profile's order; those without joint counts are
    left out.

    It is about this model's answers, one column at a time: a column that matters only together with
    others has little, so it ranks suspects and clears none.
    """
    return {
        name: _told(np.array(column.joint, dtype=np.float64))
        for name, column in profile.columns.items()
        if name != PREDICTION and column.joint
    }


def _told(joint: np.ndarray) -> float:
    predicted = _entropy(joint.sum(axis=0))
    if predicted <= 0:
        return 0.0
    mutual = predicted + _entropy(joint.sum(axis=1)) - _entropy(joint.ravel())
    return float(np.clip(mutual / predicted, 0.0, 1.0))


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy of the distribution that counts were drawn from, in nats."""
    filled = counts[counts > 0]
    if filled.size < 2:
        return 0.0
    shares = filled / filled.sum()
    return float(-(shares * np.log(shares)).sum() + (filled.size - 1) / (2 * filled.sum()))
