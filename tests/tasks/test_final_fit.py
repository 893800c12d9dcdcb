"""Does a promoted recipe learn the holdout, and is what is released the fit that did?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from modelyard.adapters.data.snapshots import load_learnt, load_snapshot
from modelyard.adapters.workspace import Workspace
from modelyard.domain.gate import GateVerdict
from modelyard.domain.releases import Candidate, Delivery, ReleaseState
from modelyard.errors import RefusedError
from modelyard.serving.bundle import load_bundle
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.frames import predict_frame
from modelyard.serving.model_file import ModelFile, load_model
from tasks.data import open_delivery
from tasks.evaluation import gate_candidate
from tasks.registration import register_release
from tasks.training import refit_candidate, train_candidate
from tests.projects import FIRST, MODEL, SECOND, build, release, write_config

AS_JUDGED = "estimator: sklearn.linear_model.Ridge, include_holdout: false"


def logged_models(workspace: Workspace, mlflow_run_id: str) -> list[str]:
    client = workspace.tracking.client
    experiment = client.get_run(mlflow_run_id).info.experiment_id
    query = f"source_run_id = '{mlflow_run_id}'"
    return sorted(m.name for m in client.search_logged_models([experiment], filter_string=query))


def predictions_of(workspace: Workspace, fit: Candidate, delivery: Delivery) -> list[object]:
    file = ModelFile.model_validate(fit.model_file)
    model = load_model(file, workspace.project.home / fit.folder)
    rows = load_snapshot(delivery.holdout, workspace.project)
    return list(predict_frame(EstimatorPredictor(model, delivery.contract), rows).predictions)


def test_the_release_is_fitted_on_training_and_holdout_rows_and_says_so_everywhere(
    workspace: Workspace,
) -> None:
    built = build()
    kept = workspace.ledger.release(MODEL, "1.0.0")
    assert (kept.judged, kept.candidate) == (built.judged, built.candidate)
    assert built.judged.model_file["sha256"] != built.candidate.model_file["sha256"]
    rows = load_learnt(kept.learnt, workspace.project)
    assert len(rows) == kept.learnt.rows == 168 + 72
    assert rows["hour"].is_monotonic_increasing
    assert kept.learnt.span.end == built.delivery.holdout.span.end

    bundle = load_bundle(workspace.project.home / built.build.bundle, built.build.digest)
    holdout = load_snapshot(built.delivery.holdout, workspace.project)
    served = list(predict_frame(bundle.predictor, holdout).predictions)
    final = predictions_of(workspace, built.candidate, built.delivery)
    assert served == pytest.approx(final, rel=1e-6)
    assert served != pytest.approx(
        predictions_of(workspace, built.judged, built.delivery), rel=1e-6
    )
    provenance = bundle.manifest.provenance
    assert (provenance["learnt_holdout"], provenance["learnt_rows"]) == ("yes", "240")
    assert provenance["data_fingerprint"] == kept.learnt.fingerprint
    entry = built.registration.changelog
    assert "trained on 240 rows, 2024-01-05 00:00 to 2024-01-14 23:00" in entry
    assert "the holdout among them" in entry
    assert "Gate, before the holdout was learnt:" in entry

    client = workspace.tracking.client
    assert logged_models(workspace, built.judged.mlflow_run_id) == ["judged_model", "model"]
    (version,) = client.search_model_versions(f"name = '{MODEL}'")
    assert built.candidate.mlflow_model_uri.removeprefix("models:/") in version.source
    run = client.get_run(built.candidate.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["holdout_mae"] == pytest.approx(built.gated.metrics["mae"].value)
    assert run.data.metrics["in_sample_mae"] != run.data.metrics["holdout_mae"]
    contexts = {tag.value for data in run.inputs.dataset_inputs for tag in data.tags}
    assert contexts == {"training", "training and holdout"}


def test_the_holdout_is_learnt_once(workspace: Workspace) -> None:
    built = build()
    assert refit_candidate.fn(built.delivery, built.judged, built.gated) == built.candidate
    states = [event.state for event in workspace.ledger.release(MODEL, "1.0.0").events]
    assert states.count(ReleaseState.REFITTED) == 1


def test_what_an_interrupted_final_fit_logged_is_replaced(workspace: Workspace) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    judged = train_candidate.fn(delivery)
    gated = gate_candidate.fn(delivery, judged)
    tracking = workspace.tracking
    model = load_model(
        ModelFile.model_validate(judged.model_file), workspace.project.home / judged.folder
    )
    features = load_snapshot(delivery.training, workspace.project)[["temp", "wind", "season"]]
    stored = ModelFile.model_validate(judged.model_file)
    folder = workspace.project.home / judged.folder
    with tracking.continued_run(judged.mlflow_run_id):
        left = tracking.log_model(model, stored, folder, features, judged.requirements)
    final = refit_candidate.fn(delivery, judged, gated)
    assert final.mlflow_model_uri != left
    assert logged_models(workspace, judged.mlflow_run_id) == ["judged_model", "model"]


def test_without_the_holdout_the_very_fit_that_was_judged_is_released(
    workspace: Workspace,
) -> None:
    write_config(workspace.project.root, recipe=AS_JUDGED)
    built = build()
    assert built.candidate == built.judged
    kept = workspace.ledger.release(MODEL, "1.0.0")
    assert kept.payload(ReleaseState.REFITTED) is None
    assert (kept.learnt.rows, kept.learnt.fingerprint) == (168, built.delivery.training.fingerprint)
    assert logged_models(workspace, built.judged.mlflow_run_id) == ["model"]
    assert "holdout among them" not in built.registration.changelog
    assert "\nGate:\n" in built.registration.changelog


def test_a_release_keeps_its_fit_when_the_config_changes_after_it_was_registered(
    workspace: Workspace,
) -> None:
    write_config(workspace.project.root, recipe=AS_JUDGED)
    built = build()
    write_config(workspace.project.root)
    assert refit_candidate.fn(built.delivery, built.judged, built.gated) == built.judged


FORGETFUL = """
import numpy as np
from sklearn.linear_model import Ridge


