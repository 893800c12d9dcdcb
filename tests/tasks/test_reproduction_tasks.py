"""Is a release that is made again the same, and is it said what was altered where it is not?"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from modelyard.adapters.reproduction.folders import fresh_folder
from modelyard.adapters.workspace import Workspace
from modelyard.domain.reproduction import Reproduction, ReproductionVerdict
from modelyard.errors import DataError, UnknownReleaseError
from modelyard.project import Project
from modelyard.serving.model_file import ModelFile
from tasks.reproduction import (
    check_record,
    compare_release,
    make_fresh_environment,
    retrain_release,
)
from tests.projects import MODEL, Built, build, copy_project, working_in, write_config

pytestmark = pytest.mark.xdist_group("fresh environments")


def reproduce(version: str | None = "1.0.0", replace: list[str] | None = None) -> Reproduction:
    """Call the tasks of the flow one after another."""
    with fresh_folder() as folder:
        checked = check_record.fn(MODEL, version, folder)
        if not checked.usable:
            return compare_release.fn(checked, None, folder)
        python = make_fresh_environment.fn(checked, replace or [], folder)
        return compare_release.fn(checked, retrain_release.fn(checked, python, folder), folder)


@pytest.fixture(scope="module")
def built(blank: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with release 1.0.0, gradient boosting on rows weighted by age; nothing runs it."""
    project = copy_project(blank, tmp_path_factory.mktemp("built"))
    write_config(
        project.root,
        recipe="estimator: sklearn.ensemble.HistGradientBoostingRegressor, "
        "params: {max_iter: 20, min_samples_leaf: 5}, half_life: 5d",
    )
    with pytest.MonkeyPatch.context() as patch, working_in(project, patch):
        build()
    yield project
    shutil.rmtree(project.root, ignore_errors=True)


