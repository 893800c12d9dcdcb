"""Which fit does a recipe make of these rows, and was it made before?

The same rows, recipe and packages give the same fit, whichever policy asks for it: it is made once,
and kept below a folder that processes share.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
from filelock import FileLock
from pydantic import ValidationError

from modelyard.adapters.data.damage import damage_told
from modelyard.adapters.data.hashes import fingerprint_rows
from modelyard.adapters.learning.environment import pinned_requirements
from modelyard.adapters.learning.fitting import PREDICTIONS, fit_recipe
from modelyard.adapters.learning.pipelines import describe_recipe
from modelyard.adapters.learning.stored_predictions import read_predictions
from modelyard.config import ModelConfig
from modelyard.domain.values import Contract, Value
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.model_file import ModelFile, load_model
from modelyard.serving.predictor import Prediction, Predictor

_RECORD = "fit.json"


class _Record(Value):
    """What is known of a fit that ended."""

    model_file: dict[str, object]
    seconds: float


@dataclass(frozen=True)
class StoredFit:
    """A fitted recipe and what it said about the rows held out from it."""

    key: str
    """The same for the same rows, recipe and packages."""
    contract: Contract
    folder: Path
    file: ModelFile
    seconds: float

    @cached_property
    def predictor(self) -> Predictor:
        """The fit behind its contract; loaded on first use."""
        return EstimatorPredictor(load_model(self.file, self.folder), self.contract)

    @property
    def said(self) -> Prediction | None:
        """What it says about the holdout; None where it can say nothing about it."""
        path = self.folder / PREDICTIONS
        if not path.exists():
            return None
        with damage_told(path, _MEND):
            return read_predictions(path, self.contract)

    @property
    def model_bytes(self) -> int:
        return (self.folder / self.file.path).stat().st_size


@dataclass
class FitStore:
    """Fits below a folder; several processes may use it at the same time."""

    folder: Path
    made: int = field(default=0, init=False)
    """Fits that this process made itself."""

    def fit(
        self, config: ModelConfig, contract: Contract, rows: pd.DataFrame, holdout: pd.DataFrame
    ) -> StoredFit:
        """Return the fit of a config's recipe on rows, made where there is none.

        A process that asks while another one makes it waits; one that was killed leaves nothing
        that counts.
        """
        key = _key(config, contract, rows, holdout)
        folder = self.folder / key[:2] / key
        folder.parent.mkdir(parents=True, exist_ok=True)
        record = _read(folder)
        if record is None:
            with FileLock(folder.with_suffix(".lock")):
                record = _read(folder) or self._make(folder, config, contract, rows, holdout)
        file = ModelFile.model_validate(record.model_file)
        return StoredFit(key, contract, folder, file, record.seconds)

    def _make(
        self,
        folder: Path,
        config: ModelConfig,
        contract: Contract,
        rows: pd.DataFrame,
        holdout: pd.DataFrame,
    ) -> _Record:
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed, or damaged
        folder.mkdir()
        fit = fit_recipe(config.training, contract, rows, holdout, folder, config.data.time)
        record = _Record(model_file=fit.stored.model_dump(mode="json"), seconds=fit.seconds)
        half = folder / f"{_RECORD}.part"
        half.write_text(record.model_dump_json())
        half.replace(folder / _RECORD)
        self.made += 1
        return record


def _read(folder: Path) -> _Record | None:
    """Return what is known of a fit; None where it has not ended, or its record is damaged."""
    try:
        return _Record.model_validate_json((folder / _RECORD).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _key(config: ModelConfig, contract: Contract, rows: pd.DataFrame, holdout: pd.DataFrame) -> str:
    recipe = describe_recipe(config.training, contract)
    facts = (
        json.dumps(recipe, sort_keys=True, default=str),
        contract.model_dump_json(),
        pinned_requirements(config.training),
        fingerprint_rows(rows),
        fingerprint_rows(holdout),
    )
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


_MEND = "Remove its folder: the fit is made again."
