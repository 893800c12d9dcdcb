"""Which fit of the champion does a challenger have to beat, and on which rows?

Both must not have learnt the rows. The released fit of the champion knows the holdout that it was
judged on; while few rows are newer than that, its judged fit is compared instead, which does not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd

from modelyard.adapters.data.hashes import content_hashes
from modelyard.adapters.data.selection import key_columns
from modelyard.adapters.data.snapshots import load_learnt
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.domain.releases import Learnt, Release, rows_learnt
from modelyard.domain.values import Contract
from modelyard.project import Project
from modelyard.serving.bundle import load_bundle
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.model_file import ModelFile, load_model
from modelyard.serving.predictor import Predictor


class Rival(NamedTuple):
    """A fit of the champion, and the rows that it can be compared on."""

    version: str
    contract: Contract
    before_holdout: bool
    """Whether it is the judged fit, which had not learnt the holdout, and not the one in traffic.
    """
    unseen: np.ndarray
    """Which rows it has not learnt, shape (rows,)."""
    shared: int
    """How many of them are among its training rows, though their time says otherwise."""
    load: Callable[[], Predictor]

    @property
    def name(self) -> str:
        note = " before it learnt its holdout" if self.before_holdout else ""
        return f"champion {self.version}{note}"


def choose_rival(
    workspace: Workspace, config: ModelConfig, champion: Release, rows: pd.DataFrame
) -> Rival:
    """Return the fit that serves, or the judged one where that leaves too few rows unseen."""
    project, contract = workspace.project, champion.delivery.contract
    serving = Rival(
        str(champion.version),
        contract,
        False,
        *_unseen(project, config, champion.learnt, rows),
        lambda: _load_serving(project, champion),
    )
    judged = champion.judged
    file = ModelFile.model_validate(judged.model_file)
    folder = project.home / judged.folder
    if not champion.learnt.with_holdout or not (folder / file.path).is_file():
        return serving  # there is no other fit: candidates need no backup
    if has_enough_news(config, serving.unseen):
        return serving
    return Rival(
        str(champion.version),
        contract,
        True,
        *_unseen(project, config, rows_learnt(champion.delivery, with_holdout=False), rows),
        lambda: EstimatorPredictor(load_model(file, folder), contract),
    )


def has_enough_news(config: ModelConfig, unseen: np.ndarray) -> bool:
    """Return whether the fit that serves can be compared on the rows that it has not learnt.

    Where rows have no time, the same ones are held out each time, and the fit that serves has
    learnt nearly all of them: it never can.
    """
    return config.data.time is not None and bool(unseen.sum() >= config.evaluation.min_rows)


def _unseen(
    project: Project, config: ModelConfig, learnt: Learnt, rows: pd.DataFrame
) -> tuple[np.ndarray, int]:
    """Return which rows a fit has not learnt by their time, and how many of them it has all the
    same; where rows have no time, by what each is known by."""
    time, until = config.data.time, learnt.span.end
    if time is None or until is None:
        return ~_known(project, config, learnt, rows), 0
    return newer_rows(rows[time], until, lambda: _known(project, config, learnt, rows))


def newer_rows(
    times: pd.Series, learnt_until: datetime, find_known: Callable[[], np.ndarray]
) -> tuple[np.ndarray, int]:
    """Return which rows are newer than what a fit learnt, and how many of them it learnt anyway.

    `find_known` tells which rows it learnt, shape (rows,), and is asked where any is newer.
    """
    newer = (times > pd.Timestamp(learnt_until)).to_numpy()
    return newer, int((newer & find_known()).sum()) if newer.any() else 0


def _known(project: Project, config: ModelConfig, learnt: Learnt, rows: pd.DataFrame) -> np.ndarray:
    """Return which rows are among the learnt ones, by what each is known by, shape (rows,)."""
    if learnt.by_reference and config.data.time is not None:
        return np.zeros(len(rows), dtype=bool)  # too many to read again; their span tells
    # A source may have got new columns, and lost old ones.
    held = [part.columns or rows.columns for part in learnt.snapshots]
    shared = [name for name in rows.columns if all(name in columns for columns in held)]
    known_by = key_columns(shared, config.data, config.evaluation.group)
    old = load_learnt(learnt, project, known_by)
    return np.isin(content_hashes(rows[known_by]), content_hashes(old))


def _load_serving(project: Project, champion: Release) -> Predictor:
    build = champion.build
    return load_bundle(project.home / build.bundle, build.digest).predictor
