"""What do two releases say about the same rows?"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.data.inference_log import TIME, Labels
from modelyard.adapters.data.labels import LABEL
from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.learning.outcomes import Outcomes, as_outcomes, as_truth
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.watching import logged_outcomes
from modelyard.adapters.workspace import Workspace
from modelyard.domain.analysis import look_confidence, measure_gain
from modelyard.domain.intervals import LEAST_ROWS, paired_difference
from modelyard.domain.observed import AnalysisRules, Expected, Rescored
from modelyard.domain.releases import Release
from modelyard.domain.rollout import Measurement
from modelyard.domain.values import Contract
from modelyard.errors import BundleError, InvalidInputError
from modelyard.serving.bundle import load_bundle
from modelyard.serving.frames import predict_frame

MOST_ROWS = 500
"""Rows of the traffic that one look compares."""
MOST_LABELLED = 10_000
_MOST_HOLDOUT = 2_000
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
            return cls(workspace, new, former)
        except BundleError:  # a release whose files are gone serves on, and cannot be asked here
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

    def rescore(self, since: datetime, until: datetime, expected: Expected) -> Rescored:
        """Compare what the new release answered in [since, until) with what the other one would."""
        log = self._workspace.prediction_log(self._new.model)
        rows = log.answered(str(self._new.version), since, until, most=MOST_ROWS)
        nothing = Outcomes(np.empty(0), None)
        said = _Pair(nothing, nothing) if rows.empty else self._answered(rows)
        return Rescored(
            rows=len(rows),
            differing=int(said.differ(expected.tolerance).sum()),
            silent=int((~np.isfinite(said.new.values)).sum()),
            former_silent=int((~np.isfinite(said.former.values)).sum()),
            answers=_different(said.new),
            former_answers=_different(said.former),
        )

    def realized(
        self, since: datetime, until: datetime, look: int, rules: AnalysisRules
    ) -> Measurement:
        """Compare both likewise where labels are known by now, at the n-th look."""
        model, project = self._new.model, self._workspace.project
        known = Labels(project.label_folder(model), until)
        log = self._workspace.prediction_log(model)
        version = str(self._new.version)
        rows = log.answered(version, since, until, most=MOST_LABELLED, labels=known)
        rows = rows[rows[LABEL].notna()].sort_values(TIME, kind="stable")
        config = project.model(model)
        metric = find_metric(config.evaluation.primary_metric, config.task)
        gain, size = None, 0.0
        if len(rows) >= LEAST_ROWS:
            said = self._answered(rows)
            truth = as_truth(rows[LABEL], self._contract)
            new, former = said.new.for_metric(metric), said.former.for_metric(metric)
            level = look_confidence(look, rules.evidence)
            try:
                size = abs(metric(truth, former))
                gain = paired_difference(metric, truth, new, former, confidence=level)
            except InvalidInputError:  # the metric is not defined on so few or such labels
                gain = None
        return measure_gain(
            metric.name, gain, len(rows), margin=rules.loss * size, wanted=rules.labels
        )

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
