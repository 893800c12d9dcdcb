"""Does a delivery that was killed, anywhere and often, end with exactly one new release?"""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime

from modelyard.adapters.mlflow import DELIVERY_TAG
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import UNFINISHED, ReleaseState
from tests.interruptions import STEPS, Kill, run_flow
from tests.projects import (
    FIRST,
    MODEL,
    SECOND,
    local_target,
    processes_of,
    replicas_of,
    version_at,
)
from tests.ride_traffic import Traffic

EVERYWHERE = (
    Kill("Take rows", "running"),
    *(Kill(step, moment) for step in STEPS[:-1] for moment in ("unrecorded", "completed")),
    Kill("Roll out", "unrecorded"),  # the look
    Kill("Roll out", "recorded"),
    Kill("Roll out", "recorded"),  # that it is promoted
    Kill("Roll out", "completed"),
)
"""A step that has ended and the next one before it does anything are the same moment."""
REPLICAS = 2


def deliver(
    workspace: Workspace,
    server: str,
    as_of: datetime,
    *,
    kill: Kill | None = None,
    after_seconds: float | None = None,
) -> int:
    return run_flow(
        workspace.project.root,
        server,
        "flows.model_delivery:deliver_model",
        {"model": MODEL, "as_of": as_of},
        kill=kill,
        after_seconds=after_seconds,
    )


def assert_released(workspace: Workspace, *versions: str) -> None:
    """Check ledger, MLflow, processes and files: these releases, the last one alone serves."""
    ledger, client = workspace.ledger, workspace.tracking.client
    releases = ledger.releases(MODEL)
    numbered = {release.version: release for release in releases if release.version}
    assert tuple(numbered) == versions
    assert not [release for release in releases if release.state in UNFINISHED]
    champion = ledger.champion(MODEL)
    assert champion == numbered[versions[-1]]
    assert champion.state is ReleaseState.CHAMPION
    assert len({event.state for event in champion.events}) == len(champion.events)

    models = {v.version: v for v in client.search_model_versions(f"name = '{MODEL}'")}
    owners = sorted(model.tags[DELIVERY_TAG] for model in models.values())
    assert owners == sorted(release.id for release in numbered.values())
    aliases = client.get_registered_model(MODEL).aliases
    assert set(aliases) == {"champion"}
    assert models[aliases["champion"]].tags[DELIVERY_TAG] == champion.id
    experiment = client.get_experiment_by_name(MODEL)
    assert experiment is not None
    for release in numbered.values():
        query = f"tags.`{DELIVERY_TAG}` = '{release.id}'"
        (run,) = client.search_runs([experiment.experiment_id], filter_string=query)
        assert run.info.status == "FINISHED"

    status = local_target(workspace).status(MODEL)
    assert status is not None
    assert status.weights == {champion.version: 100}
    assert version_at(status.url) == champion.version
    replicas = {str(replica.pid) for replica in replicas_of(workspace.project.root)}
    assert replicas == {replica.id for replica in status.replicas}
    assert len(replicas) == REPLICAS
    assert len(processes_of(workspace.project.root)) == REPLICAS + 1  # and their supervisor

    folders = {path.name for path in (workspace.project.home / "bundles" / MODEL).iterdir()}
    assert folders == set(versions)
    assert not list(workspace.project.snapshot_folder().glob("*.part"))
    with ledger.lock(MODEL):
        pass


def test_a_first_delivery_killed_at_every_step_ends_with_one_release(
    workspace: Workspace, prefect_server: str
) -> None:
    for kill in EVERYWHERE:
        assert deliver(workspace, prefect_server, FIRST, kill=kill) == -9, str(kill)
        assert len([r for r in workspace.ledger.releases(MODEL) if r.version]) <= 1, str(kill)
    assert_released(workspace, "1.0.0")

    assert deliver(workspace, prefect_server, FIRST) == 0
    assert_released(workspace, "1.0.0")


def test_a_second_delivery_killed_at_every_step_loses_no_request(
    workspace: Workspace, prefect_server: str
) -> None:
    assert deliver(workspace, prefect_server, FIRST) == 0
    first = workspace.ledger.champion(MODEL)
    status = local_target(workspace).status(MODEL)
    assert first is not None
    assert status is not None
    kills = (
        Kill("Train", "unrecorded"),
        Kill("Gate", "unrecorded"),
        Kill("Learn the holdout", "unrecorded"),
        Kill("Learn the holdout", "recorded"),
        Kill("Register", "recorded"),
        Kill("Build", "unrecorded"),
        Kill("Start rollout", "recorded"),
        Kill("Roll out", "unrecorded"),  # the look
        Kill("Roll out", "recorded"),
        Kill("Roll out", "recorded"),  # that it is promoted
        Kill("Roll out", "unrecorded"),  # the champion
        Kill("Roll out", "recorded"),
    )
    with Traffic(status.url, first.delivery.contract) as traffic:
        for number, kill in enumerate(kills, 1):
            before = Counter(traffic.answered)
            assert deliver(workspace, prefect_server, SECOND, kill=kill) == -9, str(kill)
            if STEPS.index(kill.step) < STEPS.index("Roll out"):
                assert set(traffic.answered - before) == {"1.0.0"}, str(kill)
            if number < len(kills):
                assert workspace.ledger.champion(MODEL) == first, str(kill)
    assert traffic.failed == []
    assert set(traffic.answered) == {"1.0.0", "1.0.1"}
    # MLflow had not heard of the last promotion: whatever runs next tells it
    assert deliver(workspace, prefect_server, SECOND) == 0
    assert_released(workspace, "1.0.0", "1.0.1")
    assert workspace.ledger.release(MODEL, "1.0.0").state is ReleaseState.RETIRED


def test_a_delivery_killed_at_random_moments_ends_with_one_release(
    workspace: Workspace, prefect_server: str
) -> None:
    rng = random.Random(1)
    codes = []
    while 0 not in codes:
        # it gets further each time, and is not held up for ever on a slow machine
        patience = rng.uniform(0.5, 3) * (1 + len(codes) / 3)
        codes.append(deliver(workspace, prefect_server, FIRST, after_seconds=patience))
        assert set(codes) <= {-9, 0}
    assert len(codes) > 1
    assert_released(workspace, "1.0.0")
