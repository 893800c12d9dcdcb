"""A pipeline that is sound wherever it is trained and proven, and starts in no replica.

It is copied into a project of its own as that project's code.
"""

from __future__ import annotations

import sys
from typing import Any

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

_SERVES = any("modelyard.serving.replica" in word for word in sys.orig_argv)


class TooLarge(LinearRegression):
    """Linear regression that replicas have no room for."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if _SERVES:
            raise MemoryError("no room for this model")


def build(contract: object, *, seed: int) -> Pipeline:
    """Return the unfitted pipeline, as a config's `training.pipeline` names it."""
    numbers = make_column_selector(dtype_include="number")
    return make_pipeline(
        make_column_transformer(
            (SimpleImputer(), numbers),
            (OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
        ),
        TooLarge(),
    )
