"""Does a rollout put exactly the right release in traffic, and leave the old one where it fails?"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import pytest

from modelyard.adapters.traffic import put_in_traffic
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import ReleaseState
from modelyard.domain.rollout import EventKind, RolloutEvent
from modelyard.errors import RefusedError, RolloutError, UnknownReleaseError
from tasks.data import open_delivery
from tasks.registration import show_release
from tasks.rollout import (
    advance_rollout,
    choose_former_release,
    find_rollout,
    put_back,
    start_rollout,
)
from tests.projects import (
    FIRST,
    MODEL,
    SECOND,
    build,
    release,
    replicas_of,
    roll_out,
    version_at,
)

PATH = (
    ReleaseState.TRAINED,
    ReleaseState.GATED,
    ReleaseState.REFITTED,
    ReleaseState.REGISTERED,
    ReleaseState.BUILT,
)


def aliases(workspace: Workspace) -> dict[str, str]:
    registered = workspace.tracking.client.get_registered_model(MODEL)
    return {name: str(version) for name, version in registered.aliases.items()}


def test_a_release_serves_and_is_champion_in_ledger_and_mlflow(workspace: Workspace) -> None:
    built = build()
    start_rollout.fn(built.delivery, built.registration, built.build)
    assert workspace.ledger.champion(MODEL) is None

    replicas: set[int] = set()
    for _ in range(2):
        service = release(built)
        replicas |= {process.pid for process in replicas_of(workspace.project.root)}
        assert len(replicas) == 1
        assert version_at(service.url) == "1.0.0"
        champion = workspace.ledger.champion(MODEL)
        assert champion is not None
        assert champion.id == built.delivery.id
        assert [event.state for event in champion.events].count(ReleaseState.CHAMPION) == 1
        assert aliases(workspace) == {"champion": "1"}


def test_a_changed_bundle_file_is_refused_and_the_first_rollout_leaves_no_process(
    workspace: Workspace,
) -> None:
    built = build()
    golden = workspace.project.home / built.build.bundle / "golden.json"
    golden.write_text(golden.read_text().replace("1", "2", 1))
    rollout = roll_out(built)
    assert rollout.state.why.count("golden")
    with pytest.raises(RolloutError, match="golden"):
        show_release.fn(built.delivery, built.registration, built.build, rollout)
    (incident,) = workspace.ledger.incidents(MODEL)
    assert incident.cause == "rollout"
    assert workspace.ledger.release_by_id(built.delivery.id).state is ReleaseState.ABORTED
    assert aliases(workspace) == {}
    assert replicas_of(workspace.project.root) == []


def test_releases_replace_each_other_and_come_back(monitored: Workspace) -> None:
    """One story, since every swap starts processes: abort, replace, refuse, roll back."""
    first = monitored.ledger.release(MODEL, "1.0.0")
    service = put_back.fn(first, "after a restart")  # the champion again: nothing is recorded
    assert monitored.ledger.release(MODEL, "1.0.0") == first

    broken = build(SECOND)
    (monitored.project.home / broken.build.bundle / "golden.json").unlink()
    assert not roll_out(broken).promoted
    assert version_at(service.url) == "1.0.0"
    assert len(replicas_of(monitored.project.root)) == 1
    assert monitored.ledger.champion(MODEL) == first
    assert aliases(monitored) == {"champion": "1"}
    with pytest.raises(UnknownReleaseError, match="no former release"):
        choose_former_release.fn(MODEL)
    with pytest.raises(RefusedError, match=r"1\.0\.1 is aborted and never was champion"):
        choose_former_release.fn(MODEL, "1.0.1")

    second = build(SECOND)
    assert second.registration.version == "1.0.2"
    assert release(second).url == service.url
    assert version_at(service.url) == "1.0.2"
    assert aliases(monitored) == {"champion": "3"}
    assert monitored.ledger.release(MODEL, "1.0.0").state is ReleaseState.RETIRED

    back = put_back.fn(choose_former_release.fn(MODEL), "too slow")
    assert back.weights == {"1.0.0": 100}
    assert version_at(service.url) == "1.0.0"
    assert aliases(monitored) == {"champion": "1"}
    left = monitored.ledger.release(MODEL, "1.0.2")
    assert (left.state, left.events[-1].why) == (ReleaseState.ROLLED_BACK, "roll back: too slow")
    with pytest.raises(UnknownReleaseError, match="no former release"):
        choose_former_release.fn(MODEL)  # what was rolled back comes back by name only
    put_back.fn(choose_former_release.fn(MODEL, "1.0.2"), "it was not")
    assert version_at(service.url) == "1.0.2"
    assert len(replicas_of(monitored.project.root)) == 1


def test_rolling_back_gives_an_interrupted_rollout_up_for_good(monitored: Workspace) -> None:
    interrupted = build(SECOND)
    start_rollout.fn(interrupted.delivery, interrupted.registration, interrupted.build)
    service = put_in_traffic(monitored, monitored.ledger.release(MODEL, "1.0.1"))
    assert version_at(service.url) == "1.0.1"

    put_back.fn(choose_former_release.fn(MODEL), "it was interrupted, and wrong")
    assert version_at(service.url) == "1.0.0"
    assert monitored.ledger.unfinished(MODEL) is None
    assert monitored.ledger.release(MODEL, "1.0.1").state is ReleaseState.ABORTED
    assert aliases(monitored) == {"champion": "1"}


def test_a_release_that_was_compared_with_another_champion_is_not_promoted(
    monitored: Workspace,
) -> None:
    late = build(SECOND)
    start_rollout.fn(late.delivery, late.registration, late.build)
    rival = late.delivery.model_copy(update={"id": "rival"})
    monitored.ledger.open_release(rival, why="test")
    for state, payload in zip(PATH, (late.judged, late.gated, late.candidate), strict=False):
        monitored.ledger.record("rival", state, payload, why="test")
    monitored.ledger.number(
        "rival", None, lambda version: late.registration.model_copy(update={"version": version})
    )
    for state in (ReleaseState.BUILT, ReleaseState.ROLLING_OUT):
        monitored.ledger.record("rival", state, late.build, why="test")
    first = monitored.ledger.champion(MODEL)
    assert first is not None
    monitored.ledger.promote("rival", expected=first.id, why="somebody else was faster")

    rollout = advance_rollout.fn(late.delivery.id)
    assert not rollout.promoted
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None
    assert champion.id == "rival"
    aborted = monitored.ledger.release_by_id(late.delivery.id)
    assert aborted.state is ReleaseState.ABORTED
    assert "another champion" in aborted.events[-1].why


@pytest.mark.parametrize("replaced", [False, True])
def test_what_a_kill_left_open_behind_a_promotion_is_closed_and_changes_no_traffic(
    monitored: Workspace, replaced: bool
) -> None:
    first = monitored.ledger.champion(MODEL)
    assert first is not None
    late = build(SECOND)
    start_rollout.fn(late.delivery, late.registration, late.build)
    put_in_traffic(monitored, monitored.ledger.release(MODEL, "1.0.1"))
    decided = RolloutEvent(kind=EventKind.PROMOTED, at=datetime.now(UTC), by="ada", why="sound")
    monitored.ledger.record_rollout(late.delivery.id, decided, place=1)
    monitored.ledger.promote(late.delivery.id, expected=first.id, why="killed right after it")
    if replaced:
        put_back.fn(first, "it was better")
    assert find_rollout(MODEL) == late.delivery.id
    closed = advance_rollout.fn(late.delivery.id)
    assert (closed.ended, closed.promoted) == (True, True)
    assert closed.service is not None
    assert closed.service.weights == {"1.0.0" if replaced else "1.0.1": 100}
    assert aliases(monitored) == {"champion": "1" if replaced else "2"}
    assert monitored.ledger.incidents(MODEL) == ()
    assert find_rollout(MODEL) is None


def test_a_release_whose_bundle_is_gone_or_changed_is_not_gone_back_to(
    monitored: Workspace,
) -> None:
    folder = monitored.project.home / monitored.ledger.release(MODEL, "1.0.0").build.bundle
    (folder / "golden.json").write_text("{}")
    with pytest.raises(RefusedError, match=r"1\.0\.0 cannot serve again: .* was changed"):
        choose_former_release.fn(MODEL, "1.0.0")
    shutil.rmtree(folder)
    with pytest.raises(RefusedError, match=r"1\.0\.0 cannot serve again: .* was deleted"):
        choose_former_release.fn(MODEL, "1.0.0")


def test_a_delivery_whose_rival_is_champion_no_more_is_opened_anew(workspace: Workspace) -> None:
    ledger = workspace.ledger
    late = build(FIRST)
    ledger.record(late.delivery.id, ReleaseState.ROLLING_OUT, late.build, why="test")
    rival = late.delivery.model_copy(update={"id": "rival"})
    ledger.open_release(rival, why="test")
    for state in (*PATH, ReleaseState.ROLLING_OUT):
        ledger.record("rival", state, rival, why="test")
    ledger.promote("rival", expected=None, why="somebody else was faster")

    assert open_delivery.fn(MODEL, "again", FIRST).id != late.delivery.id
    given_up = ledger.release_by_id(late.delivery.id)
    assert given_up.state is ReleaseState.ABORTED
    assert "champion changed" in given_up.events[-1].why
