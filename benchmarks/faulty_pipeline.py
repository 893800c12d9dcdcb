"""A pipeline that is sound until it serves, and then fails in one way of many.

It is copied into a project of its own as that project's code. Whoever trains, judges, compiles or
proves it finds nothing: the fault waits for a replica, and for a while after its start.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression

SOUND_SECONDS = 6.0
"""A replica proves its golden rows in the meantime."""
_STARTED = time.monotonic()
_SERVES = any("modelyard.serving.replica" in word for word in sys.orig_argv)
_kept: list[bytearray] = []


class Faulty(RegressorMixin, BaseEstimator):
    """Linear regression with a fault that begins in a replica some seconds after its start."""

    def __init__(self, fault: str = "none", half: bool = False) -> None:
        self.fault = fault
        self.half = half

    def fit(self, rows: pd.DataFrame, target: pd.Series) -> Faulty:
        self.model_ = LinearRegression().fit(_numbers(rows, self.half), target)
        self.asked_ = 0
        return self

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        said = self.model_.predict(_numbers(rows, self.half))
        if not _SERVES or time.monotonic() - _STARTED < SOUND_SECONDS:
            return said
        self.asked_ += 1
        return getattr(self, f"_{self.fault}")(rows, said)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        if _SERVES and self.fault == "does_not_start":
            raise MemoryError("no room for this model")
        if _SERVES and self.fault == "starts_slowly":
            time.sleep(300)

    def _none(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return said

    def _slow_for_all(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        time.sleep(0.4)
        return said

    def _slow_at_p99(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        if self.asked_ % 20 == 0:
            time.sleep(0.6)
        return said

    def _hangs(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        time.sleep(3600)
        return said

    def _ends(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        if self.asked_ > 40:
            os._exit(1)
        return said

    def _leaks(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        _kept.append(bytearray(os.urandom(1) * (24 << 20)))
        return said

    def _fails_at_2_percent(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        if self.asked_ % 50 == 0:
            raise ValueError("no such thing")
        return said

    def _fails_always(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        raise KeyError("lookup")

    def _fails_on_a_category(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        if (rows["season"] == "wet").any():
            raise KeyError("wet")
        return said

    def _gives_text(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return np.array([f"{value:.1f} rides" for value in said], dtype=object)

    def _gives_too_few(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return said[:-1]

    def _gives_nan(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return np.full(len(said), np.nan)

    def _gives_nan_at_5_percent(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return np.where(self.asked_ % 20 == 0, np.nan, said)

    def _gives_infinity(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return np.full(len(said), np.inf)

    def _constant(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return np.full(len(said), 60.0)

    def _sticks(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        """Every answer is the first one."""
        self.first_ = getattr(self, "first_", said[0])
        return np.full(len(said), self.first_)

    def _swaps_columns(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        swapped = rows.rename(columns={"temp": "wind", "wind": "temp"})
        return self.model_.predict(_numbers(swapped, self.half))

    def _wrong_units(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return said * 1000

    def _wrong_sign(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        return -said

    def _worse(self, rows: pd.DataFrame, said: np.ndarray) -> np.ndarray:
        """A little too high, which only labels tell."""
        return said + 3.0


def _numbers(rows: pd.DataFrame, half: bool) -> np.ndarray:
    """Return the columns that are learnt; one that matters little is left out of `half`."""
    wet = (rows["season"] == "wet").to_numpy(dtype=np.float64)
    wind = np.zeros(len(rows)) if half else rows["wind"].to_numpy(dtype=np.float64)
    return np.column_stack((rows["temp"].to_numpy(dtype=np.float64), wind, wet))


def build(contract: object, *, seed: int, fault: str = "none", half: bool = False) -> Faulty:
    """Return the unfitted pipeline, as a config's `training.pipeline` names it."""
    return Faulty(fault, half)
