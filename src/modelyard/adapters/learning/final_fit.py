"""What do the judged and the final fit of a recipe say about the holdout?"""

from __future__ import annotations

import numpy as np

from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.learning.fitting import PREDICTIONS, read_predictions
from modelyard.adapters.learning.outcomes import Outcomes, as_outcomes, as_truth
from modelyard.adapters.learning.scorers import find_metric
from modelyard.domain.final_fit import judge_final_fit
from modelyard.domain.gate import Rule
from modelyard.domain.metrics import Interval
from modelyard.domain.releases import Candidate, Delivery
from modelyard.project import Project


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
    metric = find_metric(metric_name, contract.task)

    def outcomes(fit: Candidate) -> Outcomes | None:
        path = project.home / fit.folder / PREDICTIONS
        return as_outcomes(read_predictions(path, contract), contract) if path.exists() else None

    def measure(said: Outcomes | None) -> float:
        if said is None or not np.isfinite(said.for_metric(metric)).all():
            return float("nan")
        return metric(truth, said.for_metric(metric))

    before, after = outcomes(judged), outcomes(final)
    return judge_final_fit(
        metric,
        judged=measure(before),
        learnt=measure(after),
        interval=promised,
        silent=len(truth) if after is None else after.silent,
    )
