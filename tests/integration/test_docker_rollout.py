"""A canary on real containers, under traffic, goes on by itself or goes back by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from docker import DockerClient
from typer.testing import CliRunner

from benchmarks.rollout_broken import MODEL, Yard, service_url, yard
from modelyard.adapters.rollouts.conducting import Conductor, rolling_out
from modelyard.adapters.workspace import Workspace
from modelyard.cli import app
from modelyard.domain.releases import ReleaseState
from modelyard.domain.rollout import Answer, Phase, RolloutReport
from modelyard.errors import ConflictError, RefusedError, UnknownReleaseError
from tasks.data import open_delivery
from tasks.rollout import advance_rollout, reconcile_service
from tests.projects import load_mlflow

pytestmark = pytest.mark.xdist_group("docker")

HOURS = 24 * 60
"""Of the champion's rows; a day more are the next release's."""


@pytest.fixture(scope="module")
def project(docker_engine: DockerClient) -> Iterator[Yard]:
    """A champion on two replicas; each test leaves a champion that serves alone."""
    load_mlflow()
    with yard() as made:
        yield made


@pytest.fixture
def workspace(project: Yard) -> Workspace:
    return Workspace.find()


def weights(workspace: Workspace) -> dict[str, int]:
    return workspace.target("docker").get_weights(MODEL)


def carry_on(release_id: str, seconds: float = 60.0) -> RolloutReport:
    """Do what flow runs do one after another, each of which could be in another process."""
    end = time.monotonic() + seconds
    while True:
        report = advance_rollout.fn(release_id)
        if report.ended or time.monotonic() > end:
            return report
        time.sleep(0.3)


def test_a_release_that_errs_goes_back_by_itself_and_opens_one_incident(
    project: Yard, workspace: Workspace
) -> None:
    champion = workspace.ledger.champion(MODEL)
    assert champion is not None
    project.configure("fails_always", bake="30s")
    release_id = project.deliver(HOURS)
    with project.traffic(service_url()) as sent:
        report = carry_on(release_id)
    assert report.ended
    assert not report.promoted
    assert weights(workspace) == {champion.version: 100}
    assert workspace.ledger.champion(MODEL) == champion
    assert workspace.ledger.release_by_id(release_id).state is ReleaseState.ABORTED
    failed = [m.name for m in report.state.looks[-1].measurements if m.verdict == "failed"]
    assert "errors" in failed
    assert sent["failed"] < 0.25 * sum(sent.values())
    (incident,) = workspace.ledger.incidents(MODEL)
    assert incident.cause == "rollout"
    assert report.version in str(incident.details)
    assert carry_on(release_id).events == report.events  # it is over, and stays so


def test_a_release_in_the_shadow_answers_nobody_and_is_found_out(
    project: Yard, workspace: Workspace
) -> None:
    champion = workspace.ledger.champion(MODEL)
    assert champion is not None
    project.configure("swaps_columns", strategy="shadow", bake="30s")
    release_id = project.deliver(HOURS)
    with project.traffic(service_url()) as sent:
        report = carry_on(release_id, 90.0)
    assert report.ended
    assert not report.promoted
    assert report.state.step == 0
    assert set(sent) == {champion.version}
    failed = [m.name for m in report.state.looks[-1].measurements if m.verdict == "failed"]
    assert "disagreement" in failed

    log = workspace.prediction_log(MODEL)
    whole = (report.state.started_at, datetime.now(UTC))
    copies = log.answered(report.version, *whole, most=100_000, mirrored=True)
    compared = sum(seen.rescored.rows for seen in report.state.seen if seen.rescored is not None)
    assert 0 < compared <= len(copies)  # how many those are is up to the machine
    assert log.answered(report.version, *whole, most=100_000).empty
    answered = log.answered(champion.version, *whole, most=1_000_000)
    assert set(copies["__id"]) <= set(answered["__id"])
    event_times = (project.until(0), project.until(24 * 400))
    assert report.version not in set(log.read(*event_times)["__release"])


def test_a_canary_is_healed_refuses_rivals_and_ends_when_a_person_says_so(
    project: Yard, workspace: Workspace, docker_engine: DockerClient
) -> None:
    champion = workspace.ledger.champion(MODEL)
    assert champion is not None
    project.configure(bake="10m")
    release_id = project.deliver(HOURS)
    report = advance_rollout.fn(release_id)
    assert report.state.phase is Phase.BAKING
    assert weights(workspace) == {champion.version: 75, report.version: 25}

    with pytest.raises(RefusedError, match="does not wait for a person"):
        Conductor(workspace, rolling_out(workspace, MODEL)).tell(Answer.APPROVE, "fine")
    with pytest.raises(ConflictError, match=r"is being rolled out \(25 % of the traffic"):
        open_delivery.fn(MODEL, "newer rows", project.until(HOURS + 48))
    again = open_delivery.fn(MODEL, "the same rows", project.until(HOURS))
    assert again.id == release_id
    assert reconcile_service.fn(MODEL) == []
    assert weights(workspace) == {champion.version: 75, report.version: 25}

    status = workspace.target("docker").status(MODEL)
    assert status is not None
    lost = next(r for r in status.replicas if r.version == report.version)
    docker_engine.containers.get(lost.id).remove(force=True)
    report = advance_rollout.fn(release_id)
    healed = workspace.target("docker").status(MODEL)
    assert healed is not None
    assert sum(r.version == report.version for r in healed.replicas) == 2

    conductor, late = (Conductor(workspace, rolling_out(workspace, MODEL)) for _ in range(2))
    conductor.tell(Answer.ABORT, "a person has seen enough")
    with pytest.raises(ConflictError, match="changed by somebody else"):
        late.tell(Answer.PROMOTE, "another person has not")
    report = advance_rollout.fn(release_id)
    assert report.state.why == "a person has seen enough"
    assert weights(workspace) == {champion.version: 100}


def test_a_newer_delivery_takes_the_place_of_a_rollout_where_the_config_says_so(
    project: Yard, workspace: Workspace
) -> None:
    project.configure(bake="10m")
    first = project.deliver(HOURS)
    advance_rollout.fn(first)
    project.configure(bake="10m", rollout="while_rolling_out: supersede")
    second = open_delivery.fn(MODEL, "newer", project.until(HOURS + 48))
    assert second.id != first
    given_up = workspace.ledger.release_by_id(first)
    assert given_up.state is ReleaseState.ABORTED
    assert "superseded" in given_up.events[-1].why
    assert 100 in weights(workspace).values()
    workspace.ledger.record(second.id, ReleaseState.ABORTED, second, why="enough of it")


def test_a_sound_release_waits_for_approval_and_then_becomes_champion(
    project: Yard, workspace: Workspace
) -> None:
    former = workspace.ledger.champion(MODEL)
    assert former is not None
    project.configure(bake="8s", rollout="approval: true")
    release_id = project.deliver(HOURS)
    with project.traffic(service_url()) as sent:
        while (report := advance_rollout.fn(release_id)).state.phase is not Phase.PAUSED:
            assert not report.ended, report.state.why
            time.sleep(0.3)
        assert "waits for approval" in report.state.why
        shown = CliRunner().invoke(app, ["status", "--json"])
        (model,) = json.loads(shown.output)["models"]
        assert (model["rollout"]["phase"], model["rollout"]["weight"]) == ("paused", 25)
        assert model["rollout"]["look"]["measurements"]

        Conductor(workspace, rolling_out(workspace, MODEL)).tell(Answer.APPROVE, "looks good")
        report = carry_on(release_id)
    assert report.promoted, report.state.why
    assert set(sent) == {former.version, report.version}
    assert weights(workspace) == {report.version: 100}
    assert workspace.ledger.incidents(MODEL) == ()
    champion = workspace.ledger.champion(MODEL)
    assert champion is not None
    assert champion.id == release_id
    with pytest.raises(UnknownReleaseError, match="No release of rides is being rolled out"):
        rolling_out(workspace, MODEL)
    assert reconcile_service.fn(MODEL) == []
