"""Does the command tell what is wrong, and whether alerts arrive?"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelyard.domain.incidents import Suspect, WindowIncident, Worst
from modelyard.domain.metrics import Interval
from modelyard.ledger import Description, Ledger
from modelyard.project import Project
from tests.integration.commands import Commands
from tests.web_hooks import web_hook

BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A project of one model that nobody is told of."""
    environment = {**os.environ, "MODELYARD_ROOT": str(tmp_path)}
    configure(tmp_path, "")
    return Commands(tmp_path, environment)


def configure(root: Path, alerts: str) -> None:
    models = root / "configs" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (root / "configs" / "platform.yaml").write_text("home: .modelyard\n")
    lines = "name: rides\ntask: regression\ndata: {source: rides.csv, target: cnt}\n"
    (models / "rides.yaml").write_text(f"{lines}alerts: [{alerts}]\n")


def open_incident(root: Path) -> Ledger:
    """Open an incident that lasted three days; the second one was the worst."""
    ledger = Ledger.open(Project(root).ledger_url)
    details = WindowIncident(
        window_id="w3",
        window_start=BEGAN + 2 * DAY,
        window_end=BEGAN + 3 * DAY,
        began=BEGAN,
        windows=3,
        release="1.0.0",
        rows=240,
        reasons=("mae 25 is beyond 12",),
        suspects=(Suspect(name="temp", check="distribution", words="temp moved"),),
        named=("1.0.0",),
        worst=Worst(window_end=BEGAN + 2 * DAY, severity=2.0, words="mae 30 is beyond 12"),
        promised=Interval(value=10, low=9, high=11),
        realized=Interval(value=25, low=23, high=27),
        limit=12,
        links={"Flow run": "http://127.0.0.1:4200/runs/flow-run/1"},
    )
    said = Description(details=details.model_dump(mode="json"))
    for at in (BEGAN + DAY, BEGAN + 3 * DAY):
        ledger.raise_incident("rides", "performance", at, lambda _: said, now=at)
    return ledger


def test_open_incidents_are_told_with_their_figures_and_what_to_do(commands: Commands) -> None:
    assert "No incident is open." in commands("incidents", "rides").stdout
    ledger = open_incident(commands.root)
    told = commands("incidents", "rides").stdout
    for words in ("3 d", "mae 25", "mae 30", "temp", "flow-run/1", "rollback rides"):
        assert words in told, told

    ledger.resolve_incident("rides", "performance", BEGAN + 4 * DAY, now=BEGAN + 4 * DAY)
    ledger.close()
    assert json.loads(commands("incidents", "rides", "--json").stdout) == {"incidents": []}
    (over,) = json.loads(commands("incidents", "rides", "--all", "--json").stdout)["incidents"]
    assert over["resolved_at"].startswith("2024-01-05")
    assert over["details"]["windows"] == 3


def test_a_person_resolves_an_incident_and_what_is_still_wrong_opens_it_again(
    commands: Commands,
) -> None:
    unknown = commands("incidents", "rides", "--resolve", "drift")
    assert unknown.returncode == 2
    assert "Open: none" in unknown.stderr + unknown.stdout
    ledger = open_incident(commands.root)
    done = commands("incidents", "rides", "--resolve", "performance", "--why", "known, see wiki")
    assert done.returncode == 0, done.stdout + done.stderr
    (over,) = ledger.incidents("rides", open_only=False)
    assert over.resolved_at == BEGAN + 3 * DAY  # its newest window: a newer one may open it again
    assert over.details["why"] == "known, see wiki"
    assert "@" in over.details["resolved_by"]
    said = Description(details=over.details)
    _, is_new = ledger.raise_incident(
        "rides", "performance", BEGAN + 4 * DAY, lambda _: said, now=BEGAN + 4 * DAY
    )
    assert is_new
    ledger.close()


def test_a_test_message_tells_of_each_place_whether_it_arrives(commands: Commands) -> None:
    with web_hook() as receiver:
        configure(commands.root, f'"{receiver.url()}"')
        fine = commands("alerts", "test", "rides")
        assert fine.returncode == 0, fine.stdout + fine.stderr
        assert "delivered" in fine.stdout
        assert receiver.titles == ["rides: a test"]

        configure(commands.root, f'"{receiver.url()}", "{receiver.url("refuse/T0PSECRET")}"')
        failed = commands("alerts", "test", "--json")
    assert failed.returncode == 1
    good, bad = json.loads(failed.stdout)["alerts"]
    assert (good["delivered"], bad["delivered"]) == (True, False)
    assert "500" in bad["problem"]
    assert "T0PSECRET" not in failed.stdout + failed.stderr


def test_a_test_without_a_place_is_refused_with_what_to_write(commands: Commands) -> None:
    refused = commands("alerts", "test", "rides")
    assert refused.returncode == 2
    assert "configs/models/rides.yaml" in refused.stderr
