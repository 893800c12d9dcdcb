"""Is a Parquet file that was stored here still whole?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from modelyard.errors import DataError


@contextlib.contextmanager
def damage_told(file: Path, mend: str = "Restore it from a backup.") -> Iterator[None]:
    """Raise DataError with words for an operator for what Arrow says of a damaged file."""
    try:
        yield
    except (pa.ArrowException, OSError) as err:
        if getattr(err, "errno", None) is not None:  # the system's: the file was not reached
            raise
        raise DataError(f"{file} is damaged: {str(err).splitlines()[0]} {mend}") from err
