"""What did the newest windows show?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from modelyard.adapters.baseline import profiled_kinds, reference_rows
from modelyard.adapters.data.labels import LABEL, labels_since
from modelyard.adapters.evidently import render_drift_report
from modelyard.adapters.monitoring_page import monitoring_page
from modelyard.adapters.pages import artifact_key
from modelyard.adapters.pictures.monitoring_plots import monitoring_figures
from modelyard.adapters.pictures.plot_style import as_png
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.watching import (
    drawn_rows,
    judging_release,
    measure,
    read_window,
    rotate_log,
)
from modelyard.adapters.workspace import Workspace
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.windows import Window, due_windows, plausible_span, until_silence, window_of
from modelyard.errors import UnknownReleaseError
from modelyard.ledger import RecordedWindow

MOST_WINDOWS = 1000
"""Most new windows of one run; the next run goes on from there."""

REOPENED = 24
"""How many of the last windows are measured again when rows or labels come late."""


@step("Find windows")
def find_due_windows(model: str, as_of: datetime | None = None) -> tuple[Window, ...]:
    """Return the windows to measure, oldest first: the new ones, those that got rows or labels
    since or whose labels are due by now, and those about which an interrupted run told nobody.

    The inference log is rotated on the way. Raises UnknownReleaseError for a model
    that was never released.
    """
    workspace = Workspace.find()
    config = workspace.project.model(model)
    if workspace.ledger.champion(model) is None:
        raise UnknownReleaseError(f"{model} has no release to monitor. Deliver it first.")
    rotate_log(workspace, model)
    measured = workspace.ledger.windows(model)
    now = as_of or datetime.now(UTC)
    heard = _heard(workspace, model, now, config.monitoring.window)
    new = due_windows(
        model,
        watermark=measured[-1].end if measured else None,
        as_of=now,
        length=config.monitoring.window,
        first_event=heard[0] if heard else None,
        limit=MOST_WINDOWS,
    )
    if heard is not None:
        new = until_silence(new, heard[1])
    labels = workspace.project.label_folder(model)
    last = measured[-REOPENED:]
    late_rows = workspace.prediction_log(model).late(
        [(old.start, old.end, old.measured_at) for old in last]
    )
    again = [
        window_of(model, old.start, old.end)
        for old, has_late_rows in zip(last, late_rows, strict=True)
        if has_late_rows or _unfinished(old, now, late_labels=labels_since(labels, old.measured_at))
    ]
    return (*again, *new)


@step("Rotate log")
def rotate_inference_log(model: str) -> list[str]:
    """Turn closed segments of the inference log into Parquet, and bound what is kept.

    Idempotent by the segment. Returns the new files' names.
    """
    return rotate_log(Workspace.find(), model)


@step("Measure window")
def measure_window(model: str, window: Window, as_of: datetime | None = None) -> WindowRecord:
    """Judge data quality, drift and performance of one window by what was known at `as_of`."""
    measured_at = datetime.now(UTC)
    workspace = Workspace.find()
    config = workspace.project.model(model)
    release = judging_release(workspace, model, window, config.monitoring.min_rows)
    if release is None:
        raise UnknownReleaseError(f"{model} has no release to judge {window.start} by.")
    record = measure(workspace, config, release, window, as_of or measured_at)
    return record.model_copy(update={"measured_at": measured_at})


@step("Report")
def report_window(
    model: str, record: WindowRecord, as_of: datetime | None = None, always: bool = False
) -> WindowRecord:
    """Render the drift report of a window in which something is newly wrong; log it to MLflow.

    Windows of an incident that is open already get none: drawing costs seconds, and the report of
    the first tells what the others would. `always` draws all the same. Idempotent by the window.
    """
    workspace = Workspace.find()
    known = {incident.cause for incident in workspace.ledger.incidents(model)}
    former = _recorded(workspace, model, record.window.id)
    if former is not None and former.report is not None:
        return record.model_copy(update={"report": former.report})
    if not record.rows or not (always or set(record.causes) - known):
        return record
    release = workspace.ledger.release(model, record.release)
    rows = read_window(workspace, release, record.window, as_of or datetime.now(UTC))
    path = workspace.project.folder("reports", model) / f"{record.window.start:%Y%m%dT%H%M}.html"
    contract = release.delivery.contract
    render_drift_report(
        drawn_rows(reference_rows(workspace, release), contract),
        drawn_rows(rows.drop(columns=LABEL), contract, rows[LABEL]),
        profiled_kinds(contract),
        record.drift,
        path,
        task=contract.task,
        target=contract.target,
        positive=contract.positive,
        title=f"{model} {record.release}: {record.window.start:%Y-%m-%d %H:%M} UTC",
    )
    run = workspace.tracking.monitoring_run(model)
    workspace.tracking.log_file(run, path, "drift")
    return record.model_copy(update={"report": f"drift/{path.name}"})


@step("Record window")
def record_window(model: str, record: WindowRecord) -> WindowRecord:
    """Store what a window showed; measured again, it replaces its record."""
    window = record.window
    Workspace.find().ledger.record_window(
        window.id,
        model,
        window.start,
        window.end,
        record.model_dump(mode="json"),
        measured_at=record.measured_at,
    )
    return record


@step("Show")
def show_monitoring(model: str) -> None:
    """Leave the model's monitoring page in the Prefect UI and its plots in MLflow."""
    workspace = Workspace.find()
    records = [
        WindowRecord.model_validate(w.record) for w in workspace.ledger.windows(model, last=60)
    ]
    if not records:
        return
    metric = workspace.project.model(model).evaluation.primary_metric
    drawn = monitoring_figures(records, metric)
    pictures = {name: as_png(figure) for name, figure in drawn.items()}
    run = workspace.tracking.monitoring_run(model)
    workspace.tracking.log_pictures(run, pictures)
    page = monitoring_page(
        model,
        metric,
        records,
        workspace.ledger.incidents(model, open_only=False),
        pictures,
        workspace.tracking.run_page(workspace.tracking_page, run, _newest_report(records)),
    )
    publish_page(artifact_key("monitoring", model), page, f"{len(records)} windows of {model}")


def _heard(
    workspace: Workspace, model: str, now: datetime, length: timedelta
) -> tuple[datetime, datetime] | None:
    """Return the span of logged event times that can be meant."""
    span = workspace.prediction_log(model).span()
    begun = [release.delivery.training.span.start for release in workspace.ledger.releases(model)]
    known = [start for start in begun if start is not None]
    if span is None or not known:
        return span
    return plausible_span(*span, started=min(known), now=now, reach=length)


def _newest_report(records: list[WindowRecord]) -> str:
    return next((r.report for r in reversed(records) if r.report), "")


def _recorded(workspace: Workspace, model: str, window_id: str) -> WindowRecord | None:
    found = (w for w in workspace.ledger.windows(model, last=REOPENED) if w.id == window_id)
    return next((WindowRecord.model_validate(w.record) for w in found), None)


def _unfinished(old: RecordedWindow, now: datetime, *, late_labels: bool) -> bool:
    record = WindowRecord.model_validate(old.record)
    told = record.performance
    # Labels that came early count from the moment on at which they are due.
    came_due = told.early > 0 and record.due_at is not None and record.due_at <= now
    return not record.told or came_due or (late_labels and told.coverage < 1)
