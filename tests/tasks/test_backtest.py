"""History is gone through with what was known at each moment, and nothing later."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.backtest.fits import FitStore
from modelyard.adapters.backtest.history import History, read_history
from modelyard.adapters.backtest.policies import Policy, read_policies, standard_policies
from modelyard.adapters.backtest.releases import deliver
from modelyard.adapters.backtest.running import Gone, Question, run_policies
from modelyard.adapters.backtest.simulation import Simulation
from modelyard.config import ModelConfig, load_model_file
from modelyard.domain.backtest import assess
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.policy_runs import CONFIGURED, NEVER, ORACLE, PolicyRun
from modelyard.errors import ConfigError, DataError, InvalidInputError
from modelyard.project import Project
from tests.projects import MODEL, SHIFT, make_project, rides, write_config

BEGIN = datetime(2024, 1, 15, tzinfo=UTC)
TWO_DAYS = timedelta(days=2)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Rides that are monitored in windows of two days."""
    made = make_project(tmp_path)
    write_windows(made.root, "2d")
    return made


def write_windows(root: Path, length: str) -> None:
    write_config(root)
    file = root / "configs" / "models" / f"{MODEL}.yaml"
    text = file.read_text().replace("window: 7d, min_rows: 100", f"window: {length}, min_rows: 40")
    file.write_text(text)


def config_of(project: Project) -> ModelConfig:
    return project.model(MODEL)


def question(project: Project, **span: datetime | None) -> Question:
    return Question(project.root, project.folder("backtests", MODEL), config_of(project), **span)


def simulate(
    project: Project, policy: Policy, end: datetime | None = None
) -> tuple[PolicyRun, list[WindowRecord]]:
    config = config_of(project)
    history = read_history(config, project.root, start=BEGIN, end=end)
    store = FitStore(project.folder("fits"))
    first = deliver(history, config, store, now=history.start).release
    assert first is not None
    simulation = Simulation(history, policy, store, first)
    run = simulation.run(lambda window, said: None)
    return run, list(simulation.records.values())


def configured(project: Project) -> Policy:
    return next(p for p in standard_policies(config_of(project), 3) if p.name == CONFIGURED)


def rewrite(project: Project, change: pd.DataFrame) -> None:
    change.to_csv(project.root / "rides.csv", index=False)


def without_seconds(run: PolicyRun) -> PolicyRun:
    return run.model_copy(update={"fit_seconds": 0.0})


def test_a_shift_is_learnt_by_the_config_and_never_without_retraining(project: Project) -> None:
    asked = standard_policies(config_of(project), 3)
    gone = run_policies(question(project, start=BEGIN), asked, processes=1)
    by_name = {one.run.policy: one for one in gone.policies}
    assert [one.run.policy for one in gone.policies] == [policy.name for policy in asked]
    never, config, oracle = (by_name[name] for name in (NEVER, CONFIGURED, ORACLE))
    assert {step.release for step in never.run.steps} == {"1.0.0"}
    (trained, *_) = [step for step in config.run.steps if step.outcome == "champion"]
    assert trained.cause == "performance"
    assert trained.start >= SHIFT - TWO_DAYS
    assert config.run.steps[-1].release != "1.0.0"
    left, learnt = (
        [figure.value for f in one.figures[-2:] if (figure := f.figure) is not None]
        for one in (never, config)
    )
    assert len(left) == len(learnt) == 2
    assert sum(learnt) < 0.9 * sum(left)
    assert oracle.run.trainings == len(oracle.run.steps)


@pytest.mark.parametrize("windows", [3, 5, 7])
def test_what_comes_later_changes_no_decision_by_a_bit(project: Project, windows: int) -> None:
    moment = BEGIN - timedelta(days=1) + windows * TWO_DAYS
    told, before = simulate(project, configured(project), moment)
    rows, rng = rides(), np.random.default_rng(1)
    later = pd.to_datetime(rows["hour"], utc=True) >= moment
    assert 0 < later.sum() < len(rows)
    for name in ("temp", "wind", "cnt"):
        rows.loc[later, name] = rng.permutation(rows.loc[later, name].to_numpy()) * 3
    rows.loc[later, "season"] = "flood"
    rewrite(project, rows)
    again, after = simulate(project, configured(project), moment)
    assert without_seconds(told) == without_seconds(again)
    assert before == after


def test_a_label_that_came_later_changes_no_decision_by_a_bit(project: Project) -> None:
    """Labels take three days: those of the last windows were not known at the moment."""
    file = project.root / "configs" / "models" / f"{MODEL}.yaml"
    file.write_text(file.read_text().replace("  time: hour\n", "  time: hour\n  label_delay: 3d\n"))
    moment = BEGIN - timedelta(days=1) + 5 * TWO_DAYS
    told, before = simulate(project, configured(project), moment)
    rows = rides()
    times = pd.to_datetime(rows["hour"], utc=True)
    rows.loc[times > moment - timedelta(days=3), "cnt"] *= -5
    rewrite(project, rows)
    again, after = simulate(project, configured(project), moment)
    assert without_seconds(told) == without_seconds(again)
    assert before == after
    rows.loc[times > moment - timedelta(days=8), "cnt"] *= -5
    rewrite(project, rows)
    assert simulate(project, configured(project), moment)[1] != before


