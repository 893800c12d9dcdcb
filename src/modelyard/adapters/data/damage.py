"""Is a Parquet file that was stored here still whole?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.errors import DataError

if TYPE_CHECKING:
    import pandas as pd  # Arrow brings it only where rows become a frame


@contextlib.contextmanager
def damage_told(file: Path, mend: str = "Restore it from a backup.") -> Iterator[None]:
    """Raise DataError with words for an operator for what Arrow says of a damaged file."""
    try:
        yield
    except (pa.ArrowException, OSError) as err:
        if getattr(err, "errno", None) is not None:  # the system's: the file was not reached
            raise
        raise DataError(f"{file} is damaged: {str(err).splitlines()[0]} {mend}") from err


def read_stored(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the rows of a Parquet file, or only these columns. Raises DataError if damaged."""
    with damage_told(path):
        return pq.read_table(path, columns=None if columns is None else list(columns)).to_pandas()
