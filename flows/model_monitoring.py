"""Window, measure, report, alert."""

from __future__ import annotations

from prefect import flow

from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.values import Moment
from tasks.alerts import raise_alarms, report_damage, tell_people
from tasks.monitoring import (
    find_due_windows,
    measure_window,
    record_window,
    report_window,
    show_monitoring,
)


@flow(name="monitor", flow_run_name="monitor {model}")
def monitor_model(
    model: str, as_of: Moment | None = None, always_report: bool = False
) -> list[WindowRecord]:
    """Measure every window that has ended since the last time, oldest first, and raise alarms.

    Windows whose labels came late are measured again. A run that was interrupted is made up for by
    the next one: a window is measured again until everybody was told about it.

    Args:
        model: Name of a model that has a release.
        as_of: The moment (UTC) that counts as now: windows and labels after it are not looked at;
            empty means now.
        always_report: Draw the drift report of every window, not only of those where something is
            newly wrong.
    """
    records = []
    for window in find_due_windows(model, as_of):
        measured = measure_window(model, window, as_of)
        reported = record_window(model, report_window(model, measured, as_of, always_report))
        records.append(record_window(model, raise_alarms(model, reported)))
    report_damage(model)
    tell_people(model, return_state=True)  # a place that fails is shown, and stops nothing
    show_monitoring(model)
    return records
