"""Who has to know?"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid5

from modelyard.adapters.notifications import AlertDelivery, send_waiting
from modelyard.adapters.pages import artifact_key
from modelyard.adapters.prefect.events import WINDOW_LABEL, emit_event
from modelyard.adapters.prefect.server import artifact_url, flow_run_url
from modelyard.adapters.prefect.steps import step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.alerts import Notice
from modelyard.domain.incidents import (
    FLOW_RUN,
    REPORT,
    WindowIncident,
    damage_notice,
    damage_over,
    damage_words,
    follow,
    raised_notice,
    recalled,
    resolved_notice,
    seen_in,
)
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.windows import event_id
from modelyard.errors import ServiceUnavailableError
from modelyard.ledger import Description, Incident


@step("Alert")
def raise_alarms(model: str, record: WindowRecord) -> WindowRecord:
    """Open, update or resolve the model's incidents, and tell Prefect of events.

    What people are to be told is written down with the incident, and sent by `tell_people`.
    Idempotent by the window: an event has the same id in every run, an incident is opened once and
    its newest window counted once. Returns the record with the note that this was done.
    """
    workspace = Workspace.find()
    ledger, end = workspace.ledger, record.window.end
    for cause in record.causes:
        seen = seen_in(record, cause, _links(workspace, model, record))
        ledger.raise_incident(
            model, cause, end, partial(_describe, model, cause, seen), now=datetime.now(UTC)
        )
        _emit(cause.event, model, record)
    for cause in record.settled:
        if any(i.cause == cause and i.updated_at <= end for i in ledger.incidents(model)):
            _emit("modelyard.recovered", model, record)  # first: resolved, it is not found again
            ledger.resolve_incident(
                model, cause, end, partial(_over, model, cause, record), now=datetime.now(UTC)
            )
    return record.model_copy(update={"told": True})


@step("Look at log")
def report_damage(model: str) -> tuple[str, ...]:
    """Open, update or resolve the incident about files of the inference log that were set aside.

    They are found by their names, so that a run which was killed between setting one aside and
    this is made up for by the next. Idempotent. Returns their names.
    """
    workspace, now, cause = Workspace.find(), datetime.now(UTC), IncidentCause.LOG
    damaged = workspace.prediction_log(model).damaged()
    ledger = workspace.ledger
    is_open = [incident for incident in ledger.incidents(model) if incident.cause == cause]
    if damaged:
        describe = partial(_describe_damage, model, damaged)
        raised, _ = ledger.raise_incident(model, cause, now, describe, now=now)
        fact = str(uuid5(UUID(raised.id), " ".join(damaged)))
        emit_event(cause.event, model, {"files": list(damaged)}, fact)
    elif is_open:
        emit_event("modelyard.recovered", model, {}, str(uuid5(UUID(is_open[0].id), "recovered")))
        ledger.resolve_incident(model, cause, now, lambda _: damage_over(model), now=now)
    return damaged


@step("Tell people")
def tell_people(model: str) -> tuple[AlertDelivery, ...]:
    """Send what people are to be told of a model's incidents and were not.

    Idempotent by notice and place. Raises ServiceUnavailableError, which is tried again, naming
    the places that did not take theirs; a flow goes on without, and the next run tries again.
    """
    sent = send_waiting(Workspace.find(), model)
    failed = {alert.place: alert.problem for alert in sent if not alert.delivered}
    if failed:
        said = ", ".join(f"{place} ({problem})" for place, problem in failed.items())
        raise ServiceUnavailableError(
            f"Alerts about {model} did not reach {said}. They are kept, and sent again by the next "
            f"run. `modelyard alerts test {model}` tries every place."
        )
    return sent


def _describe(
    model: str, cause: IncidentCause, seen: WindowIncident, was: Incident | None
) -> Description:
    former = recalled(was.details) if was else None
    now = follow(former, seen)
    notice = raised_notice(model, cause, former, now)
    return Description(details=now.model_dump(mode="json"), notice=notice)


def _describe_damage(model: str, damaged: tuple[str, ...], was: Incident | None) -> Description:
    known = tuple(was.details["files"]) if was else None
    details = {"files": list(damaged), "reasons": list(damage_words(damaged))}
    return Description(details=details, notice=damage_notice(model, damaged, known))


def _over(model: str, cause: IncidentCause, record: WindowRecord, was: Incident) -> Notice:
    return resolved_notice(model, cause, recalled(was.details), record)


def _links(workspace: Workspace, model: str, record: WindowRecord) -> dict[str, str]:
    """Return the pages about a window that somebody can open: those whose server runs."""
    report = None
    if record.report is not None and workspace.tracking_page is not None:
        tracking = workspace.tracking
        run = tracking.monitoring_run(model)
        report = tracking.run_page(workspace.tracking_page, run, record.report)
    links = {
        REPORT: report,
        "Windows and incidents": artifact_url(artifact_key("monitoring", model)),
        FLOW_RUN: flow_run_url(),
    }
    return {name: url for name, url in links.items() if url is not None}


def _emit(event: str, model: str, record: WindowRecord) -> None:
    window = record.window
    emit_event(
        event,
        model,
        {
            "window_id": window.id,
            "window_start": window.start.isoformat(),
            "window_end": window.end.isoformat(),
            "as_of": window.end.isoformat(),
            "release": record.release,
        },
        str(event_id(window, event)),
        labels={WINDOW_LABEL: window.id},
    )
