"""Which training rows do two releases share, and how did their outcomes move?"""

from __future__ import annotations

import pandas as pd

from modelyard.adapters.data.hashes import content_hashes
from modelyard.adapters.data.snapshots import load_learnt
from modelyard.adapters.learning.outcomes import as_labels
from modelyard.domain.changelog import RowChange
from modelyard.domain.releases import ReleaseFacts
from modelyard.domain.values import Contract, MLTask
from modelyard.errors import InvalidInputError
from modelyard.project import Project


def compare_rows(before: ReleaseFacts, after: ReleaseFacts, project: Project) -> RowChange | None:
    """Count the rows that two releases both learnt, by the columns that both have.

    None where the rows of one of them are no longer stored as they were.
    """
    if before.learnt is None or after.learnt is None:
        return None
    try:
        old, new = load_learnt(before.learnt, project), load_learnt(after.learnt, project)
    except InvalidInputError:
        return None
    both = [name for name in new.columns if name in old.columns]
    # Rows may repeat: each is counted as often as it is there.
    counts = [pd.Series(content_hashes(rows[both])).value_counts() for rows in (old, new)]
    shared = int(pd.concat(counts, axis=1, keys=("old", "new")).dropna().min(axis=1).sum())
    return RowChange(
        shared=shared,
        added=len(new) - shared,
        removed=len(old) - shared,
        target=_target_means(before.contract, old, after.contract, new),
    )


def _target_means(
    before: Contract, old: pd.DataFrame, after: Contract, new: pd.DataFrame
) -> tuple[float, float] | None:
    same = (before.task, before.target, before.positive) == (
        after.task,
        after.target,
        after.positive,
    )
    if not same or after.task is MLTask.MULTICLASS:
        return None
    if after.positive is None:
        return float(old[after.target].mean()), float(new[after.target].mean())
    shares = [
        (as_labels(rows[after.target], after) == after.positive).mean() for rows in (old, new)
    ]
    return float(shares[0]), float(shares[1])
