"""Labels that were stored are what was stored, or an error that names the file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from modelyard.adapters.data.labels import read_labels, store_labels
from modelyard.errors import DataError

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def cut_off(content: bytes) -> bytes:
    return content[:-20]


def overwritten(content: bytes) -> bytes:
    return content[:4] + bytes(200) + content[204:]


Damage = Callable[[bytes], bytes]
damages = pytest.mark.parametrize("damage", [cut_off, overwritten])


def harm(folder: Path, damage: Damage) -> Path:
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    return file


@damages
def test_labels_that_are_damaged_are_named(tmp_path: Path, damage: Damage) -> None:
    store_labels(tmp_path, pd.Series(["a"]), pd.Series([1.0]), pd.Series([NOW]))
    file = harm(tmp_path, damage)
    with pytest.raises(DataError, match=rf"{file.name} is damaged.*Restore it"):
        read_labels(tmp_path, NOW)
