"""What is known of the rows of a delivery, before anything is trained on them?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from modelyard.adapters.baseline import stored_value
from modelyard.adapters.data.hashes import row_hashes
from modelyard.adapters.data.leaks import names_target
from modelyard.adapters.data.snapshots import load_snapshot
from modelyard.adapters.evidently import render_data_summary
from modelyard.adapters.learning.outcomes import as_labels
from modelyard.adapters.workspace import Workspace
from modelyard.config import Data, ModelConfig
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
from modelyard.serving.frames import prepare_features

_SEED = 0
"""Of the rows and folds that columns are scored on: the same rows give the same findings."""


def policy_of(config: ModelConfig) -> CheckPolicy:
    """Return a config's limits."""
    checks = config.data.checks
    return CheckPolicy(
        max_missing=checks.max_missing,
        min_rows=checks.min_rows,
        min_holdout=config.evaluation.min_rows,
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


@dataclass(frozen=True)
class Former:
    """The release in traffic, and what it learnt from."""

    champion: Champion
    profile: Profile | None
    """None where its rows are gone: a backup without them must not stop deliveries for good."""


def gather_facts(
    workspace: Workspace,
    delivery: Delivery,
    champion: Release | None,
    policy: CheckPolicy,
    declared: frozenset[str],
) -> RowFacts:
    """Read a delivery's rows, and say what the rules ask of them.

    `declared` are the features that the config names: by their name alone they may give the
    target away. Raises DataError where the rows are gone or were changed.
    """
    project = workspace.project
    training, holdout = (load_snapshot(s, project) for s in (delivery.training, delivery.holdout))
    facts = measure_rows(
        training,
        holdout,
        delivery.contract,
        policy,
        type_of=workspace.tracking.input_types,
        declared=declared,
        left_out=delivery.left_out,
        infinite=delivery.infinite,
        early=delivery.early,
        former=None if champion is None else _former(workspace, champion),
    )
    # It outlives the rows: the deliveries after this one are compared with it.
    stored_value(_profile_file(workspace, delivery), Profile, lambda: facts.training)
    return facts


def measure_rows(
    training: pd.DataFrame,
    holdout: pd.DataFrame,
    contract: Contract,
    policy: CheckPolicy,
    *,
    type_of: Callable[[pd.DataFrame], dict[str, str]],
    declared: frozenset[str] = frozenset(),
    left_out: Mapping[str, str] | None = None,
    infinite: Mapping[str, int] | None = None,
    early: int = 0,
    former: Former | None = None,
) -> RowFacts:
    """Say what the rules ask of two sets of rows, each with at least one, in time order.

    `type_of` names the types of prepared features. Raises RequestError for rows that
    break the contract.
    """
    old, new = _Part(training, contract), _Part(holdout, contract)
    profile = profile_reference(old.columns, _kinds(contract))
    reference, name, compared = profile, "the training rows", {"holdout": new}
    if former is not None and former.profile is not None:
        reference = _shared(former.profile, former.champion.contract, contract)
        name = f"the training rows of {former.champion.version}"
        compared = {"training rows": old, "holdout": new}
    scores, last_value = _scores(old)
    return RowFacts(
        contract=contract,
        left_out=dict(left_out or {}),
        types=type_of(old.features),
        champion=former.champion if former is not None else None,
        training=profile,
        holdout_rows=len(holdout),
        reference=reference,
        reference_name=name,
        compared={part: profile_window(p.columns, reference) for part, p in compared.items()},
        training_classes=old.classes(),
        holdout_classes=new.classes(),
        outside={
            column: old.outside(column, *limits) + new.outside(column, *limits)
            for column, limits in policy.ranges.items()
        },
        infinite={n: count for n, count in (infinite or {}).items() if n in old.columns},
        early=early,
        repeated=_repeated(pd.concat([training, holdout]), contract.id),
        **_overlaps(old, new),
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


def _profile_file(workspace: Workspace, delivery: Delivery) -> Path:
    return workspace.project.folder("profiles", delivery.model) / f"{delivery.id}.rows.json"


def _former(workspace: Workspace, champion: Release) -> Former:
    delivery = champion.delivery

    def make() -> Profile:  # a release from before there were data checks
        rows = load_snapshot(delivery.training, workspace.project)
        part = _Part(rows, delivery.contract)
        return profile_reference(part.columns, _kinds(delivery.contract))

    try:
        profile = stored_value(_profile_file(workspace, delivery), Profile, make)
    except DataError:
        profile = None
    return Former(
        Champion(
            version=str(champion.version),
            contract=delivery.contract,
            types=workspace.tracking.signature_types(champion.candidate.mlflow_model_uri),
        ),
        profile,
    )


class _Part:
    """Training or holdout rows as the rules look at them."""

    def __init__(self, rows: pd.DataFrame, contract: Contract) -> None:
        self.rows = rows
        self.contract = contract
        self.features = prepare_features(rows, contract)
        self.columns = {name: self.features[name].to_numpy() for name in contract.names()}
        self.labels = as_labels(rows[contract.target], contract)
        if not contract.task.is_classification:
            self.columns[contract.target] = self.labels

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


def _shared(profile: Profile, before: Contract, contract: Contract) -> Profile:
    """Leave out the columns that are gone or of another kind: the schema's rule tells of them."""
    then, now = _kinds(before), _kinds(contract)
    kept = {n: c for n, c in profile.columns.items() if now.get(n) is then[n]}
    return Profile(rows=profile.rows, columns=kept)


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
