"""What is known of the rows of a delivery, before anything is trained on them?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from modelyard.adapters.data.frames import as_features
from modelyard.adapters.data.hashes import row_hashes
from modelyard.adapters.data.leaks import names_target
from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.evidently import render_data_summary
from modelyard.adapters.learning.outcomes import as_labels
from modelyard.adapters.watching import stored_profile
from modelyard.adapters.workspace import Workspace
from modelyard.config import Data, DataChecks
from modelyard.config.file import closest
from modelyard.domain.data_checks import Champion, CheckPolicy, DataCheck, RowFacts
from modelyard.domain.leakage import (
    MIN_ROWS,
    Outcome,
    class_outcome,
    level_bins,
    numeric_bins,
    numeric_outcome,
    sample_rows,
)
from modelyard.domain.profiles import Profile, profile_reference, profile_window
from modelyard.domain.releases import Delivery, Release
from modelyard.domain.values import ColumnKind, Contract
from modelyard.errors import DataError

_SEED = 0
"""Of the rows and folds that columns are scored on: the same rows give the same findings."""


def policy_of(checks: DataChecks) -> CheckPolicy:
    """Return a config's limits."""
    return CheckPolicy(
        max_missing=checks.max_missing,
        min_rows=checks.min_rows,
        min_class_rows=checks.min_class_rows,
        max_duplicates=checks.max_duplicates,
        ranges={name: (limits.min, limits.max) for name, limits in checks.ranges.items()},
        levels={DataCheck(name): level for name, level in checks.levels.items()},
        allow=checks.allow,
    )


def check_range_names(data: Data, contract: Contract) -> None:
    """Raise DataError for a declared range of a column that turned out to be no number here."""
    numbers = {*contract.names(ColumnKind.NUMERIC), contract.target}
    lines = [
        f"data.checks.ranges: there is no numeric feature {name!r}.{closest(name, numbers)}"
        for name in data.checks.ranges
        if name not in numbers
    ]
    if lines:
        raise DataError("\n".join(lines))


def gather_facts(
    workspace: Workspace,
    delivery: Delivery,
    champion: Release | None,
    policy: CheckPolicy,
    declared: frozenset[str],
) -> RowFacts:
    """Read a delivery's rows once, and say what the rules ask of them.

    `declared` are the features that the config names: by their name alone they may give the
    target away. Raises DataError where the rows are gone or were changed.
    """
    project, contract = workspace.project, delivery.contract
    training = _Part(load_snapshot(delivery.training, project), contract)
    holdout = _Part(load_snapshot(delivery.holdout, project), contract)
    profile = rows_profile(workspace, delivery, lambda: training.profile())
    reference, name, compared = profile, "the training rows", {"holdout": holdout}
    if champion is not None:
        try:
            former = _champion_profile(workspace, champion)
        except DataError:  # a backup that left them out must not stop deliveries for good
            name = f"the training rows, since those of {champion.version} are gone"
        else:
            reference = _shared(former, champion, contract)
            name = f"the training rows of {champion.version}"
            compared = {"training rows": training, "holdout": holdout}
    scores, last_value = _scores(training)
    return RowFacts(
        contract=contract,
        left_out=delivery.left_out,
        types=workspace.tracking.input_types(training.features),
        champion=None if champion is None else _as_champion(workspace, champion),
        training=profile,
        holdout_rows=len(holdout.rows),
        reference=reference,
        reference_name=name,
        compared={part: profile_window(p.columns, reference) for part, p in compared.items()},
        training_classes=training.classes(),
        holdout_classes=holdout.classes(),
        outside={
            column: training.outside(column, *limits) + holdout.outside(column, *limits)
            for column, limits in policy.ranges.items()
        },
        infinite={n: count for n, count in delivery.infinite.items() if n in training.columns},
        repeated=_repeated(pd.concat([training.rows, holdout.rows]), contract.id),
        **_overlaps(training, holdout),
        named_after_target=tuple(
            n for n in contract.names() if n in declared and names_target(n, contract.target)
        ),
        scores=scores,
        last_value_score=last_value,
    )


def draw_rows(
    workspace: Workspace,
    delivery: Delivery,
    champion: Release | None,
    reasons: Sequence[str],
    path: Path,
) -> None:
    """Write a page that draws each column of a delivery beside what it was compared with."""
    contract, project = delivery.contract, workspace.project
    training, holdout = (load_snapshot(s, project) for s in (delivery.training, delivery.holdout))
    before, now = training, holdout
    if champion is not None:
        before = load_snapshot(champion.delivery.training, project)
        now = pd.concat([training, holdout], ignore_index=True)
    render_data_summary(
        before,
        now,
        _kinds(contract),
        path,
        title=f"Rows of {delivery.model}",
        reasons=reasons,
    )


