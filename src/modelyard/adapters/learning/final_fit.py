"""What do the judged and the final fit of a recipe say about the holdout?"""

from __future__ import annotations

import numpy as np

from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.learning.fitting import PREDICTIONS
from modelyard.adapters.learning.outcomes import Outcomes, as_outcomes, as_truth
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.learning.stored_predictions import read_predictions
from modelyard.domain.final_fit import judge_final_fit
from modelyard.domain.gate import Rule
from modelyard.domain.metrics import Interval, Metric
from modelyard.domain.releases import Candidate, Delivery
from modelyard.domain.values import Contract
from modelyard.project import Project
from modelyard.serving.predictor import Prediction


def judge_fits(
    project: Project,
    delivery: Delivery,
    judged: Candidate,
    final: Candidate,
    metric_name: str,
    promised: Interval,
) -> Rule:
    """Hold what the final fit says about the holdout against what the judged fit said."""
    contract = delivery.contract
    truth = as_truth(load_snapshot(delivery.holdout, project)[contract.target], contract)

    def said(fit: Candidate) -> Prediction | None:
        path = project.home / fit.folder / PREDICTIONS
        return read_predictions(path, contract) if path.exists() else None

    metric = find_metric(metric_name, contract.task)
    return judge_answers(metric, contract, truth, said(judged), said(final), promised)


def judge_answers(
    metric: Metric,
    contract: Contract,
    truth: np.ndarray,
    judged: Prediction | None,
    final: Prediction | None,
    promised: Interval,
) -> Rule:
    """Hold what the final fit says about holdout rows against what the judged fit said.

    None is a fit that can say nothing about them. `truth` has shape (rows,).
    """

    def measure(said: Outcomes | None) -> float:
        if said is None or not np.isfinite(said.for_metric(metric)).all():
            return float("nan")
        return metric(truth, said.for_metric(metric))

    before, after = (
        None if said is None else as_outcomes(said, contract) for said in (judged, final)
    )
    return judge_final_fit(
        metric,
        judged=measure(before),
        learnt=measure(after),
        interval=promised,
        silent=len(truth) if after is None else after.silent,
    )
