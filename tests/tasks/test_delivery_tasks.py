"""Do the steps up to the bundle do their effect once, and nothing on bad input?"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from modelyard.adapters.mlflow import DELIVERY_TAG
from modelyard.adapters.records.store import RecordStore
from modelyard.adapters.workspace import Workspace
from modelyard.domain.gate import GateVerdict
from modelyard.domain.records import pins_of
from modelyard.domain.releases import ReleaseState
from modelyard.errors import ConfigError, DataError
from modelyard.serving.bundle import load_bundle
from tasks.data import open_delivery
from tasks.evaluation import gate_candidate
from tasks.images import build_release
from tasks.registration import register_release
from tasks.training import train_candidate
from tests.projects import FIRST, MODEL, SECOND, build, rides, write_config


def break_csv(root: Path, column: str, value: str) -> None:
    rows = pd.read_csv(root / "rides.csv", dtype=str)
    rows.loc[5, column] = value
    rows.to_csv(root / "rides.csv", index=False)


def runs_of(workspace: Workspace, delivery_id: str) -> list[str]:
    experiment = workspace.tracking.client.get_experiment_by_name(MODEL)
    assert experiment is not None
    query = f"tags.`{DELIVERY_TAG}` = '{delivery_id}'"
    found = workspace.tracking.client.search_runs([experiment.experiment_id], filter_string=query)
    return [run.info.run_id for run in found]


def test_opening_a_delivery_splits_off_the_newest_rows_and_stores_both_parts(
    workspace: Workspace,
) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    assert delivery.training.span.end is not None
    assert delivery.holdout.span.start is not None
    assert delivery.training.span.end < delivery.holdout.span.start
    assert delivery.holdout.span.end is not None
    assert delivery.holdout.span.end < FIRST
    assert (delivery.training.rows, delivery.holdout.rows) == (168, 72)
    stored = {path.name for path in workspace.project.snapshot_folder().iterdir()}
    assert stored == {delivery.training.path, delivery.holdout.path}


def test_a_candidate_is_recorded_with_what_it_takes_to_train_it_again(workspace: Workspace) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    assert delivery.training.columns.keys() == set(rides().columns)
    record = train_candidate.fn(delivery).record
    assert record is not None
    store = RecordStore(workspace.project.record_folder())
    assert record.config["data"]["source"] == "rides.csv"
    assert record.lock.hashed, record.lock.note
    assert pins_of(store.get(record.lock.file).decode()) == pins_of(record.requirements)
    assert zipfile.is_zipfile(io.BytesIO(store.get(record.code.source)))
    assert record.predictions is not None
    predicted = pd.read_parquet(io.BytesIO(store.get(record.predictions)))
    assert len(predicted) == delivery.holdout.rows
    assert record.threads.limits()["openmp"] >= 1
    # a second candidate of the same code and packages adds its predictions and nothing else
    files = {path.name for path in store.folder.iterdir()}
    write_config(workspace.project.root, recipe="estimator: sklearn.linear_model.LinearRegression")
    train_candidate.fn(open_delivery.fn(MODEL, "test", FIRST))
    assert len({path.name for path in store.folder.iterdir()} - files) == 1


def test_opening_again_goes_on_with_the_delivery_that_was_interrupted(workspace: Workspace) -> None:
    first = open_delivery.fn(MODEL, "test", FIRST)
    assert open_delivery.fn(MODEL, "again", FIRST) == first
    assert len(workspace.ledger.releases(MODEL)) == 1


@pytest.mark.parametrize("change", ["rows", "config"])
def test_an_interrupted_delivery_of_other_rows_or_another_config_is_given_up(
    workspace: Workspace, change: str
) -> None:
    first = open_delivery.fn(MODEL, "test", FIRST)
    if change == "config":
        write_config(workspace.project.root, recipe="estimator: sklearn.linear_model.Lasso")
    second = open_delivery.fn(MODEL, "test", SECOND if change == "rows" else FIRST)
    assert second.id != first.id
    old, new = workspace.ledger.releases(MODEL)
    assert (old.state, new.state) == (ReleaseState.ABORTED, ReleaseState.OPENED)
    assert "config or rows changed" in old.events[-1].why


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_an_interrupted_delivery_whose_model_is_not_the_recorded_one_is_given_up(
    workspace: Workspace, harm: str
) -> None:
    first = open_delivery.fn(MODEL, "test", FIRST)
    fit = train_candidate.fn(first)
    assert open_delivery.fn(MODEL, "again", FIRST) == first
    file = workspace.project.home / fit.folder / fit.model_file["path"]
    content = file.read_bytes()
    file.unlink()
    if harm == "changed":
        file.write_bytes(content[:-1])

    second = open_delivery.fn(MODEL, "again", FIRST)

    assert second.id != first.id
    old = workspace.ledger.release_by_id(first.id)
    assert old.state is ReleaseState.ABORTED
    assert old.events[-1].why == "model file changed before it was finished"


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("cnt", "many", "cnt"),
        ("hour", "soon", "hour"),
        ("row_id", "r1", "row_id"),
        ("temp", "warm", "temp"),
    ],
)
def test_a_bad_row_leaves_no_trace(
    workspace: Workspace, column: str, value: str, named: str
) -> None:
    break_csv(workspace.project.root, column, value)
    with pytest.raises(DataError, match=named):
        open_delivery.fn(MODEL, "test", FIRST)
    assert workspace.ledger.releases(MODEL) == ()
    assert list(workspace.project.snapshot_folder().iterdir()) == []


def test_an_unknown_model_is_refused_before_anything_is_read(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="rides"):
        open_delivery.fn("ride", "test", FIRST)
    assert workspace.ledger.models() == ()


def test_a_candidate_is_trained_once_and_has_its_run_in_mlflow(workspace: Workspace) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    candidate = train_candidate.fn(delivery)
    assert train_candidate.fn(delivery) == candidate
    assert runs_of(workspace, delivery.id) == [candidate.mlflow_run_id]
    run = workspace.tracking.client.get_run(candidate.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["estimator"] == "sklearn.linear_model.Ridge"
    assert [data.dataset.name for data in run.inputs.dataset_inputs] == [
        delivery.training.fingerprint[:12]
    ]


def test_what_an_interrupted_training_logged_is_replaced(workspace: Workspace) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    with pytest.raises(KeyboardInterrupt), workspace.tracking.training_run(delivery) as left:
        raise KeyboardInterrupt
    candidate = train_candidate.fn(delivery)
    assert runs_of(workspace, delivery.id) == [candidate.mlflow_run_id]
    assert candidate.mlflow_run_id != left


def test_rows_that_were_changed_after_they_were_taken_are_not_trained_on(
    workspace: Workspace,
) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    path = workspace.project.snapshot_folder() / delivery.training.path
    rows = pd.read_parquet(path)
    rows.loc[0, "cnt"] += 1
    rows.to_parquet(path, index=False)
    with pytest.raises(DataError, match="was changed"):
        train_candidate.fn(delivery)
    assert workspace.ledger.release_by_id(delivery.id).state is ReleaseState.OPENED


def test_the_gate_promotes_what_beats_the_naive_model_and_shows_why(workspace: Workspace) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    candidate = train_candidate.fn(delivery)
    gated = gate_candidate.fn(delivery, candidate)
    assert gated.promotes
    assert gated.champion_id is None
    assert {slice_.level for slice_ in gated.slices} == {"dry", "wet"}
    assert gate_candidate.fn(delivery, candidate) == gated
    tracking = workspace.tracking
    logged = tracking.client.get_run(candidate.mlflow_run_id).data.metrics
    assert logged["holdout_mae"] == pytest.approx(gated.metrics["mae"].value)
    plots = tracking.client.list_artifacts(candidate.mlflow_run_id, "plots")
    assert all(plot.path.endswith(".png") for plot in plots)
    assert len(plots) >= 2
    why = tracking.client.download_artifacts(candidate.mlflow_run_id, "gate.json")
    assert '"verdict": "promote"' in Path(why).read_text()


def test_a_dry_run_measures_and_ends_there(workspace: Workspace) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    gated = gate_candidate.fn(delivery, train_candidate.fn(delivery), dry_run=True)
    assert gated.promotes
    assert workspace.ledger.release_by_id(delivery.id).state is ReleaseState.ABORTED
    assert open_delivery.fn(MODEL, "test", FIRST).id != delivery.id


ODD_MODELS = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin


class Constant(RegressorMixin, BaseEstimator):
    def __init__(self, value=0.0):
        self.value = value

    def fit(self, rows, target):
        self.is_fitted_ = True
        return self

    def predict(self, rows):
        return np.full(len(rows), self.value)


def build(contract, seed, value):
    return Constant(float(value))
"""


