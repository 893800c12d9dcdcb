"""Are windows of so many rows measured like those of a span, once each, whatever comes late?"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from modelyard.adapters.baseline import training_windows
from modelyard.adapters.replay import Replay
from modelyard.adapters.workspace import Workspace
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.windows import Window, event_id
from modelyard.serving.inference_log import InferenceLog, InferenceRecord
from tasks.monitoring import find_due_windows, measure_window, record_window, show_monitoring
from tests.projects import FIRST, MODEL, WEEK, load_labels

AS_OF = FIRST + 2 * WEEK
HOUR = timedelta(hours=1)


@pytest.fixture
def counted(monitored: Workspace) -> Workspace:
    """A project with a log of hourly rows that is monitored by windows of 100 rows."""
    configure(monitored, "window: 100 rows")
    return monitored


def configure(workspace: Workspace, window: str, delay: str = "0d") -> None:
    file = workspace.project.root / "configs" / "models" / f"{MODEL}.yaml"
    text = file.read_text().replace("window: 7d, min_rows: 100", f"{window}, min_rows: 10")
    file.write_text(text.replace("  time: hour\n", f"  time: hour\n  label_delay: {delay}\n"))


def measure_all(as_of: datetime = AS_OF) -> list[WindowRecord]:
    found = [measure_window.fn(MODEL, w, as_of) for w in find_due_windows.fn(MODEL, as_of)]
    return [record_window.fn(MODEL, r.model_copy(update={"told": True})) for r in found]


def log(workspace: Workspace, times: Iterable[datetime], request: str = "late") -> None:
    """Have the service answer rows of some event times, at this moment."""
    moments = [time.isoformat() for time in times]
    segment = InferenceLog(workspace.project.log_folder(MODEL), "1.0.0")
    segment.append(
        InferenceRecord.model_construct(
            request_id=request,
            at=datetime.now(UTC),
            release="1.0.0",
            replica="r9",
            columns=("temp", "wind", "season"),
            ids=[f"{request}-{number}" for number in range(len(moments))],
            times=moments,
            rows=[[20.0, 3.0, "dry"]] * len(moments),
            predictions=[80.0] * len(moments),
            probabilities=None,
            classes=(),
            positive=None,
        )
    )
    segment.close()


def spans(windows: Iterable[Window]) -> list[tuple[datetime, datetime]]:
    return [(window.start, window.end) for window in windows]


def test_windows_follow_one_another_and_have_as_many_rows_as_asked(counted: Workspace) -> None:
    records = measure_all()

    instant = timedelta(microseconds=1)
    ends = [FIRST + 99 * HOUR + instant, FIRST + 199 * HOUR + instant, FIRST + 299 * HOUR + instant]
    assert spans(r.window for r in records) == list(zip([FIRST, *ends], ends, strict=False))
    assert [r.rows for r in records] == [100] * 3
    assert find_due_windows.fn(MODEL, AS_OF) == ()
    show_monitoring.fn(MODEL)


def test_a_row_that_comes_late_is_counted_in_the_window_it_falls_into(counted: Workspace) -> None:
    before = measure_all()
    load_labels(counted, FIRST, FIRST + 2 * WEEK)
    log(counted, [FIRST + 150.5 * HOUR])

    again = {r.window: r for r in measure_all()}

    assert again.keys() == {r.window for r in before}
    assert [again[r.window].rows for r in before] == [100, 101, 100]
    stored = counted.ledger.windows(MODEL)
    assert [WindowRecord.model_validate(w.record).rows for w in stored] == [100, 101, 100]
    told = [event_id(r.window, "modelyard.drift.detected") for r in before]
    assert [event_id(w, "modelyard.drift.detected") for w in again] == told


def test_windows_go_on_from_the_last_one_when_rows_come(counted: Workspace) -> None:
    *_, last = measure_all()
    log(counted, [AS_OF + number * HOUR / 4 for number in range(64)], "more")

    assert find_due_windows.fn(MODEL, AS_OF + 4 * HOUR) == ()
    (window,) = find_due_windows.fn(MODEL, AS_OF + 16 * HOUR)
    assert window.start == last.window.end
    assert measure_window.fn(MODEL, window, AS_OF + 16 * HOUR).rows == 100


def test_rows_that_may_still_be_overtaken_are_waited_for(monitored: Workspace) -> None:
    configure(monitored, "window: 100 rows, lateness: 6h")
    full = FIRST + 99 * HOUR

    assert find_due_windows.fn(MODEL, full + 6 * HOUR) == ()
    log(monitored, [FIRST + 98.5 * HOUR], "overtaken")
    (window,) = find_due_windows.fn(MODEL, full + 6.5 * HOUR)
    assert window.end < full
    assert measure_window.fn(MODEL, window, AS_OF).rows == 100


def test_a_config_may_go_from_a_span_to_a_count_and_no_row_is_skipped(monitored: Workspace) -> None:
    configure(monitored, "window: 7d")
    (week,) = measure_all(FIRST + WEEK)
    file = monitored.project.root / "configs" / "models" / f"{MODEL}.yaml"
    file.write_text(file.read_text().replace("window: 7d, min", "window: 80 rows, min"))

    first, second = measure_all()

    assert (first.window.start, second.window.start) == (week.window.end, first.window.end)
    assert (week.rows, first.rows, second.rows) == (168, 80, 80)


def test_drift_is_held_against_as_many_training_rows_a_window(counted: Workspace) -> None:
    champion = counted.ledger.champion(MODEL)
    assert champion is not None
    config = counted.project.model(MODEL)

    windows = training_windows(counted, config, champion).windows

    assert [window.rows for window in windows] == [100]  # of 240; first and last are left out


def test_a_window_is_measured_again_when_its_labels_are_due_however_many_came_since(
    monitored: Workspace,
) -> None:
    configure(monitored, "window: 10 rows", delay="13d")
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    records = measure_all()
    assert len(records) == 33
    assert {r.performance.labels for r in records[3:]} == {0}
    assert find_due_windows.fn(MODEL, AS_OF) == ()
    later = records[5].window.end + timedelta(days=13)

    known = {r.window for r in records}
    again = [r for r in measure_all(later) if r.window in known]

    assert [r.window for r in again] == [r.window for r in records[2:6]]
    assert {(r.performance.labels, r.performance.early) for r in again} == {(10, 0)}
    assert not known.intersection(find_due_windows.fn(MODEL, later))


def test_a_replay_sends_what_fills_a_window_and_the_rest(counted: Workspace) -> None:
    champion = counted.ledger.champion(MODEL)
    assert champion is not None
    config = counted.project.model(MODEL)
    replay = Replay(counted, config, champion, "http://127.0.0.1:9")

    windows = replay.windows

    assert [replay.fills(window) for window in windows] == [True] * (len(windows) - 1) + [False]
    assert len(windows) == len(replay.rows) // 100 + 1
    times = replay.rows["hour"]
    inside = [((times >= w.start) & (times < w.end)).sum() for w in windows]
    assert inside == [100] * (len(windows) - 1) + [len(replay.rows) % 100]
