"""A rollout of hours occupies nobody: each look is a run of its own, which Prefect starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun

from flows.model_delivery import deliver_model
from flows.model_reconciliation import reconcile_model
from flows.model_rollout import roll_out_model
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import ReleaseState
from modelyard.domain.rollout import Answer, Phase
from modelyard.errors import ConflictError, RefusedError
from tests.flows.test_model_flows import pages
from tests.projects import MODEL, SECOND, version_at, write_config


def make_deployment() -> str:
    """Have a deployment that can be scheduled, as `modelyard apply` makes it."""
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("rollout")
        return str(client.create_deployment(flow_id=flow_id, name=MODEL))


def planned(deployment_id: str) -> list[FlowRun]:
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))  # pyright: ignore[reportArgumentType]
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(deployment_filter=chosen)


@pytest.fixture
def deployment(prefect_server: str) -> str:
    return make_deployment()


def test_a_long_bake_goes_on_by_runs_that_are_planned_and_ends_by_a_person(
    monitored: Workspace, prefect_server: str, deployment: str
) -> None:
    """One story: left alone, looked at too early, answered wrongly, aborted, delivered again."""
    root, ledger = monitored.project.root, monitored.ledger
    write_config(root, replicas=2, rollout="bake: 2h")
    outcome = deliver_model(MODEL, as_of=SECOND)
    assert outcome.rollout is not None
    assert outcome.rollout.state.phase is Phase.BAKING
    assert outcome.url is not None
    assert version_at(outcome.url) == "1.0.1"
    champion = ledger.champion(MODEL)
    assert champion is not None
    assert champion.version == "1.0.0"
    (run,) = planned(deployment)
    assert run.expected_start_time is not None
    ahead = run.expected_start_time - datetime.now(UTC)
    assert timedelta(minutes=3) < ahead < timedelta(minutes=7)  # a twentieth of the bake
    assert run.parameters == {"model": MODEL}
    page = pages(prefect_server)[f"rollout-{MODEL}"]
    assert "BAKING" in page
    assert "bakes until" in page

    early = roll_out_model(MODEL)
    assert early is not None
    assert early.events == outcome.rollout.events
    assert reconcile_model(MODEL) == []
    assert len(planned(deployment)) == 1

    with pytest.raises(RefusedError, match="does not wait for a person"):
        roll_out_model(MODEL, answer=Answer.APPROVE)
    with pytest.raises(ConflictError, match="is being rolled out"):
        deliver_model(MODEL, as_of=SECOND - timedelta(days=1))

    aborted = roll_out_model(MODEL, answer=Answer.ABORT, reason="too slow for us")
    assert aborted is not None
    assert (aborted.ended, aborted.promoted) == (True, False)
    assert version_at(outcome.url) == "1.0.0"
    assert ledger.release(MODEL, "1.0.1").state is ReleaseState.ABORTED
    assert "ABORTED" in pages(prefect_server)[f"rollout-{MODEL}"]
    assert [incident.cause for incident in ledger.incidents(MODEL)] == ["rollout"]
    assert roll_out_model(MODEL) is None

    write_config(root, replicas=2)
    again = deliver_model(MODEL, as_of=SECOND)
    assert again.rollout is not None
    assert again.rollout.promoted
    assert version_at(outcome.url) == "1.0.2"
    assert ledger.incidents(MODEL) == ()


def test_a_delivery_that_was_queued_follows_the_end_of_the_rollout(
    monitored: Workspace, deployment: str
) -> None:
    root, ledger = monitored.project.root, monitored.ledger
    write_config(root, replicas=2, rollout="bake: 2h, while_rolling_out: queue")
    deliver_model(MODEL, as_of=SECOND - timedelta(days=1))
    with pytest.raises(ConflictError, match="waits for the end of the rollout"):
        deliver_model(MODEL, reason="newer rows", as_of=SECOND)
    write_config(root, replicas=2)
    report = roll_out_model(MODEL, answer=Answer.PROMOTE, reason="it is urgent")
    assert report is not None
    assert report.promoted
    numbered = {r.version: r for r in ledger.releases(MODEL) if r.version}
    assert numbered["1.0.1"].events[-1].state in (ReleaseState.RETIRED, ReleaseState.CHAMPION)
    newest = ledger.releases(MODEL)[-1]
    assert newest.delivery.reason == "newer rows"
