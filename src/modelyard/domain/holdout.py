"""Which rows are trained on, and which are kept to judge with?"""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray


def split_newest(
    times: NDArray[np.datetime64] | None,
    rows: int,
    *,
    share: float | None = None,
    span: timedelta | None = None,
    window: timedelta | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Split rows in time order into (training, holdout) masks of shape (rows,).

    The holdout is the newest `share` of the rows, or those within `span` of the newest one. Every
    holdout row is strictly newer than every training row: rows of the same time stay together.
    Training rows older than `window` before the holdout are left out. Without times, the order of
    the rows stands for time.
    """
    order = np.arange(rows) if times is None else times
    if span is not None:
        if times is None:
            raise ValueError("a holdout given as a span needs a time column")
        holdout = times > times[-1] - np.timedelta64(span)
    else:
        kept = min(rows - 1, max(1, math.ceil(rows * (share or 0.0))))
        holdout = order >= order[rows - kept]
    training = ~holdout
    if window is not None and times is not None and holdout.any():
        training &= times >= times[holdout][0] - np.timedelta64(window)
    return training, holdout
