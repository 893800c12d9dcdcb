"""What did the newest windows show?"""

from __future__ import annotations

from datetime import UTC, datetime

from modelyard.adapters.baseline import profiled_kinds, reference_rows
from modelyard.adapters.data.labels import LABEL
from modelyard.adapters.due_windows import new_windows, reopened_windows
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
from modelyard.domain.windows import Window
from modelyard.errors import UnknownReleaseError


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
    measured, now = workspace.ledger.windows(model), as_of or datetime.now(UTC)
    watermark = measured[-1].end if measured else None
    return (
        *reopened_windows(workspace, model, measured, now),
        *new_windows(workspace, config, now, watermark),
    )


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
    former = workspace.ledger.window(record.window.id)
    if former is not None and former.record.get("report"):
        return record.model_copy(update={"report": former.record["report"]})
    if not record.rows or not (always or set(record.causes) - known):
        return record
    release = workspace.ledger.release(model, record.release)
    rows = read_window(workspace, release, record.window, as_of or datetime.now(UTC))
    path = workspace.project.folder("reports", model) / f"{record.window.start:%Y%m%dT%H%M}.html"
    contract = release.delivery.contract
    reference = drawn_rows(reference_rows(workspace, release), contract)
    kinds = {name: kind for name, kind in profiled_kinds(contract).items() if name in reference}
    render_drift_report(
        reference,
        drawn_rows(rows.drop(columns=LABEL), contract, rows[LABEL]),
        kinds,
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


def _newest_report(records: list[WindowRecord]) -> str:
    return next((r.report for r in reversed(records) if r.report), "")
