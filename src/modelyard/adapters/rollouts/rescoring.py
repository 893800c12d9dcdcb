"""What do two releases say about the same rows?"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.client import API_KEY_VARIABLE, ServiceClient
from modelyard.adapters.data.inference_log import (
    ID,
    REQUEST_ID,
    ROW,
    TIME,
    Labels,
    PredictionLog,
)
from modelyard.adapters.data.labels import LABEL
from modelyard.adapters.data.log_query import MIRRORED
from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.learning.outcomes import Outcomes, as_outcomes, as_truth
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.window_judgement import logged_outcomes
from modelyard.adapters.workspace import Workspace
from modelyard.domain.analysis import look_confidence, measure_gain
from modelyard.domain.intervals import LEAST_ROWS, paired_difference
from modelyard.domain.observed import AnalysisRules, Expected, Rescored
from modelyard.domain.releases import Release
from modelyard.domain.rollout import Measurement
from modelyard.domain.values import Contract
from modelyard.errors import (
    ConfigError,
    DataError,
    InvalidInputError,
    ModelCodeError,
    ModelYardError,
    ServiceUnavailableError,
)
from modelyard.serving.bundle import load_bundle
from modelyard.serving.frames import predict_frame
from modelyard.serving.predictor import model_code

MOST_ROWS = 500
"""Rows of the traffic that one look compares."""
MOST_LABELLED = 10_000
_MOST_HOLDOUT = 2_000
_MIRROR_SECONDS = 5.0
_RESTS = 3.0
"""After a copy so many times as long as it took: what serves clients shares the machine."""
_APART = 0.95
"""Numbers that are farther apart than this share of the holdout's rows were are another answer."""


class _Pair(NamedTuple):
    new: Outcomes
    former: Outcomes

    def differ(self, tolerance: float) -> np.ndarray:
        """Return which rows are answered otherwise; what is no number agrees with nothing."""
        return ~(np.abs(self.new.values - self.former.values) <= tolerance)


