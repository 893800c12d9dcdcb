"""Does everybody hear of an incident once, also where a run was killed in between?"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import PREFECT_API_URL, temporary_settings

from modelyard.adapters.notifications import AlertDelivery, send_waiting
from modelyard.adapters.workspace import Workspace
from modelyard.domain.alerts import MOST_PER_HOUR
from modelyard.domain.drift import DriftFinding, DriftOutcome, DriftTest
from modelyard.domain.incidents import WindowIncident
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.windows import event_id, window_of
from modelyard.errors import TransientError
from tasks.alerts import raise_alarms, report_damage, tell_people
from tasks.monitoring import measure_window, rotate_inference_log
from tests.projects import FIRST, MODEL, WEEK, wait_for_events, write_config
from tests.web_hooks import Receiver, receiving, web_hook


@pytest.fixture
def receiver(monitored: Workspace) -> Iterator[Receiver]:
    with receiving(monitored.project.root) as server:
        yield server


@pytest.fixture
def quiet(monitored: Workspace) -> WindowRecord:
    return measure_window.fn(MODEL, window_of(MODEL, FIRST, FIRST + WEEK), FIRST + WEEK)


def drifted(quiet: WindowRecord, week: int, year: int, *columns: str) -> WindowRecord:
    """Return a record of one week in which these columns drifted, most the one named first."""
    findings = tuple(
        DriftFinding(
            column=column,
            test=DriftTest.DISTRIBUTION,
            statistic=0.3,
            p_value=1e-9,
            adjusted_p_value=1e-8,
            effect=0.3,
            drifted=True,
            words=f"{column} moved",
        )
        for column in columns
    )
    record = shown(quiet, week, year, IncidentCause.DRIFT)
    return record.model_copy(
        update={"drift": record.drift.model_copy(update={"suspects": findings})}
    )


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


def tell(record: WindowRecord) -> WindowRecord:
    """Raise a window's alarms and tell people, as the flow does."""
    told = raise_alarms.fn(MODEL, record)
    tell_people.fn(MODEL)
    return told


