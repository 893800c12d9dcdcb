"""Which version do real changes of a real feed lead to?"""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.data.sources import labelled, read_rows
from modelyard.adapters.learning.pipelines import describe_recipe
from modelyard.config import ModelConfig
from modelyard.domain.releases import ReleaseFacts
from modelyard.domain.versioning import Bump, derive_bump

BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"


def facts(data_folder: Path, file: str, rows: int, **params: object) -> ReleaseFacts:
    """What a release would be made of that is trained on the first rows of a file."""
    config = ModelConfig.model_validate(
        {
            "name": "bank",
            "task": "binary_classification",
            "data": {
                "source": str(data_folder / "bank_marketing" / file),
                "target": "y",
                "positive": "yes",
                "id": "row_id",
                "time": "contact_month",
                "features": {"drop": ["duration"]},
            },
            "training": {"estimator": BOOSTING, "params": params},
            "evaluation": {"primary_metric": "log_loss"},
        }
    )
    found = labelled(read_rows(config.data, root=data_folder, task=config.task), "y").head(rows)
    contract = infer_contract(config, found).contract
    return ReleaseFacts(contract=contract, recipe=describe_recipe(config.training, contract))


@pytest.fixture(scope="module")
def newer(data_folder: Path) -> ReleaseFacts:
    return facts(data_folder, "data.csv.gz", 30_000)


def test_another_schema_of_the_same_feed_is_major(data_folder: Path, newer: ReleaseFacts) -> None:
    older = facts(data_folder, "bank_full_2012.csv.gz", 30_000)
    derived = derive_bump(older, newer)
    assert derived.bump is Bump.MAJOR
    said = " ".join(derived.reasons)
    assert "input column balance was removed" in said
    assert "input column euribor3m is newly required" in said
    assert derive_bump(newer, older).bump is Bump.MAJOR


def test_a_refit_on_newer_rows_is_a_patch(data_folder: Path, newer: ReleaseFacts) -> None:
    refit = facts(data_folder, "data.csv.gz", 41_188)
    assert derive_bump(newer, refit).bump is Bump.PATCH


def test_other_hyper_parameters_are_minor(data_folder: Path, newer: ReleaseFacts) -> None:
    slower = facts(data_folder, "data.csv.gz", 30_000, learning_rate=0.05)
    derived = derive_bump(newer, slower)
    assert derived.bump is Bump.MINOR
    assert derived.reasons == ("params.learning_rate: not set → 0.05",)