def rows_profile(workspace: Workspace, delivery: Delivery, make: Callable[[], Profile]) -> Profile:
    """Return the profile of a delivery's training rows: it outlives them as what comes after is
    compared with."""
    folder = workspace.project.folder("profiles", delivery.model)
    return stored_profile(folder / f"{delivery.id}.rows.json", make)


class _Part:
    """Training or holdout rows as the rules look at them."""

    def __init__(self, rows: pd.DataFrame, contract: Contract) -> None:
        self.rows = rows
        self.contract = contract
        self.features = as_features(rows, contract)
        self.columns = {name: self.features[name].to_numpy() for name in contract.names()}
        self.labels = as_labels(rows[contract.target], contract)
        if not contract.task.is_classification:
            self.columns[contract.target] = self.labels

    def profile(self) -> Profile:
        return profile_reference(self.columns, _kinds(self.contract))

    def classes(self) -> dict[str, int]:
        found = pd.Series(self.labels).value_counts() if self.contract.classes else {}
        return {name: int(found.get(name, 0)) for name in self.contract.classes}

    def outside(self, column: str, low: float | None, high: float | None) -> int:
        values = self.columns[column]
        beyond = np.zeros(len(values), dtype=bool)
        if low is not None:
            beyond |= values < low
        if high is not None:
            beyond |= values > high
        return int(beyond.sum())


def _kinds(contract: Contract) -> dict[str, ColumnKind]:
    """Return the kinds of what is profiled: features, and a target that is a number."""
    kinds = {column.name: column.kind for column in contract.columns}
    return kinds if contract.classes else {**kinds, contract.target: ColumnKind.NUMERIC}


def _champion_profile(workspace: Workspace, champion: Release) -> Profile:
    delivery = champion.delivery

    def make() -> Profile:  # a release from before there were data checks
        rows = load_snapshot(delivery.training, workspace.project)
        return _Part(rows, delivery.contract).profile()

    return rows_profile(workspace, delivery, make)


def _shared(profile: Profile, champion: Release, contract: Contract) -> Profile:
    """Leave out the columns that are gone or of another kind: the schema's rule tells of them."""
    then, now = _kinds(champion.delivery.contract), _kinds(contract)
    kept = {n: c for n, c in profile.columns.items() if now.get(n) is then[n]}
    return Profile(rows=profile.rows, columns=kept)


def _as_champion(workspace: Workspace, champion: Release) -> Champion:
    uri = champion.candidate.mlflow_model_uri
    return Champion(
        version=str(champion.version),
        contract=champion.delivery.contract,
        types=workspace.tracking.signature_types(uri),
    )


def _repeated(rows: pd.DataFrame, key: str | None) -> int:
    """Count the rows that are equal to a former one in every column but the id."""
    hashes = row_hashes(rows.drop(columns=key) if key is not None else rows)
    return len(hashes) - len(np.unique(hashes))


def _overlaps(training: _Part, holdout: _Part) -> dict[str, float]:
    """Return how much of the holdout, and of as many of the newest training rows, came before."""
    old, new = (
        row_hashes(part.features.assign(**{"": part.labels})) for part in (training, holdout)
    )
    cut = max(len(old) - max(len(new), 1), len(old) // 2)
    return {
        "overlap": float(np.isin(new, old).mean()) if len(new) else 0.0,
        "usual_overlap": float(np.isin(old[cut:], old[:cut]).mean()) if len(old) else 0.0,
    }


def _scores(training: _Part) -> tuple[dict[str, float], float]:
    """Return how well each feature, and the outcome of the row before, predicts the outcome."""
    rng = np.random.default_rng(_SEED)
    contract, labels = training.contract, training.labels
    if len(labels) < MIN_ROWS:
        return {}, 0.0
    chosen = sample_rows(len(labels), len(contract.columns), rng)
    before = np.concatenate([labels[:1], labels[:-1]])[chosen]
    outcome = _outcome(labels[chosen], contract, rng)
    last_value = outcome.score(level_bins(before) if contract.classes else numeric_bins(before))
    scores = {}
    for column in contract.columns:
        values = training.columns[column.name][chosen]
        is_number = column.kind is ColumnKind.NUMERIC
        score = outcome.score(numeric_bins(values) if is_number else level_bins(values))
        if np.isfinite(score):  # an outcome that does not vary is another rule's finding
            scores[column.name] = score
    return scores, float(np.nan_to_num(last_value))


def _outcome(labels: np.ndarray, contract: Contract, rng: np.random.Generator) -> Outcome:
    if contract.classes:
        return class_outcome(pd.factorize(labels)[0], rng)
    return numeric_outcome(labels, rng)