def test_an_incident_is_told_once_until_it_is_over(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    wrong = [shown(quiet, week, 2031, IncidentCause.PERFORMANCE) for week in (1, 2)]
    for record in (*wrong, wrong[1]):
        assert tell(record).told
    assert receiver.titles == ["rides: performance"]
    (incident,) = monitored.ledger.incidents(MODEL)
    details = WindowIncident.model_validate(incident.details)
    assert details.window_id == wrong[1].window.id
    assert (details.windows, details.began) == (2, wrong[0].window.start)
    assert details.promised == quiet.performance.promised

    tell(shown(quiet, 3, 2031, settled=False))  # says nothing, resolves nothing
    assert len(monitored.ledger.incidents(MODEL)) == 1
    for _ in range(2):
        tell(shown(quiet, 4, 2031))
    assert receiver.titles == ["rides: performance", "rides: performance is right again"]
    assert "It lasted 2 windows" in receiver.received[1]["message"]
    assert monitored.ledger.incidents(MODEL) == ()

    tell(wrong[0])  # measured again after it was over: no news
    assert len(receiver.titles) == 2
    ids = [str(event_id(record.window, "modelyard.performance.degraded")) for record in wrong]
    found = wait_for_events(prefect_server, ids, len(ids))
    assert sorted(event["id"] for event in found) == sorted(ids)
    assert {event["payload"]["release"] for event in found} == {"1.0.0"}


def test_people_hear_of_an_incident_that_becomes_worse_in_kind(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    tell(drifted(quiet, 1, 2035, "temp"))
    tell(drifted(quiet, 2, 2035, "temp"))
    tell(drifted(quiet, 3, 2035, "wind", "temp"))
    tell(drifted(quiet, 4, 2035, "wind"))
    assert receiver.titles == ["rides: drift", "rides: drift is worse"]
    assert "New in window 3 of this incident: wind: " in receiver.received[1]["message"]
    (incident,) = monitored.ledger.incidents(MODEL)
    details = WindowIncident.model_validate(incident.details)
    assert details.windows == 4
    assert [suspect.name for suspect in details.suspects] == ["wind"]
    assert len(details.named) == 2


def test_each_cause_has_an_incident_and_an_event_of_its_own(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    record = shown(quiet, 1, 2032, IncidentCause.DRIFT, IncidentCause.PERFORMANCE)
    tell(record)
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
    tell(record)
    assert receiver.titles == ["rides: drift"]
    identity = str(event_id(record.window, "modelyard.drift.detected"))
    assert len(wait_for_events(prefect_server, [identity], 1)) == 1


def test_what_a_place_did_not_take_is_kept_and_sent_by_the_next_run(
    monitored: Workspace,
    receiver: Receiver,
    quiet: WindowRecord,
    prefect_server: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.refuses = True
    raise_alarms.fn(MODEL, shown(quiet, 1, 2034, IncidentCause.DRIFT))
    with caplog.at_level(logging.WARNING, logger="modelyard.adapters.notifications"):
        for _ in range(2):
            with pytest.raises(TransientError, match=r"did not reach json://127\.0\.0\.1"):
                tell_people.fn(MODEL)
    assert "did not reach json://127.0.0.1" in caplog.text
    assert receiver.refused == 2
    assert len(monitored.ledger.incidents(MODEL)) == 1

    receiver.refuses = False
    assert [sent.delivered for sent in tell_people.fn(MODEL)] == [True]
    assert tell_people.fn(MODEL) == ()
    assert receiver.titles == ["rides: drift"]


def test_only_the_place_that_failed_is_tried_again(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    with web_hook() as other:
        write_config(monitored.project.root, alerts=f'"{receiver.url()}", "{other.url("second")}"')
        other.refuses = True
        raise_alarms.fn(MODEL, shown(quiet, 1, 2036, IncidentCause.DRIFT))
        with pytest.raises(TransientError):
            tell_people.fn(MODEL)
        other.refuses = False
        tell_people.fn(MODEL)
        assert (receiver.titles, other.titles) == (["rides: drift"], ["rides: drift"])


def test_windows_caught_up_after_an_outage_are_told_in_one_summary(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    for week in range(0, 40, 2):
        raise_alarms.fn(MODEL, shown(quiet, week, 2037, IncidentCause.DRIFT))
        raise_alarms.fn(MODEL, shown(quiet, week + 1, 2037))
    tell_people.fn(MODEL)
    assert receiver.titles == ["rides: 40 changes (20 opened, 20 resolved)"]


def test_a_place_gets_only_so_many_messages_an_hour(
    monitored: Workspace, receiver: Receiver, quiet: WindowRecord, prefect_server: str
) -> None:
    now = datetime.now(UTC)
    for week in range(MOST_PER_HOUR + 4):
        wrong = (IncidentCause.DRIFT,) if week % 2 == 0 else ()
        raise_alarms.fn(MODEL, shown(quiet, week, 2038, *wrong))
        send_waiting(monitored, MODEL, now + timedelta(minutes=week))
    assert len(receiver.titles) == MOST_PER_HOUR
    send_waiting(monitored, MODEL, now + timedelta(hours=2))
    assert receiver.titles[MOST_PER_HOUR:] == ["rides: 4 changes (2 opened, 2 resolved)"]


def test_an_alert_goes_through_a_notification_block_of_prefects(
    monitored: Workspace,
    receiver: Receiver,
    quiet: WindowRecord,
    prefect_server: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = "T0PSECRETTOKEN"
    for name, path in (("team", "hook"), ("away", "refuse")):
        CustomWebhookNotificationBlock(
            name=name,
            url=f"http://127.0.0.1:{receiver.server_port}/{path}/{token}",
            json_data={"title": "{{subject}}", "message": "{{body}}"},
        ).save(name, overwrite=True)
    blocks = "custom-webhook/team, custom-webhook/away, custom-webhook/missing"
    write_config(monitored.project.root, alerts=blocks)
    raise_alarms.fn(MODEL, shown(quiet, 1, 2039, IncidentCause.DRIFT))

    team, away, missing = send_waiting(monitored, MODEL)
    assert team == AlertDelivery(place="custom-webhook/team", delivered=True)
    assert receiver.titles == ["rides: drift"]
    assert away.problem == "answered 500"
    assert "no such block" in (missing.problem or "")
    assert token not in caplog.text


def test_files_of_the_log_that_cannot_be_read_are_named_once_until_they_are_gone(
    monitored: Workspace, receiver: Receiver, prefect_server: str
) -> None:
    folder = monitored.project.log_folder(MODEL)
    (file,) = rotate_inference_log.fn(MODEL)
    (folder / file).write_bytes(b"PAR1 and then nothing")
    assert report_damage.fn(MODEL) == ()
    window = window_of(MODEL, FIRST, FIRST + WEEK)
    assert measure_window.fn(MODEL, window, FIRST + WEEK).quality.outcome == "broken"
    for _ in range(2):
        assert report_damage.fn(MODEL) == (f"{file}.damaged",)
        tell_people.fn(MODEL)
    assert receiver.titles == ["rides: inference log"]
    (incident,) = monitored.ledger.incidents(MODEL)
    assert incident.details["files"] == [f"{file}.damaged"]

    (folder / f"{file}.damaged").unlink()
    for _ in range(2):
        assert report_damage.fn(MODEL) == ()
        tell_people.fn(MODEL)
    assert receiver.titles[1:] == ["rides: inference log is right again"]
    assert monitored.ledger.incidents(MODEL) == ()
