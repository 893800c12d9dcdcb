"""Does the same loop, by the same commands, work on rows that nobody made up?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.commands import ROOT, Commands, make_commands


@dataclass(frozen=True)
class Case:
    """A stretch of a real stream: a release trained before it, and what must be found in it."""

    model: str
    trained_until: str
    replayed_until: str
    windows: int
    late_labels: bool = False
    """Whether labels take longer than the replay lasts: those that come early are not like the
    rest, and do not count."""
    moved: frozenset[str] = frozenset()
    """Columns that must be among the suspects of drift."""


CASES = (
    # Rentals grow from year to year: a model of 2011 is off in the spring of 2012.
    Case("bike_sharing", "2012-01-09", "2012-04-02", 3),
    # On 1997-05-04 another state's market joins, and three columns come to life.
    Case(
        "elec2",
        "1997-03-24",
        "1997-06-16",
        3,
        moved=frozenset({"vicprice", "vicdemand", "transfer"}),
    ),
    # A booking's outcome is known weeks later, and sooner where it is cancelled.
    Case("hotel_resort", "2016-03-01", "2016-05-24", 3, late_labels=True),
    # The share of yes rises from 5 to 40 percent: before 2010 no model beats the naive one.
    Case("bank_marketing", "2010-01-01", "2010-12-01", 3),
)


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, data_folder: Path, prefect_server: str
) -> Iterator[Commands]:
    """Return the command in a project with the example configs."""
    examples = ROOT / "configs" / "models" / "examples"
    command = make_commands(
        tmp_path_factory.mktemp("real"), examples, prefect_server, MODELYARD_DATA=str(data_folder)
    )
    yield command
    ended = command("down")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model)
def test_a_real_stream_is_delivered_replayed_and_watched(project: Commands, case: Case) -> None:
    delivered = project("deliver", case.model, "--as-of", case.trained_until, "--json")
    assert delivered.returncode == 0, delivered.stdout + delivered.stderr
    assert json.loads(delivered.stdout)["version"] == "1.0.0"

    # The rows that were learnt end long before the delivery where labels come late.
    span = ("--from", case.trained_until, "--to", case.replayed_until)
    replayed = project("replay", case.model, *span, "--json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    story = json.loads(replayed.stdout)
    assert story["failed"] == 0
    assert story["requests"] > 0
    records = story["windows"]
    assert len(records) >= case.windows
    assert all(sum(record["served"].values()) == record["rows"] for record in records)
    assert all(record["estimate"]["likely"] is not None for record in records)
    told = [record["performance"] for record in records]
    if case.late_labels:
        assert {one["outcome"] for one in told} == {"too few labels"}
        # measured again as labels came, the first window knows more of them than the last one
        known = [one["early"] / one["rows"] for one in told]
        assert known[0] > known[-1] > 0
    else:
        assert any(record["realized"] is not None for record in records)
        assert any(record["estimate"]["error"] is not None for record in records)

    suspects = {finding["column"] for r in records for finding in r["drift"]["suspects"]}
    assert case.moved <= suspects

    listed = json.loads(project("releases", case.model, "--json").stdout)["releases"]
    assert listed[0]["version"] == "1.0.0"
    assert sum(release["state"] == "champion" for release in listed) == 1

    again = project("reproduce", case.model, "1.0.0", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(again.stdout)["verdict"] in ("bit-equal", "prediction-equal")
