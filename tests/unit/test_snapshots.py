"""Rows are copied once, or referred to; either way they are proven before they are used."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.data.selection import Selection, select_rows
from modelyard.adapters.data.snapshots import (
    find_snapshot,
    join_rows,
    load_snapshot,
    store_snapshot,
)
from modelyard.config import ModelConfig
from modelyard.config.recorded import recorded_config, restore_config
from modelyard.domain.releases import Snapshot
from modelyard.errors import ConfigError, DataError
from modelyard.project import Project
from tests.projects import MODEL, SECOND, make_project, rides, write_config

AS_OF = datetime(2024, 1, 20, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


def refer(project: Project) -> Project:
    """Let nothing be copied any more."""
    platform = project.root / "configs" / "platform.yaml"
    platform.write_text(platform.read_text() + "snapshots: {max_size: 1KiB}\n")
    return Project(project.root)


def store(project: Project, as_of: datetime | None = AS_OF) -> tuple[Snapshot, Selection]:
    config = project.model(MODEL)
    selection = select_rows(config, project.root, as_of)
    return store_snapshot(project, config, selection, "training", as_of), selection


def change_csv(project: Project, row: int, column: str, value: object) -> None:
    rows = rides()
    rows.loc[row, column] = value
    rows.to_csv(project.root / "rides.csv", index=False)


def files_of(project: Project) -> set[str]:
    return {path.name for path in project.snapshot_folder().iterdir()}


def test_the_same_rows_are_copied_once(project: Project) -> None:
    first, selection = store(project)
    written = (project.snapshot_folder() / str(first.path)).stat().st_mtime_ns
    again, _ = store(project)
    assert again == first
    assert files_of(project) == {first.path}
    assert (project.snapshot_folder() / str(first.path)).stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(
        load_snapshot(first, project), selection.part("training").reset_index(drop=True)
    )


def test_one_altered_cell_of_a_copy_is_found_and_its_column_named(project: Project) -> None:
    snapshot, _ = store(project)
    path = project.snapshot_folder() / str(snapshot.path)
    rows = pd.read_parquet(path)
    rows.loc[17, "temp"] += 0.01
    rows.to_parquet(path, index=False)
    found = find_snapshot(snapshot, project)
    assert found.rows is not None
    assert [change.name for change in found.changes] == ["column temp"]
    with pytest.raises(DataError, match="column temp"):
        load_snapshot(snapshot, project)


def test_columns_are_read_alone_and_proven_alone(project: Project) -> None:
    snapshot, selection = store(project)
    path = project.snapshot_folder() / str(snapshot.path)
    whole = selection.part("training").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        load_snapshot(snapshot, project, ["wind", "row_id"]), whole[["wind", "row_id"]]
    )
    rows = pd.read_parquet(path)
    rows.loc[17, "temp"] += 0.01
    rows.to_parquet(path, index=False)
    assert load_snapshot(snapshot, project, ["wind"])["wind"].equals(whole["wind"])
    with pytest.raises(DataError, match="column temp"):
        load_snapshot(snapshot, project, ["wind", "temp"])


def test_columns_of_a_reference_are_those_of_its_rows(project: Project) -> None:
    project = refer(project)
    snapshot, selection = store(project)
    read = load_snapshot(snapshot, project, ["row_id"])
    pd.testing.assert_frame_equal(read, selection.part("training")[["row_id"]])


@pytest.mark.parametrize(
    "damaged",
    [lambda content: content[:-20], lambda content: content[:4] + bytes(200) + content[204:]],
    ids=["cut off", "overwritten"],
)
def test_a_damaged_copy_is_named_and_mended_by_the_same_rows(
    project: Project, damaged: Callable[[bytes], bytes]
) -> None:
    snapshot, _ = store(project)
    path = project.snapshot_folder() / str(snapshot.path)
    path.write_bytes(damaged(path.read_bytes()))
    assert find_snapshot(snapshot, project).rows is None
    with pytest.raises(DataError, match=rf"{path.name} is damaged.*Restore it"):
        load_snapshot(snapshot, project)
    assert store(project)[0] == snapshot
    assert len(load_snapshot(snapshot, project)) == snapshot.rows


def test_a_missing_copy_is_named(project: Project) -> None:
    snapshot, _ = store(project)
    path = project.snapshot_folder() / str(snapshot.path)
    path.unlink()
    with pytest.raises(DataError, match="are missing"):
        find_snapshot(snapshot, project)


def test_what_is_too_large_is_referred_to_and_read_from_its_source_again(project: Project) -> None:
    copied, selection = store(project)
    project = refer(project)
    (project.snapshot_folder() / str(copied.path)).unlink()
    snapshot, _ = store(project)
    assert snapshot.path is None
    assert files_of(project) == set()
    assert snapshot.fingerprint == copied.fingerprint
    assert snapshot.reference is not None
    (file,) = snapshot.reference.files
    assert file.size_bytes == (project.root / "rides.csv").stat().st_size
    assert file.etag
    pd.testing.assert_frame_equal(load_snapshot(snapshot, project), selection.part("training"))


@pytest.mark.parametrize("as_of", [AS_OF, None])
def test_rows_that_came_later_and_another_config_do_not_matter_to_a_reference(
    project: Project, as_of: datetime | None
) -> None:
    project = refer(project)
    snapshot, _ = store(project, as_of)
    later = rides().tail(24).assign(hour="2024-03-01T00:00:00")
    later["row_id"] += "-later"
    rows = pd.concat([rides(), later])
    rows.to_csv(project.root / "rides.csv", index=False)
    write_config(project.root, recipe="estimator: sklearn.svm.SVR")
    config = project.root / "configs" / "models" / f"{MODEL}.yaml"
    config.write_text(config.read_text().replace("newest 3d", "newest 1d"))
    assert find_snapshot(snapshot, project).changes == ()
    # a new modification time alone proves nothing against the rows
    os.utime(project.root / "rides.csv", (0, 0))
    assert len(load_snapshot(snapshot, project)) == snapshot.rows


def test_a_changed_source_is_said_precisely(project: Project) -> None:
    project = refer(project)
    snapshot, _ = store(project)
    assert snapshot.span.end is not None
    place = rides().index[pd.to_datetime(rides()["hour"], utc=True) == snapshot.span.end][0]
    change_csv(project, int(place), "wind", 99.5)
    with pytest.raises(DataError) as caught:
        load_snapshot(snapshot, project)
    said = str(caught.value)
    assert "by reference" in said
    assert "rides.csv: " in said
    assert "column wind" in said
    assert "column temp" not in said
    rides().drop(index=place).to_csv(project.root / "rides.csv", index=False)
    with pytest.raises(DataError, match=r"rows: 168, now 16\d"):
        load_snapshot(snapshot, project)
    (project.root / "rides.csv").unlink()
    with pytest.raises(DataError, match="there is no file"):
        load_snapshot(snapshot, project)


def test_rows_of_a_database_can_be_referred_to_without_keeping_its_password(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(source: str) -> ModelConfig:
        shape: dict[str, Any] = project.model(MODEL).model_dump(mode="json")
        shape["data"] |= {"source": source, "query": "select 1"}
        return ModelConfig.model_validate(shape)

    kept = recorded_config(config("postgresql://u:hunter2@h/db"))
    assert "hunter2" not in str(kept)
    restored = restore_config(kept, config("postgresql://u:hunter3@h/db"))
    assert str(restored.data.source) == "postgresql://u:hunter3@h/db"
    with pytest.raises(ConfigError, match="not recorded"):
        restore_config(kept, config("postgresql://u:hunter2@other/db"))
    monkeypatch.setenv("PW", "hunter2")
    kept = recorded_config(config("postgresql://u:${PW}@h/db"))
    restored = restore_config(kept, project.model(MODEL))
    assert str(restored.data.source) == "postgresql://u:hunter2@h/db"


def test_a_history_from_before_references_can_be_read() -> None:
    old = {"fingerprint": "f", "path": "f.parquet", "rows": 1, "span": {}}
    snapshot = Snapshot.model_validate(old)
    assert (snapshot.columns, snapshot.reference) == ({}, None)


def test_the_newest_rows_are_never_in_training(project: Project) -> None:
    selection = select_rows(project.model(MODEL), project.root, SECOND)
    training, holdout = selection.part("training"), selection.part("holdout")
    assert training["hour"].max() < holdout["hour"].min()


def test_rows_that_were_split_are_joined_as_they_were() -> None:
    rows = pd.DataFrame(
        {
            "number": [1.0, np.nan, 3.0, 4.0],
            "flag": pd.Series([None, None, True, False], dtype=object),
            "text": pd.Series(["a", None, None, None], dtype=object),
        }
    )
    parts = [rows.head(2), rows.tail(2).astype({"flag": bool})]  # as Parquet gives them back
    pd.testing.assert_frame_equal(join_rows(parts), rows)
