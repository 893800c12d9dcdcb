"""Do ledger and MLflow agree whatever is killed between their steps, and however many deliver?

Both databases: SQLite, and PostgreSQL for the ledger and for MLflow.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from modelyard.adapters.mirroring import mirror_releases
from modelyard.adapters.mlflow import DELIVERY_TAG
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import UNFINISHED, ReleaseState
from modelyard.domain.versioning import parse_version
from modelyard.project import Project
from tests.interruptions import STEPS, Kill, run_flow
from tests.projects import (
    FIRST,
    MODEL,
    SECOND,
    copy_project,
    local_target,
    working_in,
    write_config,
)

pytestmark = pytest.mark.timeout(900)

KILLS = 25  # on each of the two databases
MOMENTS = ("unrecorded", "recorded", "completed")
DELIVERIES = 16
PATIENCE = 840.0
"""Seconds for one delivery: the last of many waits for all others."""


@pytest.fixture(params=["sqlite", "postgresql"])
def yard(
    request: pytest.FixtureRequest, blank: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """A project of one replica whose gate promotes nearly every refit."""
    project = copy_project(blank, tmp_path)
    write_config(project.root, margin="60%")
    if request.param == "postgresql":
        new: Callable[[str], str] = request.getfixturevalue("databases")
        (project.root / "configs" / "platform.yaml").write_text(
            f"home: .modelyard\nledger: {{url: '{new('ledger')}'}}\n"
            f"tracking: {{uri: '{new('mlflow')}'}}\n"
        )
        project = Project(project.root)
    with working_in(project, monkeypatch) as workspace:
        yield workspace


def deliver(workspace: Workspace, server: str, as_of: datetime, kill: Kill | None = None) -> int:
    parameters = {"model": MODEL, "as_of": as_of}
    flow = "flows.model_delivery:deliver_model"
    return run_flow(workspace.project.root, server, flow, parameters, kill=kill)


def assert_whole(workspace: Workspace) -> None:
    """Nothing lost, doubled or orphaned: ledger, MLflow, files and service tell one story."""
    ledger, client = workspace.ledger, workspace.tracking.client
    assert mirror_releases(workspace, MODEL) == ()
    releases = ledger.releases(MODEL)
    assert [r for r in releases if r.state in UNFINISHED] == []
    numbered = [release for release in releases if release.version]
    assert_versions_follow_each_other([str(release.version) for release in numbered])
    champion = ledger.champion(MODEL)
    assert champion is not None
    states = [release.state for release in numbered]
    assert states.count(ReleaseState.CHAMPION) == 1
    assert {*states} <= {ReleaseState.CHAMPION, ReleaseState.RETIRED, ReleaseState.ABORTED}

    models = client.search_model_versions(f"name = '{MODEL}'")
    assert sorted(m.tags[DELIVERY_TAG] for m in models) == sorted(r.id for r in numbered)
    aliases = client.get_registered_model(MODEL).aliases
    served = {str(m.version): m.tags["semver"] for m in models}
    assert {a: served[str(n)] for a, n in aliases.items()} == {"champion": champion.version}

    status = local_target(workspace).status(MODEL)
    assert status is not None
    assert status.weights == {champion.version: 100}
    bundles = {path.name for path in (workspace.project.home / "bundles" / MODEL).iterdir()}
    built = {r.version for r in numbered if r.payload(ReleaseState.BUILT)}
    assert bundles == built


def assert_versions_follow_each_other(versions: list[str]) -> None:
    assert versions[0] == "1.0.0"
    for before, after in pairwise(versions):
        major, minor, patch = parse_version(before)
        following = [(major, minor, patch + 1), (major, minor + 1, 0), (major + 1, 0, 0)]
        assert parse_version(after) in following, (before, after)


def test_whatever_is_killed_between_two_steps_the_next_run_heals(
    yard: Workspace, prefect_server: str
) -> None:
    rng = random.Random(3)
    as_of, killed, finished = FIRST, [], 0
    while len(killed) < KILLS:
        kill = Kill(rng.choice(STEPS), rng.choice(MOMENTS))
        code = deliver(yard, prefect_server, as_of, kill)
        assert code in (-9, 0), str(kill)
        if code == -9:
            killed.append(kill)
        else:
            finished += 1
            as_of = min(as_of + timedelta(hours=6), SECOND)
    assert deliver(yard, prefect_server, as_of) == 0
    assert len({kill.step for kill in killed}) == len(STEPS)
    assert finished
    assert_whole(yard)


def test_of_many_deliveries_at_once_each_has_its_version_or_the_reason_why_not(
    yard: Workspace, prefect_server: str
) -> None:
    moments = [FIRST + timedelta(days=4 * (n % 4)) for n in range(DELIVERIES)]
    with ThreadPoolExecutor(DELIVERIES) as pool:
        codes = list(pool.map(lambda as_of: deliver(yard, prefect_server, as_of), moments))
    assert codes == [0] * DELIVERIES
    assert_whole(yard)
    releases = yard.ledger.releases(MODEL)
    assert len(releases) == DELIVERIES
    lost = [r for r in releases if r.state is ReleaseState.KEPT_CHAMPION]
    assert len(lost) >= DELIVERIES - 4
    for release in lost:
        reason = release.events[-1].why
        assert re.search("once more|unseen|was trained on all", reason), reason
