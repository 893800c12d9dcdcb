"""Do rows that are not sound stop a delivery before training, and is everybody told once?"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.workspace import Workspace
from modelyard.domain.data_checks import DataCheck, Level
from modelyard.domain.monitoring import IncidentCause
from modelyard.domain.releases import UNFINISHED, Delivery, ReleaseState
from modelyard.errors import ConflictError, DataError
from tasks.checks import check_rows
from tasks.data import open_delivery
from tasks.training import train_candidate
from tests.projects import FIRST, MODEL, SECOND, build, release, rides, wait_for_events
from tests.web_hooks import Receiver, receiving

CAUSE = IncidentCause.TRAINING_DATA


def write_rows(workspace: Workspace, rows: pd.DataFrame) -> None:
    rows.to_csv(workspace.project.root / "rides.csv", index=False)


def with_checks(workspace: Workspace, checks: str) -> None:
    file = workspace.project.root / "configs" / "models" / f"{MODEL}.yaml"
    text = file.read_text()
    file.write_text(text.replace("  target: cnt\n", f"  target: cnt\n  checks: {checks}\n"))


def in_other_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, the temperature in the holdout as of FIRST in another unit."""
    newest = rows["hour"] >= "2024-01-12"
    return rows.assign(temp=rows["temp"].where(~newest, rows["temp"] * 1000 + 1))


def open_checked(workspace: Workspace, **more: bool) -> tuple[Delivery, Level]:
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    return delivery, check_rows.fn(delivery, **more).level


@pytest.fixture
def receiver(workspace: Workspace) -> Iterator[Receiver]:
    with receiving(workspace.project.root) as server:
        yield server


def test_sound_rows_are_recorded_as_checked_and_trained_on(workspace: Workspace) -> None:
    delivery, level = open_checked(workspace)
    assert level is Level.OK
    found = workspace.ledger.release_by_id(delivery.id)
    assert found.state is ReleaseState.CHECKED
    assert found.events[-1].why.startswith("ok: 168 training and 72 holdout rows in 3 columns")
    assert workspace.ledger.incidents(MODEL) == ()
    candidate = train_candidate.fn(delivery)
    client = workspace.tracking.client
    logged = client.download_artifacts(candidate.mlflow_run_id, "checks.json")
    assert json.loads(Path(logged).read_text())["level"] == "ok"


def test_a_block_ends_the_delivery_with_its_reasons_and_one_incident(
    workspace: Workspace, receiver: Receiver, prefect_server: str
) -> None:
    write_rows(workspace, in_other_unit(rides()))
    first, level = open_checked(workspace)
    assert level is Level.BLOCK
    ended = workspace.ledger.release_by_id(first.id)
    assert ended.state is ReleaseState.ABORTED
    assert "change of unit" in ended.events[-1].why
    with pytest.raises(ConflictError):  # what is ended is not trained on by mistake
        train_candidate.fn(first)
    (incident,) = workspace.ledger.incidents(MODEL)
    assert (incident.cause, incident.details["delivery_id"]) == (CAUSE, first.id)
    assert any("temp" in reason for reason in incident.details["reasons"])
    assert receiver.titles == ["rides: training data"]

    assert check_rows.fn(first).blocks  # the same delivery once more changes nothing
    assert len(workspace.ledger.release_by_id(first.id).events) == len(ended.events)
    second, level = open_checked(workspace)
    assert (second.id == first.id, level) == (False, Level.BLOCK)
    (again,) = workspace.ledger.incidents(MODEL)
    assert (again.id, again.details["delivery_id"]) == (incident.id, second.id)
    assert receiver.titles == ["rides: training data"]

    write_rows(workspace, rides())
    third, level = open_checked(workspace)
    assert level is Level.OK
    assert workspace.ledger.incidents(MODEL) == ()
    assert receiver.titles[1:] == ["rides: training data is right again"]
    check_rows.fn(third)
    assert len(receiver.titles) == 2
    names = {first.id: CAUSE.event, second.id: CAUSE.event, third.id: "modelyard.recovered"}
    ids = [str(uuid.uuid5(uuid.UUID(delivery), name)) for delivery, name in names.items()]
    events = wait_for_events(prefect_server, ids, len(ids))
    assert sorted(event["event"] for event in events) == sorted(names.values())


def test_what_was_found_is_drawn_once_and_kept_in_mlflow(
    workspace: Workspace, prefect_server: str
) -> None:
    write_rows(workspace, in_other_unit(rides()))
    first = check_rows.fn(open_delivery.fn(MODEL, "test", FIRST))
    second = check_rows.fn(open_delivery.fn(MODEL, "test", FIRST))
    assert first.report is not None
    assert second.report == first.report
    client, run = workspace.tracking.client, workspace.tracking.checks_run(MODEL)
    page = Path(client.download_artifacts(run, first.report)).read_text()
    assert "change of unit" in page
    assert len(client.list_artifacts(run, "findings")) == 2