class BothReleases:
    """A new release and the one that it is to replace, which read the same columns."""

    def __init__(self, workspace: Workspace, new: Release, former: Release) -> None:
        self._workspace, self._new, self._former = workspace, new, former
        self._predictors = {
            release.version: load_bundle(
                workspace.project.home / release.build.bundle, release.build.digest
            ).predictor
            for release in (new, former)
        }
        self._contract = new.delivery.contract

    @classmethod
    def of(cls, workspace: Workspace, new: Release, former: Release | None) -> BothReleases | None:
        """Return both, or None where they cannot be asked the same rows."""
        if former is None or not _alike(new.delivery.contract, former.delivery.contract):
            return None
        try:
            with model_code("to be loaded"):
                return cls(workspace, new, former)
        except (
            ModelYardError
        ):  # a release whose files or code are gone serves on, and tells nothing
            return None

    def expected(self) -> Expected | None:
        """Return how far apart both are on the new release's holdout; None without its rows."""
        try:
            rows = load_snapshot(self._new.delivery.holdout, self._workspace.project)
        except InvalidInputError:
            return None
        said = self._ask(rows.tail(_MOST_HOLDOUT))
        if self._contract.task.is_classification:
            return Expected(tolerance=0.0, share=float(said.differ(0.0).mean()))
        apart = np.abs(said.new.values - said.former.values)
        tolerance = float(np.quantile(apart, _APART))
        return Expected(tolerance=tolerance, share=float((apart > tolerance).mean()))

    def rescore(
        self, since: datetime, until: datetime, expected: Expected, *, mirrored: bool
    ) -> Rescored | None:
        """Compare what the new release answered in [since, until) with what the other one would.

        `mirrored` takes the copies that it answered in the shadow. None where the former release
        fails on rows that the new one has answered: that is nothing against the new one.
        """
        rows = self._log.answered(
            str(self._new.version), since, until, most=MOST_ROWS, mirrored=mirrored
        )
        nothing = Outcomes(np.empty(0), None)
        try:
            said = _Pair(nothing, nothing) if rows.empty else self._answered(rows)
        except ModelCodeError:
            return None
        return Rescored(
            rows=len(rows),
            differing=int(said.differ(expected.tolerance).sum()),
            silent=int((~np.isfinite(said.new.values)).sum()),
            former_silent=int((~np.isfinite(said.former.values)).sum()),
            answers=_different(said.new),
            former_answers=_different(said.former),
        )

    def realized(
        self, since: datetime, until: datetime, look: int, rules: AnalysisRules, *, mirrored: bool
    ) -> Measurement:
        """Compare both likewise where labels are known by now, at the n-th look."""
        model, project = self._new.model, self._workspace.project
        known = Labels(project.label_folder(model), until)
        version = str(self._new.version)
        rows = self._log.answered(
            version, since, until, most=MOST_LABELLED, labels=known, mirrored=mirrored
        )
        rows = rows[rows[LABEL].notna()].sort_values(TIME, kind="stable")
        config = project.model(model)
        metric = find_metric(config.evaluation.primary_metric, config.task)
        gain, size = None, 0.0
        if len(rows) >= LEAST_ROWS:
            level = look_confidence(look, rules.evidence)
            try:
                truth = as_truth(rows[LABEL], self._contract)
                said = self._answered(rows)
                new, former = said.new.for_metric(metric), said.former.for_metric(metric)
                size = abs(metric(truth, former))
                gain = paired_difference(metric, truth, new, former, confidence=level)
            except (InvalidInputError, ModelCodeError):  # not defined on so few, or such, labels
                gain = None
        return measure_gain(
            metric.name, gain, len(rows), margin=rules.loss * size, wanted=rules.labels
        )

    def mirror(self, url: str, since: datetime, until: datetime, *, budget: timedelta) -> None:
        """Send copies of what the former release answered in [since, until) to the new one.

        One after the other, with rests, as many as it answers within `budget`. Who asked has long
        been answered. What the new release says is in its log, and what it fails at in the
        gateway's counts. Raises ConfigError where a key is needed and none is set.
        """
        contract = self._contract
        if self._workspace.project.platform.gateway.api_keys and not os.environ.get(
            API_KEY_VARIABLE
        ):
            raise ConfigError(
                f"Mirrored requests need a key: set {API_KEY_VARIABLE} where the worker runs."
            )
        rows = self._log.answered(str(self._former.version), since, until, most=MOST_ROWS)
        named = {contract.id: ID, contract.time: TIME}
        copies = rows.assign(**{name: rows[of] for name, of in named.items() if name is not None})
        end = time.monotonic() + budget.total_seconds()
        with ServiceClient(url, contract, timeout_seconds=_MIRROR_SECONDS) as client:
            for place, request in enumerate(rows[REQUEST_ID] + "-" + rows[ROW].astype(str)):
                began = time.monotonic()
                if began > end:
                    return
                with suppress(DataError, ServiceUnavailableError):
                    client.predict(copies.iloc[place : place + 1], f"{MIRRORED}{request}"[:128])
                now = time.monotonic()
                time.sleep(max(0.0, min(_RESTS * (now - began), end - now)))

    @property
    def _log(self) -> PredictionLog:
        return self._workspace.prediction_log(self._new.model)

    def _ask(self, rows: pd.DataFrame) -> _Pair:
        """Return what both say of rows, where they are of the holdout."""
        new, former = (
            as_outcomes(predict_frame(self._predictors[r.version], rows), self._contract)
            for r in (self._new, self._former)
        )
        return _Pair(new, former)

    def _answered(self, rows: pd.DataFrame) -> _Pair:
        """Return what the new release answered to rows of the traffic, and the former one would."""
        former = predict_frame(self._predictors[self._former.version], rows)
        return _Pair(logged_outcomes(rows, self._contract), as_outcomes(former, self._contract))


def _alike(new: Contract, former: Contract) -> bool:
    fields = ("task", "target", "classes", "positive", "columns")
    return all(getattr(new, name) == getattr(former, name) for name in fields)


def _different(said: Outcomes) -> tuple[str, ...]:
    """Return two different answers, or the only one; scores tell more than classes."""
    told = said.values if said.scores is None else said.scores.reshape(len(said.values), -1)[:, 0]
    return tuple(str(value) for value in np.unique(told)[:2])