def test_a_second_run_makes_no_fit_and_says_the_same(project: Project) -> None:
    asked = standard_policies(config_of(project), 3)
    first = run_policies(question(project, start=BEGIN), asked, processes=1)
    fits = sorted(project.folder("backtests", MODEL, "fits").rglob("fit.json"))
    written = {fit: fit.stat().st_mtime_ns for fit in fits}
    for kept in project.folder("backtests", MODEL, "runs").glob("*.json"):
        kept.unlink()
    again = run_policies(question(project, start=BEGIN), asked, processes=1)
    assert again == first
    assert written == {fit: fit.stat().st_mtime_ns for fit in fits}
    assert len(fits) == len(list(project.folder("backtests", MODEL, "fits").rglob("fit.json")))


def test_a_fit_that_was_killed_half_way_is_made_again(project: Project) -> None:
    def run() -> Gone:
        asked = standard_policies(config_of(project), 3)
        return run_policies(question(project, start=BEGIN), asked, processes=1)

    run()
    folder = project.folder("backtests", MODEL)
    broken = sorted((folder / "fits").rglob("fit.json"))[0]
    broken.unlink()
    for kept in (folder / "runs").glob("*.json"):
        kept.unlink()
    run()
    assert broken.exists()


def test_windows_lie_on_the_grid_and_begin_after_a_quarter_of_the_rows(project: Project) -> None:
    history: History = read_history(config_of(project), project.root)
    times = pd.to_datetime(rides()["hour"], utc=True)
    assert (times < history.start).mean() >= 0.25
    assert history.windows[-1].end <= times.iloc[-1] + TWO_DAYS
    rows = [history.of(window) for window in history.windows]
    assert all(one.stop == two.start for one, two in itertools.pairwise(rows))


def test_without_a_time_column_nothing_can_be_gone_through(project: Project) -> None:
    file = project.root / "configs" / "models" / f"{MODEL}.yaml"
    text = file.read_text().replace("  time: hour\n", "")
    file.write_text(text.replace("newest 3d", "newest 20%").replace(", window: 7d}", "}"))
    with pytest.raises(InvalidInputError, match=r"no time column.*data\.time"):
        read_history(config_of(project), project.root)


def test_fewer_rows_than_a_window_are_refused_with_what_there_is(project: Project) -> None:
    write_windows(project.root, "60d")
    with pytest.raises(InvalidInputError, match=r"720 rows .* fill no window of 60d"):
        read_history(config_of(project), project.root)


def test_a_beginning_before_the_first_row_is_refused(project: Project) -> None:
    with pytest.raises(DataError, match="no row is older than 2023"):
        read_history(config_of(project), project.root, start=datetime(2023, 1, 1, tzinfo=UTC))