@pytest.fixture
def released(
    built: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    with working_in(copy_project(built, tmp_path), monkeypatch) as found:
        yield found


def test_a_release_is_made_again_bit_for_bit(released: Workspace) -> None:
    # what the project is now does not matter: the record does
    write_config(released.project.root, recipe="estimator: sklearn.svm.SVR")
    (released.project.root / "rides.csv").unlink()
    found = reproduce()
    assert found.verdict is ReproductionVerdict.BIT_EQUAL, found
    assert found.differences == ()
    assert found.first_difference is None
    assert found.largest_difference == 0
    assert found.rows == 72
    assert found.measured_on == "the holdout, which both fits have learnt"
    assert found.metrics["mae"].reproduced == pytest.approx(found.metrics["mae"].recorded.value)
    release = released.ledger.release(MODEL, "1.0.0")
    (kept,) = released.ledger.reproductions(release.id)
    assert kept.verdict == "bit-equal"
    assert Reproduction.model_validate(kept.report) == found
    assert list(released.project.folder("reproductions").iterdir()) == []


def test_one_altered_training_row_makes_it_different_and_names_the_column(
    released: Workspace,
) -> None:
    snapshot = released.ledger.release(MODEL, "1.0.0").delivery.training
    path = released.project.snapshot_folder() / str(snapshot.path)
    rows = pd.read_parquet(path)
    rows.loc[10, "temp"] += 5
    rows.to_parquet(path, index=False)
    found = reproduce()
    assert found.verdict is ReproductionVerdict.DIFFERENT
    assert found.first_difference is not None
    assert found.first_difference.startswith("data: training rows, column temp")
    assert [difference.part.value for difference in found.differences] == ["data"]
    assert found.largest_difference is not None
    assert found.largest_difference > 0


def test_another_version_of_a_dependency_is_named_and_judged_by_its_predictions(
    released: Workspace,
) -> None:
    found = reproduce(replace=["scikit-learn==1.8.0"])
    assert found.verdict is ReproductionVerdict.PREDICTION_EQUAL, found
    (difference,) = found.differences
    assert (difference.name, difference.found) == ("scikit-learn", "1.8.0")
    assert found.first_difference == str(difference)
    record = released.ledger.release(MODEL, "1.0.0").candidate.record
    assert record is not None
    assert f"scikit-learn=={difference.recorded}\n" in record.requirements


def test_an_altered_lock_is_named_and_not_installed(released: Workspace) -> None:
    record = released.ledger.release(MODEL, "1.0.0").candidate.record
    assert record is not None
    path = released.project.record_folder() / record.lock.file.name
    path.write_text(path.read_text().replace("\njoblib==", "\njoblib==0.", 1))
    found = reproduce()
    assert found.verdict is ReproductionVerdict.DIFFERENT
    assert found.differences[0].name == "joblib in the lock"
    assert found.differences[0].found.startswith("0.")
    assert found.refit_seconds is None
    assert found.largest_difference is None


def test_altered_source_is_named_and_not_run(released: Workspace, tmp_path: Path) -> None:
    record = released.ledger.release(MODEL, "1.0.0").candidate.record
    assert record is not None
    mark = tmp_path / "was_run"
    path = released.project.record_folder() / record.code.source.name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("modelyard/__init__.py", f"open({str(mark)!r}, 'w')")
    found = reproduce()
    assert found.verdict is ReproductionVerdict.DIFFERENT
    assert found.first_difference is not None
    assert found.first_difference.startswith("code: ModelYard's source")
    assert not mark.exists()


def test_altered_predictions_and_requirements_of_a_bundle_are_named(released: Workspace) -> None:
    release = released.ledger.release(MODEL, "1.0.0")
    requirements = released.project.home / release.build.bundle / "requirements.txt"
    requirements.write_text(requirements.read_text().replace("numpy==", "numpy==1.", 1))
    with fresh_folder() as folder:
        checked = check_record.fn(MODEL, "1.0.0", folder)
    assert not checked.usable
    assert [difference.name for difference in checked.differences] == ["numpy in the bundle"]


def test_missing_rows_and_unknown_releases_are_errors_and_no_verdict(released: Workspace) -> None:
    with pytest.raises(UnknownReleaseError, match=r"no release '9\.0\.0'"):
        reproduce("9.0.0")
    with pytest.raises(UnknownReleaseError, match="no champion"):
        reproduce(None)
    release = released.ledger.release(MODEL, "1.0.0")
    (released.project.snapshot_folder() / str(release.delivery.training.path)).unlink()
    with pytest.raises(DataError, match="are missing"):
        reproduce()
    assert released.ledger.reproductions(release.id) == ()


def test_what_a_killed_reproduction_left_is_removed_by_the_next(released: Workspace) -> None:
    folder = released.project.folder("reproductions", "abandoned")
    (folder / "venv").mkdir()
    folder.with_suffix(".lock").touch()
    with fresh_folder() as one, fresh_folder() as other:
        assert not folder.exists()
        assert Path(one).is_dir()
        assert Path(other).is_dir()
    assert list(folder.parent.iterdir()) == []


_RECIPE = """\
from own_steps.scaling import Doubled
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline


def build(contract, *, seed, alpha):
    columns = ColumnTransformer([("numbers", Doubled(), ["temp", "wind"])])
    return make_pipeline(columns, Ridge(alpha=alpha))
"""
_SCALING = """\
from sklearn.base import BaseEstimator, TransformerMixin


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, rows, target=None):
        return self

    def transform(self, rows):
        return 2 * rows.to_numpy()
"""


def release_own_pipeline(workspace: Workspace, patch: pytest.MonkeyPatch) -> Built:
    """Release a model of a package in the project's own folder."""
    package = workspace.project.root / "own_steps"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "scaling.py").write_text(_SCALING)
    (package / "recipe.py").write_text(_RECIPE)
    patch.syspath_prepend(str(workspace.project.root))
    write_config(
        workspace.project.root, recipe="pipeline: own_steps.recipe:build, params: {alpha: 0.5}"
    )
    return build()


def test_a_users_own_pipeline_and_rows_by_reference_are_made_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace.project.root
    platform = root / "configs" / "platform.yaml"
    platform.write_text(platform.read_text() + "snapshots: {max_size: 1KiB}\n")
    workspace.project.__dict__.pop("platform", None)  # it was read before
    built = release_own_pipeline(workspace, monkeypatch)
    assert ModelFile.model_validate(built.candidate.model_file).format == "cloudpickle"
    assert built.delivery.training.path is None
    # the present code is broken; the recorded one is used
    (root / "own_steps" / "recipe.py").write_text("raise SystemExit('not this one')\n")
    found = reproduce()
    assert found.verdict is ReproductionVerdict.BIT_EQUAL, found
    assert found.by_reference
    rows = pd.read_csv(root / "rides.csv")
    rows.loc[rows["hour"] == "2024-01-10T00:00:00", "season"] = "wet?"
    rows.to_csv(root / "rides.csv", index=False)
    found = reproduce()
    assert found.verdict is ReproductionVerdict.DIFFERENT
    names = [difference.name for difference in found.differences]
    assert f"training rows, file {root / 'rides.csv'}" in names
    assert "training rows, column season" in names
    assert "training rows, column temp" not in names
