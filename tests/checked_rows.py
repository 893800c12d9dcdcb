"""Frames to be checked before training, and what the checks say of them, without a project."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelyard.adapters.checking import Former, measure_rows
from modelyard.domain.data_checks import Champion, Checked, CheckPolicy, DataCheck, Level
from modelyard.domain.data_rules import check_facts
from modelyard.domain.profiles import Profile
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask

NUMBERS = ("temp", "wind")
TARGET = "cnt"


def contract_of(
    rows: pd.DataFrame,
    task: MLTask = MLTask.REGRESSION,
    *,
    target: str = TARGET,
    key: str | None = None,
    time: str | None = None,
) -> Contract:
    """Return the contract of all columns of a frame that have no other role."""
    columns = tuple(
        Column(
            name=str(name),
            kind=ColumnKind.NUMERIC
            if pd.api.types.is_numeric_dtype(rows[name])
            else ColumnKind.CATEGORICAL,
        )
        for name in rows.columns
        if name not in (target, key, time)
    )
    classes = tuple(sorted(rows[target].unique())) if task.is_classification else ()
    positive = classes[-1] if task is MLTask.BINARY else None
    return Contract(
        task=task, columns=columns, target=target, classes=classes, positive=positive, id=key
    )


def rides(rows: int = 1_000, seed: int = 0) -> pd.DataFrame:
    """Return sound rows of a regression."""
    rng = np.random.default_rng(seed)
    temp, wind = rng.uniform(5, 30, rows), rng.uniform(1, 10, rows)
    season = rng.choice(np.array(["dry", "wet"], dtype=object), rows)
    cnt = 20 + 3 * temp - 4 * wind + rng.normal(0, 10, rows)
    return pd.DataFrame({"temp": temp, "wind": wind, "season": season, TARGET: cnt})


def visits(rows: int = 1_000, seed: int = 0, classes: tuple[str, ...] = ("no", "yes")):
    """Return sound rows of a classification."""
    rng = np.random.default_rng(seed)
    frame = rides(rows, seed).drop(columns=TARGET)
    return frame.assign(**{TARGET: rng.choice(np.array(classes, dtype=object), rows)})


def types_of(features: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(kind) for name, kind in features.dtypes.items()}


def check(
    training: pd.DataFrame,
    holdout: pd.DataFrame | None = None,
    *,
    contract: Contract | None = None,
    task: MLTask = MLTask.REGRESSION,
    policy: CheckPolicy | None = None,
    former: Former | None = None,
    **more: Any,
) -> Checked:
    """Check rows; without a holdout, its rows are those of the newest fifth."""
    contract = contract or contract_of(training, task)
    policy = policy or CheckPolicy()
    if holdout is None:
        cut = len(training) - max(1, len(training) // 5)
        training, holdout = training.iloc[:cut], training.iloc[cut:]
    facts = measure_rows(
        training, holdout, contract, policy, type_of=types_of, former=former, **more
    )
    return check_facts(facts, policy)


def former_of(training: pd.DataFrame, contract: Contract, *, profile: bool = True) -> Former:
    """Return a champion that was trained on these rows."""
    facts = measure_rows(training, training, contract, CheckPolicy(), type_of=types_of)
    learnt: Profile | None = facts.training if profile else None
    return Former(Champion(version="1.0.0", contract=contract, types=facts.types), learnt)


def found(checked: Checked) -> set[tuple[DataCheck, str | None, Level]]:
    return {(f.check, f.column, f.level) for f in checked.findings}
