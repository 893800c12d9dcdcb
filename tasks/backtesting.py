"""What would other policies have done to a model?"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from modelyard.adapters.backtest.policies import read_policies, standard_policies, unique
from modelyard.adapters.backtest.report import as_html, backtest_page
from modelyard.adapters.backtest.running import Question, announce, run_policies
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.pages import artifact_key
from modelyard.adapters.pictures.backtest_plots import backtest_figures
from modelyard.adapters.pictures.plot_style import as_png
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.backtest import Backtest, assess

_LONGEST_SECONDS = 7 * 86_400.0


@step("Go through history", timeout_seconds=_LONGEST_SECONDS)
def go_through_history(
    model: str,
    policies: list[str],
    start: datetime | None = None,
    end: datetime | None = None,
    every: int = 4,
    processes: int | None = None,
    dask: str | None = None,
) -> Backtest:
    """Have each policy decide window by window, and hold what came of it against the others.

    Idempotent by rows, policies and code: what was gone through already is not gone through again.
    """
    project = Workspace.find().project
    config = project.model(model)
    asked = [p for path in policies for p in read_policies(project.root / Path(path), config)]
    chosen = tuple(unique((*standard_policies(config, every), *asked)))
    folder = project.folder("backtests", config.name)
    question = Question(project.root, folder, config, start, end)
    gone = run_policies(question, chosen, processes=processes, dask=dask, tell=announce)
    metric = find_metric(config.evaluation.primary_metric, config.task)
    return assess(
        config.name,
        metric.name,
        [one.run for one in gone.policies],
        {one.run.policy: one.figures for one in gone.policies},
        higher_is_better=metric.higher_is_better,
        promise=gone.promise,
    )


@step("Show")
def show_backtest(backtest: Backtest) -> Backtest:
    """Write the report, log a run a policy to MLflow, and leave the page in the Prefect UI."""
    workspace = Workspace.find()
    folder = workspace.project.folder("backtests", backtest.model)
    pictures = {title: as_png(drawn) for title, drawn in backtest_figures(backtest).items()}
    run = workspace.tracking.log_backtest(backtest, pictures)
    page = backtest_page(
        backtest, pictures, workspace.tracking.run_page(workspace.tracking_page, run)
    )
    report = folder / "report.html"
    report.write_text(as_html(page, f"Backtest of {backtest.model}"), encoding="utf-8")
    (folder / "backtest.json").write_text(backtest.model_dump_json(indent=1))
    workspace.tracking.log_file(run, report, "report")
    told = f"Recommended: {backtest.recommendation.policy}"
    publish_page(artifact_key("backtest", backtest.model), page, told)
    return backtest
