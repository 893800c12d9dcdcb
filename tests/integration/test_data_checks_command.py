"""Does the command say why it trains on nothing, and end with 3?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands import Commands, make_commands
from tests.projects import MODEL, rides, write_config

AS_OF = "2024-01-15"


@pytest.fixture
def project(tmp_path: Path, prefect_server: str) -> Iterator[Commands]:
    write_config(tmp_path / "written")
    configs = tmp_path / "written" / "configs" / "models"
    command = make_commands(tmp_path / "project", configs, prefect_server)
    yield command
    ended = command("down")
    assert ended.returncode == 0, ended.stderr


def test_deliver_ends_with_3_and_the_reasons_and_status_shows_the_incident(
    project: Commands,
) -> None:
    rows = rides()
    newest = rows["hour"] >= "2024-01-12"
    rows["wind"] = rows["wind"].where(~newest, rows["wind"] * 1000 + 1)
    rows.to_csv(project.root / "rides.csv", index=False)

    told = project("deliver", MODEL, "--as-of", AS_OF)
    assert told.returncode == 3, told.stdout + told.stderr
    assert "Data checks: block" in told.stdout
    assert "change of unit" in told.stdout
    assert "Nothing was trained on these rows." in told.stdout

    answered = project("deliver", MODEL, "--as-of", AS_OF, "--json")
    assert answered.returncode == 3, answered.stdout + answered.stderr
    outcome = json.loads(answered.stdout)
    assert (outcome["gated"], outcome["version"]) == (None, None)
    assert outcome["checked"]["level"] == "block"

    (model,) = json.loads(project("status", "--json").stdout)["models"]
    assert [incident["cause"] for incident in model["incidents"]] == ["training data"]
    assert model["champion"] is None
