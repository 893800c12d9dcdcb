"""Who has to know?"""

from __future__ import annotations

from modelyard.adapters.notifications import send_alert
from modelyard.adapters.prefect import emit_event
from modelyard.adapters.steps import step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.windows import event_id
from modelyard.ledger import Incident


@step("Alert")
def raise_alarms(model: str, record: WindowRecord) -> WindowRecord:
    """Open, update or resolve the model's incidents, tell people of changes and Prefect of events.

    Idempotent by the window: an event has the same id in every run, an incident is opened once.
    Returns the record with the note that everybody was told.
    """
    workspace = Workspace.find()
    for cause in record.causes:
        details = {"window_id": record.window.id, "reasons": list(record.reasons(cause))}
        incident, is_new = workspace.ledger.raise_incident(model, cause, details, record.window.end)
        if is_new:
            _notify(workspace, incident, record)
        _emit(cause.event, model, record)
    for cause in record.settled:
        if workspace.ledger.resolve_incident(model, cause, record.window.end):
            _tell(workspace, model, f"{model}: {cause} is right again", _when(record))
            _emit("modelyard.recovered", model, record)
    return record.model_copy(update={"told": True})


def _notify(workspace: Workspace, incident: Incident, record: WindowRecord) -> None:
    lines = [_when(record), *incident.details["reasons"], "", _advice(incident)]
    _tell(workspace, incident.model, f"{incident.model}: {incident.cause}", "\n".join(lines))


def _advice(incident: Incident) -> str:
    return {
        IncidentCause.DATA: "Look at the source of the columns named; nothing is retrained on it.",
        IncidentCause.PERFORMANCE: (
            f"`modelyard retrain {incident.model}` asks the controller; "
            f"`modelyard rollback {incident.model}` goes back to the former release."
        ),
        IncidentCause.DRIFT: "Look at the drift report; the labels will tell whether it matters.",
    }[IncidentCause(incident.cause)]


def _when(record: WindowRecord) -> str:
    window = record.window
    return (
        f"Window {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC, release "
        f"{record.release}, {record.rows:,} rows."
    )


def _tell(workspace: Workspace, model: str, title: str, body: str) -> None:
    config = workspace.project.model(model)
    send_alert((*workspace.project.platform.alerts, *config.alerts), title, body)


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