@pytest.mark.parametrize("value", ["nan", "inf", "55.0"])
def test_predictions_that_say_nothing_never_promote(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    root = workspace.project.root
    (root / "odd_models.py").write_text(ODD_MODELS)
    monkeypatch.syspath_prepend(str(root))
    write_config(root, recipe=f"pipeline: odd_models:build, params: {{value: '{value}'}}")
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    gated = gate_candidate.fn(delivery, train_candidate.fn(delivery))
    assert gated.decision.verdict is not GateVerdict.PROMOTE
    assert gated.decision.reasons
    assert workspace.ledger.release_by_id(delivery.id).state is ReleaseState.KEPT_CHAMPION


def test_holdout_rows_that_were_changed_are_an_error_and_not_a_verdict(
    workspace: Workspace,
) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    candidate = train_candidate.fn(delivery)
    (workspace.project.snapshot_folder() / delivery.holdout.path).unlink()
    with pytest.raises(DataError, match="missing"):
        gate_candidate.fn(delivery, candidate)
    assert workspace.ledger.release_by_id(delivery.id).state is ReleaseState.TRAINED


def test_the_champion_once_more_is_kept(monitored: Workspace) -> None:
    delivery = open_delivery.fn(MODEL, "again", FIRST)
    gated = gate_candidate.fn(delivery, train_candidate.fn(delivery))
    assert gated.decision.verdict is GateVerdict.KEEP
    assert "once more" in gated.decision.reasons[0]
    assert gated.champion_version == "1.0.0"
    kept, champion = monitored.ledger.release_by_id(delivery.id), monitored.ledger.champion(MODEL)
    assert (kept.state, kept.version) == (ReleaseState.KEPT_CHAMPION, None)
    assert champion is not None
    assert champion.version == "1.0.0"


def test_a_registration_is_numbered_once_and_mirrored_to_mlflow(workspace: Workspace) -> None:
    built = build()
    registration = built.registration
    assert (registration.version, registration.bump) == ("1.0.0", None)
    assert register_release.fn(built.delivery, built.candidate, built.gated) == registration

    client = workspace.tracking.client
    (version,) = client.search_model_versions(f"name = '{MODEL}'")
    assert version.tags[DELIVERY_TAG] == built.delivery.id
    assert version.tags["semver"] == "1.0.0"
    learnt = workspace.ledger.release(MODEL, "1.0.0").learnt
    assert learnt.with_holdout
    assert version.tags["data_fingerprint"] == learnt.fingerprint
    assert version.description == registration.changelog.strip()
    assert client.get_registered_model(MODEL).aliases == {"challenger": int(version.version)}
    run = client.get_run(built.candidate.mlflow_run_id)
    assert run.info.run_name == f"{MODEL} 1.0.0"
    assert run.data.tags["mlflow.note.content"] == registration.changelog
    logged = client.download_artifacts(run.info.run_id, "CHANGELOG.md")
    assert Path(logged).read_text() == registration.changelog


def test_a_bundle_is_built_once_and_predicts_what_it_recorded(workspace: Workspace) -> None:
    built = build()
    folder = workspace.project.home / built.build.bundle
    assert load_bundle(folder, built.build.digest).check_golden() > 50
    before = folder.stat().st_mtime_ns
    assert build_release.fn(built.delivery, built.candidate, built.registration) == built.build
    assert folder.stat().st_mtime_ns == before


def test_a_bundle_of_a_build_that_was_interrupted_is_replaced(workspace: Workspace) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    candidate = train_candidate.fn(delivery)
    registration = register_release.fn(delivery, candidate, gate_candidate.fn(delivery, candidate))
    left = workspace.project.bundle_folder(MODEL, registration.version)
    left.mkdir()
    (left / "half").write_text("written")
    made = build_release.fn(delivery, candidate, registration)
    assert load_bundle(workspace.project.home / made.bundle, made.digest).check_golden() > 50


def test_an_experiment_that_somebody_deleted_comes_back_with_the_next_delivery(
    workspace: Workspace,
) -> None:
    client = workspace.tracking.client
    first = train_candidate.fn(open_delivery.fn(MODEL, "first", FIRST))
    client.delete_experiment(client.get_run(first.mlflow_run_id).info.experiment_id)
    second = train_candidate.fn(open_delivery.fn(MODEL, "second", SECOND))
    assert client.get_run(second.mlflow_run_id).info.status == "FINISHED"