def test_a_delivery_that_was_killed_before_anybody_was_told_tells_them(
    workspace: Workspace, receiver: Receiver, prefect_server: str
) -> None:
    write_rows(workspace, in_other_unit(rides()))
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    checked = check_rows.fn(delivery, dry_run=True)
    # as a process leaves it that is killed between the two records of a block
    killed = open_delivery.fn(MODEL, "test", FIRST)
    workspace.ledger.record(killed.id, ReleaseState.CHECKED, checked, why="block")
    assert workspace.ledger.release_by_id(killed.id).state in UNFINISHED
    assert receiver.titles == []

    assert open_delivery.fn(MODEL, "test", FIRST) == killed
    assert check_rows.fn(killed) == checked
    assert workspace.ledger.release_by_id(killed.id).state is ReleaseState.ABORTED
    assert receiver.titles == ["rides: training data"]


def test_a_dry_run_stops_at_a_block_and_alarms_nobody(
    workspace: Workspace, receiver: Receiver
) -> None:
    write_rows(workspace, in_other_unit(rides()))
    delivery, level = open_checked(workspace, dry_run=True)
    assert level is Level.BLOCK
    ended = workspace.ledger.release_by_id(delivery.id)
    assert ended.state is ReleaseState.ABORTED
    assert ended.events[-1].why.startswith("dry run; data checks: ")
    assert workspace.ledger.incidents(MODEL) == ()
    assert receiver.titles == []


def test_what_the_config_allows_is_trained_on_and_stays_visible(workspace: Workspace) -> None:
    write_rows(workspace, in_other_unit(rides()))
    with_checks(workspace, "{allow: [temp]}")
    checked = check_rows.fn(open_delivery.fn(MODEL, "test", FIRST))
    assert checked.level is Level.OK
    assert any(f.check is DataCheck.UNIT for f in checked.findings)
    assert all("allow" in f.reason for f in checked.findings)


def test_other_checks_begin_an_interrupted_delivery_anew(workspace: Workspace) -> None:
    first = open_delivery.fn(MODEL, "test", FIRST)
    with_checks(workspace, "{min_rows: 500}")
    second = open_delivery.fn(MODEL, "test", FIRST)
    assert second.id != first.id
    assert check_rows.fn(second, dry_run=True).reasons == (
        "rows: 168 training rows, at least 500 are needed",
    )


def test_a_range_of_no_numeric_column_leaves_no_trace(workspace: Workspace) -> None:
    file = workspace.project.root / "configs" / "models" / f"{MODEL}.yaml"
    inferred = "  features: {numeric: [temp, wind], categorical: [season]}\n"
    file.write_text(file.read_text().replace(inferred, ""))
    with_checks(workspace, "{ranges: {tmep: {min: 0}}}")
    with pytest.raises(DataError, match="Did you mean `temp`"):
        open_delivery.fn(MODEL, "test", FIRST)
    assert workspace.ledger.releases(MODEL) == ()


def test_infinite_cells_are_counted_where_the_rows_are_read(workspace: Workspace) -> None:
    rows = rides()
    rows.loc[[5, 9], "wind"] = [np.inf, -np.inf]
    write_rows(workspace, rows)
    delivery = open_delivery.fn(MODEL, "test", FIRST)
    assert delivery.infinite == {"wind": 2}
    checked = check_rows.fn(delivery)
    assert [(f.check, f.column) for f in checked.findings] == [(DataCheck.INFINITE, "wind")]


def test_the_next_delivery_is_compared_with_what_the_champion_learnt(
    workspace: Workspace,
) -> None:
    release(build())
    checked = check_rows.fn(open_delivery.fn(MODEL, "next", SECOND))
    assert "compared with the training rows of 1.0.0" in checked.words
    assert checked.level is not Level.BLOCK
    champion = workspace.ledger.champion(MODEL)
    assert champion is not None
    types = workspace.tracking.signature_types(champion.candidate.mlflow_model_uri)
    assert types == {"temp": "double", "wind": "double", "season": "string"}
    assert not any(f.check is DataCheck.SCHEMA for f in checked.findings)

    # all rows in another unit, the old ones too: only the champion's rows can tell
    write_rows(workspace, rides().assign(wind=lambda frame: frame["wind"] * 1000 + 1))
    broken = check_rows.fn(open_delivery.fn(MODEL, "next", SECOND), dry_run=True)
    assert broken.blocks
    assert any(f.column == "wind" for f in broken.findings if f.level is Level.BLOCK)
