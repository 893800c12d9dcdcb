"""Is every way in which MLflow's registry can differ from the ledger found, and nothing else?"""

from datetime import UTC, datetime

import pytest

from modelyard.domain.mirror import (
    DESCRIPTION_LIMIT,
    Action,
    Alias,
    Mirror,
    MirroredVersion,
    RegisteredVersion,
    Registry,
    compare_registry,
    expected_mirror,
)
from modelyard.domain.releases import Event, Release, ReleaseState
from tests.ledgers import make_delivery, register

FIRST = MirroredVersion(
    release_id="a", tags={"semver": "1.0.0", "state": "retired"}, description="first"
)
SECOND = MirroredVersion(
    release_id="b", tags={"semver": "1.0.1", "state": "champion"}, description="second"
)
EXPECTED = Mirror(versions=(FIRST, SECOND), aliases={Alias.CHAMPION: "b"})


def registered(version: MirroredVersion, number: str, **changes: object) -> RegisteredVersion:
    same: dict = {
        "number": number,
        "release_id": version.release_id,
        "tags": {**version.tags, "theirs": "kept"},
        "description": version.description + "\n",
    }
    return RegisteredVersion(**{**same, **changes})


SAME = Registry(
    versions=(registered(FIRST, "1"), registered(SECOND, "2")),
    aliases={"champion": "2", "somebody": "1"},
)


def found(registry: Registry, expected: Mirror = EXPECTED) -> list[tuple[Action, str]]:
    return [(d.action, d.words) for d in compare_registry(expected, registry)]


def test_a_registry_that_says_the_same_needs_nothing() -> None:
    assert found(SAME) == []
    assert found(Registry(), Mirror(versions=(), aliases={})) == []


def test_a_version_that_is_missing_is_registered_and_the_alias_put_on_it() -> None:
    assert found(Registry(versions=SAME.versions[:1], aliases={})) == [
        (Action.REGISTER, "release 1.0.1 is not registered"),
        (Action.POINT, "alias champion points nowhere, not at release 1.0.1"),
    ]


def test_changed_tags_and_description_are_named() -> None:
    changed = registered(SECOND, "2", tags={"semver": "9.9.9"}, description="mine")
    ((action, words),) = found(SAME.model_copy(update={"versions": (SAME.versions[0], changed)}))
    assert action is Action.DESCRIBE
    assert words == (
        "version 2 (1.0.1): tag semver is 9.9.9, should be 1.0.1; tag state is missing, should be "
        "champion; the description is not the change log"
    )


def test_an_alias_that_was_moved_or_added_is_put_right_and_others_are_left() -> None:
    aliases = {"champion": "1", "challenger": "2", "somebody": "2"}
    assert found(SAME.model_copy(update={"aliases": aliases})) == [
        (Action.POINT, "alias champion points at version 1, not at release 1.0.1"),
        (Action.POINT, "alias challenger points at version 2, not nowhere"),
    ]


def test_of_two_versions_of_one_release_the_later_is_deleted() -> None:
    twice = (*SAME.versions, registered(SECOND, "3"))
    assert found(SAME.model_copy(update={"versions": twice})) == [
        (Action.DELETE, "version 3 is a second one of the same release")
    ]


def test_what_somebody_else_registered_is_left_and_what_the_ledger_lost_is_told() -> None:
    theirs = registered(SECOND, "3", release_id=None)
    lost = registered(SECOND, "4", release_id="gone")
    assert found(SAME.model_copy(update={"versions": (*SAME.versions, theirs, lost)})) == [
        (Action.LEAVE, "version 4 is of a delivery that the ledger gave no version")
    ]


@pytest.mark.parametrize("length", [100, 20_000])
def test_a_long_change_log_is_cut_to_what_mlflow_holds(length: int) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    entry = register("1.0.0").model_copy(update={"changelog": "x" * length})
    payloads = {
        ReleaseState.OPENED: make_delivery().model_dump(mode="json"),
        ReleaseState.REGISTERED: entry.model_dump(mode="json"),
    }
    events = tuple(
        Event(
            number=number,
            release_id="a",
            model="m",
            state=state,
            at=now,
            by="me",
            why="test",
            payload=payload,
        )
        for number, (state, payload) in enumerate(payloads.items())
    )
    release = Release(
        id="a",
        model="m",
        version="1.0.0",
        state=ReleaseState.REGISTERED,
        opened_at=now,
        changed_at=now,
        events=events,
    )
    mirror = expected_mirror([release], None)
    assert len(mirror.versions[0].description) == min(length, DESCRIPTION_LIMIT)
    assert mirror.aliases == {Alias.CHALLENGER: "a"}


def test_the_limit_of_a_description_is_that_of_mlflows_database() -> None:
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion

    assert SqlModelVersion.__table__.c.description.type.length == DESCRIPTION_LIMIT
