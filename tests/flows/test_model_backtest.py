"""Does the flow show what each policy would have done, and leave the service alone?"""

from __future__ import annotations

import httpx

from flows.model_backtest import backtest_model
from modelyard.adapters.workspace import Workspace
from modelyard.domain.policy_runs import CONFIGURED
from tests.projects import FIRST, MODEL


def test_a_backtest_leaves_a_page_a_report_and_a_run_a_policy(
    workspace: Workspace, prefect_server: str
) -> None:
    done = backtest_model(MODEL, start=FIRST, processes=1)
    assert backtest_model(MODEL, start=FIRST, processes=1) == done
    key = f"backtest-{MODEL}"
    answer = httpx.post(f"{prefect_server}/artifacts/latest/filter", json={"limit": 200})
    (page,) = [each["data"] for each in answer.raise_for_status().json() if each["key"] == key]
    assert page.startswith(f"# Backtest of {MODEL}")
    assert f"## Recommended: {done.recommendation.policy}" in page
    assert page.count("data:image/png;base64,") == 3
    report = workspace.project.folder("backtests", MODEL) / "report.html"
    assert "<table>" in report.read_text()
    assert "http" not in report.read_text().replace("http-equiv", "")
    client = workspace.tracking.client
    experiment = client.get_experiment_by_name(MODEL)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.info.run_name for run in children} == {score.policy for score in done.scores}
    (own,) = [run for run in children if run.info.run_name == CONFIGURED]
    history = client.get_metric_history(own.info.run_id, done.metric)
    assert [point.step for point in history] == list(range(done.windows))
    assert not workspace.ledger.releases(MODEL)
