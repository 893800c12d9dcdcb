"""How much does a row count that is older than another?"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray


def age_weights(times: NDArray[np.datetime64], half_life: timedelta) -> NDArray[np.float64]:
    """Return weights of which the newest row's is 1, and half of it one `half_life` before that.

    Exponential forgetting: only ages relative to each other count, so the same rows have the same
    weights whenever they are learnt.

    Args:
        times: event times, shape (rows,), in any order and unit.
    """
    microseconds = times.astype("datetime64[us]").astype(np.int64)
    ages = (microseconds.max() - microseconds) / (half_life / timedelta(microseconds=1))
    return np.exp2(-ages)
