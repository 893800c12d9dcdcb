"""Who has to know?"""

from __future__ import annotations

from datetime import datetime

from modelyard.adapters.notifications import tell_people
from modelyard.adapters.prefect.events import emit_event
from modelyard.adapters.prefect.steps import step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.windows import event_id
from modelyard.ledger import Incident


@step("Alert")
def raise_alarms(model: str, record: WindowRecord) -> WindowRecord:
    """Open, update or resolve the model's incidents, tell people of changes and Prefect of events.

    Idempotent by the window: an event has the same id in every run, an incident is opened once. The
    ledger comes after the people: who is interrupted in between tells them twice rather than never.
    Returns the record with the note that everybody was told.
    """
    workspace = Workspace.find()
    incidents = workspace.ledger.incidents(model, open_only=False)
    end = record.window.end
    for cause in record.causes:
        if not any(i.cause == cause and _covers(i, end) for i in incidents):
            _notify(workspace, model, cause, record)
        details = {"window_id": record.window.id, "reasons": list(record.reasons(cause))}
        workspace.ledger.raise_incident(model, cause, details, end)
        _emit(cause.event, model, record)
    for cause in record.settled:
        if any(i.cause == cause and _is_over(i, end) for i in incidents):
            tell_people(workspace.project, model, f"{model}: {cause} is right again", _when(record))
            _emit("modelyard.recovered", model, record)
            workspace.ledger.resolve_incident(model, cause, end)
    return record.model_copy(update={"told": True})


def _covers(incident: Incident, end: datetime) -> bool:
    """Whether people were told already of what a window that ended then shows."""
    resolved_at = incident.resolved_at
    return resolved_at is None or incident.opened_at <= end < resolved_at


def _is_over(incident: Incident, end: datetime) -> bool:
    """Whether a window that ended then and is right is news about the incident."""
    return incident.resolved_at is None and incident.updated_at <= end


def _notify(workspace: Workspace, model: str, cause: IncidentCause, record: WindowRecord) -> None:
    lines = [_when(record), *record.reasons(cause), "", _advice(model, cause)]
    tell_people(workspace.project, model, f"{model}: {cause}", "\n".join(lines))


def _advice(model: str, cause: IncidentCause) -> str:
    return {
        IncidentCause.DATA: "Look at the source of the columns named; nothing is retrained on it.",
        IncidentCause.PERFORMANCE: (
            f"`modelyard retrain {model}` asks the controller; "
            f"`modelyard rollback {model}` goes back to the former release."
        ),
        IncidentCause.DRIFT: "Look at the drift report; the labels will tell whether it matters.",
    }[cause]


def _when(record: WindowRecord) -> str:
    window = record.window
    return (
        f"Window {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC, release "
        f"{record.release}, {record.rows:,} rows."
    )


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
    )
