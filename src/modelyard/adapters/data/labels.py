"""Which true outcomes are known, and since when?

Labels are stored as they were loaded, one Parquet file a load, named by its content: loading the
same file again changes nothing. Where an id has several, the one that became known last counts.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path

import pandas as pd

from modelyard.adapters.data.hashes import fingerprint_rows
from modelyard.adapters.learning.outcomes import class_name
from modelyard.errors import DataError

ID = "id"
LABEL = "label"
KNOWN_AT = "known_at"


def store_labels(folder: Path, ids: pd.Series, labels: pd.Series, known_at: pd.Series) -> int:
    """Store labels of predicted rows and return how many there are; idempotent by content.

    Args:
        folder: a model's label folder.
        ids: the rows' ids, as they were sent with the prediction requests.
        known_at: when each label became known, UTC.

    Raises DataError for an id, label or time that is missing.
    """
    rows = pd.DataFrame(
        {
            ID: [class_name(value) for value in ids],
            LABEL: labels.to_numpy(),
            KNOWN_AT: pd.to_datetime(known_at, utc=True).to_numpy(),
        }
    )
    absent = rows[LABEL].isna() | rows[KNOWN_AT].isna() | ids.isna().to_numpy()
    if absent.any():
        raise DataError(
            f"{int(absent.sum()):,} of {len(rows):,} labels have no id, outcome or time; the first "
            f"is row {int(absent.to_numpy().argmax()) + 1}. Leave those rows out."
        )
    if rows.empty:
        return 0
    path = folder / f"{fingerprint_rows(rows)[:32]}.parquet"
    if not path.exists():
        half = path.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
        rows.to_parquet(half, index=False)
        half.replace(path)
    return len(rows)


def labels_since(folder: Path, moment: datetime) -> bool:
    """Return whether labels were loaded after a moment, whenever they became known."""
    return any(path.stat().st_mtime > moment.timestamp() for path in folder.glob("*.parquet"))
