"""Is a window recorded once, an event sent under one id and a retraining started once, whatever
is killed?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from flows.model_reconciliation import reconcile_model
from modelyard.adapters.workspace import Workspace
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.releases import ReleaseState
from modelyard.domain.windows import event_id
from tests.interruptions import Kill, run_flow
from tests.projects import (
    FIRST,
    MODEL,
    SECOND,
    WEEK,
    load_labels,
    replicas_of,
    wait_for_events,
)

AS_OF = FIRST + 2 * WEEK


@pytest.fixture
def watched(monitored: Workspace) -> Workspace:
    """A project whose release answered two weeks, the second one wrongly; all labels are known."""
    load_labels(monitored, FIRST, AS_OF)
    return monitored


def monitor(workspace: Workspace, server: str, kill: Kill | None = None) -> int:
    parameters = {"model": MODEL, "as_of": AS_OF}
    flow = "flows.model_monitoring:monitor_model"
    return run_flow(workspace.project.root, server, flow, parameters, kill=kill)


def retrain(workspace: Workspace, server: str, kill: Kill | None = None) -> int:
    parameters = {"model": MODEL, "as_of": SECOND, "cause": RetrainingCause.PERFORMANCE}
    flow = "flows.model_retraining:retrain_model"
    return run_flow(workspace.project.root, server, flow, parameters, kill=kill)


def reconcile(workspace: Workspace, server: str) -> int:
    flow = "flows.model_reconciliation:reconcile_model"
    return run_flow(workspace.project.root, server, flow, {"model": MODEL})


def records(workspace: Workspace) -> list[WindowRecord]:
    return [WindowRecord.model_validate(w.record) for w in workspace.ledger.windows(MODEL)]


def test_monitoring_killed_at_every_step_records_a_window_and_its_event_once(
    watched: Workspace, prefect_server: str
) -> None:
    kills = (
        Kill("Find windows", "running"),
        Kill("Measure window", "completed"),
        Kill("Record window", "unrecorded"),
        Kill("Record window", "recorded"),
        # The first window is quiet; what follows is about the second, which alarms.
        Kill("Alert", "completed", 2),
        Kill("Report", "completed"),
        Kill("Alert", "unrecorded"),
        Kill("Alert", "completed"),
        Kill("Record window", "unrecorded", 2),
        Kill("Show", "running"),
    )
    for kill in kills:
        assert monitor(watched, prefect_server, kill) == -9, str(kill)
        assert len(records(watched)) <= 2, str(kill)
    assert monitor(watched, prefect_server) == 0

    quiet, shifted = records(watched)
    assert (quiet.told, shifted.told) == (True, True)
    assert quiet.performance.outcome is PerformanceOutcome.OK
    assert shifted.causes == (IncidentCause.PERFORMANCE,)
    (incident,) = watched.ledger.incidents(MODEL, open_only=False)
    assert incident.details["window_id"] == shifted.window.id
    ids = {str(event_id(shifted.window, cause.event)) for cause in IncidentCause}
    (event,) = wait_for_events(prefect_server, ids, 1)
    assert event["event"] == "modelyard.performance.degraded"


def test_retraining_killed_at_every_step_retrains_once(
    watched: Workspace, prefect_server: str
) -> None:
    assert monitor(watched, prefect_server) == 0
    kills = (
        Kill("Decide", "running"),
        Kill("Decide", "unrecorded"),
        Kill("Decide", "completed"),
        Kill("Take rows", "completed"),
        Kill("Start rollout", "completed"),
        Kill("Roll out", "recorded"),
        Kill("Note outcome", "running"),
    )
    for kill in kills:
        assert retrain(watched, prefect_server, kill) == -9, str(kill)
    for _ in range(2):
        assert retrain(watched, prefect_server) == 0

    champion = watched.ledger.champion(MODEL)
    assert champion is not None
    assert champion.version == "1.0.1"
    states = [found.state for found in watched.ledger.releases(MODEL)]
    assert states == [ReleaseState.RETIRED, ReleaseState.CHAMPION]
    started = [d for d in watched.ledger.decisions(MODEL) if d.verdict == "retrain"]
    assert [decision.release_id for decision in started] == [champion.id]
    assert len(replicas_of(watched.project.root)) == 2


@pytest.mark.timeout(600)
def test_events_and_a_reconciliation_at_the_same_moment_lead_to_one_retraining(
    watched: Workspace, prefect_server: str
) -> None:
    assert monitor(watched, prefect_server) == 0
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, watched, prefect_server) for ask in (retrain, reconcile, retrain)]
        assert [each.result() for each in asked] == [0, 0, 0]

    started = [d for d in watched.ledger.decisions(MODEL) if d.verdict == "retrain"]
    states = [found.state for found in watched.ledger.releases(MODEL)]
    assert states == [ReleaseState.RETIRED, ReleaseState.CHAMPION]
    champion = watched.ledger.champion(MODEL)
    assert champion is not None
    assert [decision.release_id for decision in started] == [champion.id]


@pytest.mark.timeout(600)
def test_a_reconciliation_does_once_what_a_lost_event_should_have_done(
    watched: Workspace, prefect_server: str
) -> None:
    assert monitor(watched, prefect_server) == 0  # no automation hears its event here
    *_, started = reconcile_model(MODEL)  # others are of the service, which is down
    assert started.words.startswith("no retraining on performance was begun")
    assert started.words.endswith("retrained as 1.0.1")
    assert reconcile(watched, prefect_server) == 0

    champion = watched.ledger.champion(MODEL)
    assert champion is not None
    assert champion.version == "1.0.1"
    assert champion.delivery.as_of == AS_OF
    assert len(watched.ledger.releases(MODEL)) == 2
