"""Does code of a user's own, whatever it does, end in words and never in a broken release?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelyard.adapters.workspace import Workspace
from modelyard.domain.gate import GateVerdict
from modelyard.domain.releases import ReleaseState
from modelyard.errors import ConfigError, InvalidInputError, ModelCodeError, RefusedError
from tasks.data import open_delivery
from tasks.evaluation import gate_candidate
from tasks.training import refit_candidate, train_candidate
from tests.projects import FIRST, MODEL, rides, write_config

RECIPE = """\
import sys
import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

class Odd({base}):
    def fit(self, X, y):
        {fit}
        return super().fit(X[["temp", "wind"]], y)

    def predict(self, X):
        said = super().predict(X[["temp", "wind"]])
        {predict}
        return said

    def predict_proba(self, X):
        said = super().predict_proba(X[["temp", "wind"]])
        said[7] = np.nan
        return said

    if {base} is Ridge:
        del predict_proba

def build(contract, seed):
    return Odd()
"""


def write_recipe(
    root: Path, patch: pytest.MonkeyPatch, name: str, *, more: str = "", **parts: str
) -> None:
    """Write a pipeline of a user's own, in a module of this name, and a config that takes it."""
    parts = {"base": "Ridge", "fit": "pass", "predict": "pass", **parts}
    (root / f"{name}.py").write_text(RECIPE.format(**parts))
    patch.syspath_prepend(str(root))
    write_config(root, recipe=f"pipeline: '{name}:build'{more}")


def change_config(root: Path, old: str, new: str) -> None:
    file = root / "configs" / "models" / f"{MODEL}.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "part", "line", "words"),
    [
        (
            "raises_in_fit",
            "fit",
            "raise ValueError('no convergence')",
            "to learn 168 rows: ValueEr",
        ),
        ("leaves_in_fit", "fit", "sys.exit(0)", "to learn 168 rows: SystemExit: 0"),
        ("raises", "predict", "raise ValueError('singular')", "ValueError: singular"),
        ("too_short", "predict", "said = said[1:]", r"shape \(71,\) for 72 rows"),
        ("two_outputs", "predict", "said = np.stack([said, said])", r"shape \(2, 72\) for 72"),
        ("complex_numbers", "predict", "said = said + 1j", "complex128 predictions"),
        ("words_for_numbers", "predict", "said = np.full(len(said), 'a')", "to predict numbers"),
    ],
)
def test_a_model_that_fails_is_named_and_the_delivery_can_be_run_again(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    part: str,
    line: str,
    words: str,
) -> None:
    write_recipe(workspace.project.root, monkeypatch, name, **{part: line})
    delivery = open_delivery.fn(MODEL, "test", FIRST)

    with pytest.raises(ModelCodeError, match=words):
        train_candidate.fn(delivery)

    assert workspace.ledger.release_by_id(delivery.id).state is ReleaseState.OPENED


def test_a_module_that_cannot_be_imported_is_a_mistake_in_the_config(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace.project.root
    (root / "halves.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(root))
    write_config(root, recipe="pipeline: 'halves:build'")

    with pytest.raises(ConfigError, match="'halves:build': ZeroDivisionError: division by zero"):
        train_candidate.fn(open_delivery.fn(MODEL, "test", FIRST))


def test_a_model_without_a_figure_for_each_row_is_kept_out_and_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(workspace.project.root, monkeypatch, "silent_once", predict="said[3] = np.inf")
    delivery = open_delivery.fn(MODEL, "test", FIRST)

    gated = gate_candidate.fn(delivery, train_candidate.fn(delivery))

    assert gated.decision.verdict is GateVerdict.KEEP
    (reason,) = gated.decision.reasons
    assert "the challenger gives no finite prediction for 1 of 72 holdout rows" in reason


def test_broken_probabilities_keep_a_model_out_though_its_metric_asks_for_none(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace.project.root
    rows = rides()
    rows["cnt"] = np.where(rows["cnt"] > rows["cnt"].median(), "many", "few")
    rows.to_csv(root / "rides.csv", index=False)
    write_recipe(
        root,
        monkeypatch,
        "unsure",
        base="LogisticRegression",
        more=", include_holdout: false",
    )
    change_config(root, "task: regression", "task: binary_classification")
    change_config(root, "primary_metric: mae", "primary_metric: accuracy")
    delivery = open_delivery.fn(MODEL, "test", FIRST)

    gated = gate_candidate.fn(delivery, train_candidate.fn(delivery))

    assert not gated.promotes
    assert "no finite prediction for 1 of 72" in gated.decision.reasons[0]


def test_a_pipeline_that_is_changed_after_the_gate_judged_it_is_not_released(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace.project.root
    write_recipe(root, monkeypatch, "edited")
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    judged = train_candidate.fn(delivery)
    gated = gate_candidate.fn(delivery, judged)
    assert gated.promotes
    with (root / "edited.py").open("a") as file:
        file.write("\n# another day\n")

    with pytest.raises(RefusedError, match="recipe changed after the gate had judged it: code"):
        refit_candidate.fn(delivery, judged, gated)

    assert workspace.ledger.release_by_id(delivery.id).state is ReleaseState.ABORTED


def test_a_config_that_is_changed_while_its_delivery_runs_is_not_released(
    workspace: Workspace,
) -> None:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    judged = train_candidate.fn(delivery)
    gated = gate_candidate.fn(delivery, judged)
    write_config(
        workspace.project.root,
        recipe="estimator: sklearn.linear_model.Ridge, params: {alpha: 1.0e+9}",
    )

    with pytest.raises(RefusedError, match=r"params.alpha: not set → 1000000000.0"):
        refit_candidate.fn(delivery, judged, gated)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("nobodys_module:score", "evaluation: cannot import 'nobodys_module:score'"),
        ("os:getcwd", "The scorer 'os:getcwd' cannot measure a regression: TypeError"),
        ("average_precision", "'average_precision' cannot measure a regression"),
    ],
)
def test_a_metric_that_cannot_measure_is_refused_before_anything_is_recorded(
    workspace: Workspace, metric: str, words: str
) -> None:
    root = workspace.project.root
    change_config(root, "primary_metric: mae", f"primary_metric: '{metric}'")

    with pytest.raises(InvalidInputError, match=words):
        open_delivery.fn(MODEL, "test", FIRST)

    assert workspace.ledger.releases(MODEL) == ()
