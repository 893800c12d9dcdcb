"""Is the demo's release what it would be if it were made again, and is an alteration found?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.integration.commands import ROOT, Commands, make_commands

pytestmark = pytest.mark.xdist_group("fresh environments")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Iterator[Commands]:
    """The demo's project with its first release."""
    root = tmp_path_factory.mktemp("demo")
    command = make_commands(root, ROOT / "configs" / "models", prefect_server)
    delivered = command("deliver", "bikeshare", "--as-of", "2024-01-01", "--json")
    assert delivered.returncode == 0, delivered.stdout + delivered.stderr
    yield command
    ended = command("down")
    assert ended.returncode == 0, ended.stderr


def reproduce(project: Commands, *words: str, ends: int) -> dict[str, Any]:
    done = project("reproduce", "bikeshare", *words, "--json")
    assert done.returncode == ends, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_demos_release_is_bit_equal(project: Commands) -> None:
    found = reproduce(project, ends=0)
    assert (found["version"], found["verdict"]) == ("1.0.0", "bit-equal")
    assert found["largest_difference"] == 0
    assert found["first_difference"] is None
    listed = json.loads(project("releases", "bikeshare", "--json").stdout)["releases"]
    assert listed[0]["reproduced"] == "bit-equal"


def test_one_altered_row_and_another_dependency_are_both_named(project: Commands) -> None:
    folder = project.root / ".modelyard" / "snapshots"
    path = max(folder.glob("*.parquet"), key=lambda file: len(pd.read_parquet(file)))
    before = path.read_bytes()
    rows = pd.read_parquet(path)
    rows.loc[100, "cnt"] += 1000
    rows.to_parquet(path, index=False)
    try:
        found = reproduce(project, "1.0.0", "--with", "joblib==1.5.2", ends=3)
    finally:
        path.write_bytes(before)
    assert found["verdict"] == "different"
    assert "training rows, column cnt" in found["first_difference"]
    named = {each["name"]: each["found"] for each in found["differences"]}
    assert named["joblib"] == "1.5.2"
    assert list(Path(project.root / ".modelyard" / "reproductions").iterdir()) == []
