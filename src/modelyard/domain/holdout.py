"""Which rows are trained on, and which are kept to judge with?"""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

Masks = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Which rows are trained on and which are held out, each of shape (rows,)."""


def split_newest(
    times: NDArray[np.datetime64],
    *,
    share: float | None = None,
    span: timedelta | None = None,
    window: timedelta | None = None,
) -> Masks:
    """Split rows in time order: the newest are held out.

    The holdout is the newest `share` of the rows, or those within `span` of the newest one. Every
    holdout row is strictly newer than every training row: rows of the same time stay together.
    Training rows older than `window` before the holdout are left out.
    """
    if span is not None:
        holdout = times > times[-1] - np.timedelta64(span)
    else:
        kept = min(len(times) - 1, max(1, math.ceil(len(times) * (share or 0.0))))
        holdout = times >= times[len(times) - kept]
    training = ~holdout
    if window is not None and holdout.any():
        training &= times >= times[holdout][0] - np.timedelta64(window)
    return training, holdout


def split_by_hash(keys: NDArray[np.uint64], share: float) -> Masks:
    """Split rows by their keys' hashes: rows of one key stay together, whatever rows are added.

    So a row that was held out once is never trained on later, and the split needs no memory: the
    way to test in a data set that grows (Géron 2022, "Hands-On Machine Learning", chapter 2).

    Args:
        keys: a 64-bit hash of each row's key, shape (rows,), evenly spread.
        share: of the keys, roughly, to hold out.
    """
    holdout = keys < np.uint64(min(share, 1.0) * float(2**64 - 2**11))
    return ~holdout, holdout