class Forgetful(Ridge):
    def fit(self, rows, target):
        self.rows_ = len(rows)
        return super().fit(rows[["temp", "wind"]], target)

    def predict(self, rows):
        said = super().predict(rows[["temp", "wind"]])
        return said if self.rows_ < 200 else said {fault}


def build(contract, seed):
    return Forgetful()
"""


@pytest.mark.parametrize(
    ("fault", "reason"), [("* np.nan", "no finite prediction for 72"), ("+ 50.0", "worse than")]
)
def test_a_final_fit_that_has_gone_wrong_ends_the_delivery(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    name = f"forgetful_{len(fault)}"
    root = workspace.project.root
    (root / f"{name}.py").write_text(FORGETFUL.replace("{fault}", fault))
    monkeypatch.syspath_prepend(str(root))
    write_config(root, recipe=f"pipeline: {name}:build")
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    judged = train_candidate.fn(delivery)
    gated = gate_candidate.fn(delivery, judged)
    assert gated.promotes
    with pytest.raises(RefusedError, match=reason) as refused:
        refit_candidate.fn(delivery, judged, gated)
    assert refused.value.exit_code == 3
    ended = workspace.ledger.release_by_id(delivery.id)
    assert (ended.state, ended.version) == (ReleaseState.ABORTED, None)
    assert reason in ended.events[-1].why
    assert not (workspace.project.home / "bundles" / MODEL).exists()


def test_rows_that_the_champion_learnt_after_the_gate_do_not_judge_its_successor(
    monitored: Workspace,
) -> None:
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None
    # two days later: a day of the holdout is the champion's own
    delivery = open_delivery.fn(MODEL, "test", FIRST + pd.Timedelta(days=2))
    gated = gate_candidate.fn(delivery, train_candidate.fn(delivery))
    (rows,) = [rule for rule in gated.decision.rules if rule.name == "unseen holdout rows"]
    assert (rows.value, rows.reason.endswith("24 left out")) == (48.0, True)
    assert "champion 1.0.0 before" not in str(gated.decision.reasons)


def test_another_recipe_on_the_same_rows_is_compared_with_the_fit_that_had_not_learnt_them(
    monitored: Workspace,
) -> None:
    write_config(
        monitored.project.root,
        recipe="estimator: sklearn.linear_model.LinearRegression",
        margin="20%",
    )
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    challenger = train_candidate.fn(delivery)
    gated = gate_candidate.fn(delivery, challenger)
    (gain,) = [rule for rule in gated.decision.rules if rule.name.startswith("better than")]
    assert gain.name == "better than champion 1.0.0 before it learnt its holdout"
    assert gated.decision.verdict is GateVerdict.INCONCLUSIVE
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None
    truth = load_snapshot(delivery.holdout, monitored.project)["cnt"]
    said = pd.Series(predictions_of(monitored, champion.judged, champion.delivery))
    assert gated.champion_metrics["mae"] == pytest.approx((said - truth).abs().mean())


def test_without_the_judged_fit_another_recipe_waits_for_newer_rows(monitored: Workspace) -> None:
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None
    folder = monitored.project.home / champion.judged.folder
    Path(folder / champion.judged.model_file["path"]).unlink()
    write_config(monitored.project.root, recipe="estimator: sklearn.linear_model.LinearRegression")
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    gated = gate_candidate.fn(delivery, train_candidate.fn(delivery))
    assert gated.decision.verdict is GateVerdict.KEEP
    assert "wait for newer rows" in gated.decision.reasons[0]


def test_a_refit_that_learnt_newer_rows_is_a_patch_and_its_entry_compares_all_that_was_learnt(
    workspace: Workspace,
) -> None:
    release(build())
    second = build(SECOND)
    assert second.registration.version == "1.0.1"
    entry = second.registration.changelog
    assert "; was 240 rows, 2024-01-05 00:00 to 2024-01-14 23:00, the holdout among them" in entry
    assert "240 rows came, 240 went, 0 stayed" in entry
    assert register_release.fn(second.delivery, second.candidate, second.gated) == (
        second.registration
    )
