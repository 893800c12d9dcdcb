"""Does everybody hear of an incident once, also where a run was killed in between?"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from modelyard.adapters.workspace import Workspace
from modelyard.domain.drift import DriftOutcome
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.windows import event_id, window_of
from modelyard.errors import TransientError
from tasks.alerts import raise_alarms
from tasks.monitoring import measure_window
from tests.projects import FIRST, MODEL, WEEK, wait_for_events
from tests.web_hooks import Receiver, receiving


@pytest.fixture
def receiver(monitored: Workspace) -> Iterator[Receiver]:
    with receiving(monitored.project.root) as server:
        yield server


@pytest.fixture
def quiet(monitored: Workspace) -> WindowRecord:
    return measure_window.fn(MODEL, window_of(MODEL, FIRST, FIRST + WEEK), FIRST + WEEK)


def shown(
    quiet: WindowRecord, week: int, year: int, *wrong: IncidentCause, settled: bool = True
) -> WindowRecord:
    """Return a record of one week in which these causes are wrong and the others right."""
    start = datetime(year, 1, 1, tzinfo=UTC) + week * timedelta(days=7)
    fine = PerformanceOutcome.OK if settled else PerformanceOutcome.TOO_FEW_LABELS
    degraded = PerformanceOutcome.DEGRADED if IncidentCause.PERFORMANCE in wrong else fine
    drifted = DriftOutcome.DRIFTED if IncidentCause.DRIFT in wrong else DriftOutcome.STABLE
    return quiet.model_copy(
        update={
            "window": window_of(MODEL, start, start + timedelta(days=7)),
            "performance": quiet.performance.model_copy(update={"outcome": degraded}),
            "drift": quiet.drift.model_copy(update={"outcome": drifted}),
        }
    )


def test_an_incident_is_told_once_until_it_is_over(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    wrong = [shown(quiet, week, 2031, IncidentCause.PERFORMANCE) for week in (1, 2)]
    for record in (*wrong, wrong[1]):
        assert raise_alarms.fn(MODEL, record).told
    assert receiver.titles == ["rides: performance"]
    (incident,) = monitored.ledger.incidents(MODEL)
    assert incident.details["window_id"] == wrong[1].window.id

    raise_alarms.fn(MODEL, shown(quiet, 3, 2031, settled=False))  # says nothing, resolves nothing
    assert len(monitored.ledger.incidents(MODEL)) == 1
    for _ in range(2):
        raise_alarms.fn(MODEL, shown(quiet, 4, 2031))
    assert receiver.titles == ["rides: performance", "rides: performance is right again"]
    assert monitored.ledger.incidents(MODEL) == ()

    raise_alarms.fn(MODEL, wrong[0])  # measured again after it was over: no news
    assert len(receiver.titles) == 2
    ids = [str(event_id(record.window, "modelyard.performance.degraded")) for record in wrong]
    found = wait_for_events(prefect_server, ids, len(ids))
    assert sorted(event["id"] for event in found) == sorted(ids)
    assert {event["payload"]["release"] for event in found} == {"1.0.0"}


def test_each_cause_has_an_incident_and_an_event_of_its_own(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    record = shown(quiet, 1, 2032, IncidentCause.DRIFT, IncidentCause.PERFORMANCE)
    raise_alarms.fn(MODEL, record)
    assert {incident.cause for incident in monitored.ledger.incidents(MODEL)} == {
        "drift",
        "performance",
    }
    assert sorted(receiver.titles) == ["rides: drift", "rides: performance"]
    ids = [str(event_id(record.window, c.event)) for c in record.causes]
    names = {event["event"] for event in wait_for_events(prefect_server, ids, 2)}
    assert names == {"modelyard.drift.detected", "modelyard.performance.degraded"}


def test_a_run_that_ends_before_prefect_has_the_event_tells_people_once(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    record = shown(quiet, 1, 2033, IncidentCause.DRIFT)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: away}), pytest.raises(TransientError):
            raise_alarms.fn(MODEL, record)
    raise_alarms.fn(MODEL, record)
    assert receiver.titles == ["rides: drift"]
    identity = str(event_id(record.window, "modelyard.drift.detected"))
    assert len(wait_for_events(prefect_server, [identity], 1)) == 1


def test_an_alert_that_no_place_took_is_in_the_log_and_the_incident_stays(
    monitored: Workspace,
    receiver: Receiver,
    quiet: WindowRecord,
    prefect_server: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.refuses = True
    with caplog.at_level(logging.WARNING, logger="modelyard.adapters.notifications"):
        raise_alarms.fn(MODEL, shown(quiet, 1, 2034, IncidentCause.DRIFT))
    assert "did not reach json://127.0.0.1" in caplog.text
    assert len(monitored.ledger.incidents(MODEL)) == 1