def test_a_grid_makes_a_policy_of_each_combination(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "patient.yaml"
    file.write_text(
        "retraining: {budget: 1 per 7d}\n"
        "grid:\n"
        "  retraining.cooldown: [1d, 4d]\n"
        "  evaluation.margin: [1%, 5%]\n"
    )
    found = read_policies(file, config_of(project))
    assert [policy.name for policy in found] == [
        "patient: cooldown 1d, margin 1%",
        "patient: cooldown 1d, margin 5%",
        "patient: cooldown 4d, margin 1%",
        "patient: cooldown 4d, margin 5%",
    ]
    last = found[-1].config
    assert last.retraining.cooldown == timedelta(days=4)
    assert last.evaluation.margin == 0.05
    assert str(last.retraining.budget) == "1 per 7d"
    assert last.evaluation.primary_metric == "mae"
    assert found[-1].changes == {
        "retraining.budget": "1 per 7d",
        "retraining.cooldown": "4d",
        "evaluation.margin": "5%",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("retraining: {cooldwn: 3d}\n", r"patient.yaml:1: retraining.cooldwn.*`cooldown`"),
        ("retrain: {cooldown: 3d}\n", r"patient.yaml:1: retrain.*`retraining`"),
        ("grid: {retraining.cooldown: [soon]}\n", r"grid.retraining.cooldown = 'soon'"),
        ("grid: {cooldown: [1d]}\n", r"cooldown is no key of a policy"),
        ("grid: {retraining.cooldown: []}\n", r"retraining.cooldown has no value to try"),
        ("monitoring: {window: 3d}\n", r"monitoring.window: policies are compared"),
        ("evaluation: {primary_metric: rmse}\n", r"primary_metric: policies are compared .* mae"),
        ("grid: {evaluation.primary_metric: [r2]}\n", r"primary_metric: policies are compared"),
        ('name: "a\\nb"\n', r"name = 'a\\nb': must be one line of printable text"),
        ("data: {target: temp}\n", r"patient.yaml:1: data"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_with_its_key(
    project: Project, tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "patient.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_policies(file, config_of(project))


def test_a_standard_policy_writes_what_it_is(project: Project) -> None:
    from modelyard.config.rewriting import rewrite_model_file

    path = project.root / "configs" / "models" / f"{MODEL}.yaml"
    path.write_text("# our rides\n" + path.read_text())
    for policy in standard_policies(config_of(project), 3):
        if policy.name in (ORACLE, CONFIGURED):
            assert not policy.changes
            continue
        rewrite_model_file(path, policy.changes)
        written = load_model_file(path)
        assert written.retraining.on == policy.config.retraining.on
        assert path.read_text().startswith("# our rides\n")
    assert written.retraining.schedule is not None
    assert written.retraining.schedule.every == 3 * TWO_DAYS


def test_a_change_that_cannot_be_meant_leaves_the_config_as_it_was(project: Project) -> None:
    from modelyard.config.rewriting import rewrite_model_file

    path = project.root / "configs" / "models" / f"{MODEL}.yaml"
    before = path.read_text()
    with pytest.raises(ConfigError, match="was left as it is"):
        rewrite_model_file(path, {"retraining.cooldown": "soon"})
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", [b"", b'{"run": ', b"\xff\xfe"])
@pytest.mark.parametrize("kept", ["runs/*.json", "fits/*/*/fit.json"])
def test_what_was_kept_and_is_damaged_is_made_again(
    project: Project, kept: str, damage: bytes
) -> None:
    asked = standard_policies(config_of(project), 3)[:1]
    asked = (*asked, next(p for p in standard_policies(config_of(project), 3) if p.name == ORACLE))
    span = question(project, start=BEGIN, end=BEGIN + 2 * TWO_DAYS)
    first = run_policies(span, asked, processes=1)
    folder = project.folder("backtests", MODEL)
    for file in folder.glob(kept):
        file.write_bytes(damage)
    if kept.startswith("fits"):
        for result in (folder / "runs").glob("*.json"):
            result.unlink()
    again = run_policies(replace(span, asked="again"), asked, processes=1)
    assert [one.figures for one in again.policies] == [one.figures for one in first.policies]


def test_an_end_before_the_beginning_is_refused_with_both(project: Project) -> None:
    with pytest.raises(InvalidInputError, match=r"2024-01-15 .* 2024-01-13 .* --to must be later"):
        read_history(config_of(project), project.root, start=BEGIN, end=BEGIN - TWO_DAYS)


@pytest.mark.parametrize("every", [10**9, 10**12])
def test_a_rhythm_longer_than_any_history_is_refused(project: Project, every: int) -> None:
    with pytest.raises(InvalidInputError, match="longer than any history"):
        standard_policies(config_of(project), every)


def test_windows_without_a_label_cannot_tell_policies_apart(project: Project) -> None:
    rows = rides()
    rows.loc[rows["hour"] >= "2024-01-14", "cnt"] = np.nan
    rewrite(project, rows)
    asked = standard_policies(config_of(project), 3)
    gone = run_policies(question(project, start=BEGIN + 2 * TWO_DAYS), asked, processes=1)
    with pytest.raises(InvalidInputError, match="mae is defined in no window"):
        assess(
            MODEL,
            "mae",
            [one.run for one in gone.policies],
            {one.run.policy: one.figures for one in gone.policies},
            higher_is_better=False,
            promise=gone.promise,
        )


def test_a_dask_address_where_nothing_listens_is_told(project: Project) -> None:
    dask = pytest.importorskip("dask")
    asked = standard_policies(config_of(project), 3)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        pytest.raises(InvalidInputError, match=r"No Dask scheduler answers at tcp://127.0.0.1:1:"),
    ):
        run_policies(question(project, start=BEGIN), asked, dask="tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ("{estimator: no.such.Thing}", r"Policy 'tried': .*no.such"),
        ("{params: {nonsense: 3}}", r"Policy 'tried': training.params: .*nonsense"),
        ("{estimator: os.getcwd}", r"Policy 'tried': .*gives str, which has no fit"),
    ],
)
def test_a_recipe_that_cannot_be_built_is_told_before_anything_is_tried(
    project: Project, tmp_path: Path, training: str, told: str
) -> None:
    file = tmp_path / "tried.yaml"
    file.write_text(f"training: {training}\n")
    with pytest.raises(ConfigError, match=told):
        run_policies(question(project, start=BEGIN), read_policies(file, config_of(project)))


def test_a_grid_names_its_values_as_yaml_has_them(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "clock.yaml"
    file.write_text("grid: {retraining.schedule: [{every: 4d}, null], retraining.on: [[drift]]}\n")
    assert [policy.name for policy in read_policies(file, config_of(project))] == [
        "clock: schedule {every: 4d}, on [drift]",
        "clock: schedule null, on [drift]",
    ]
