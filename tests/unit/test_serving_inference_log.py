"""No logged row is lost or counted twice, whatever is killed in between."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from modelyard.adapters.data.inference_log import PredictionLog
from modelyard.serving.inference_log import InferenceLog, InferenceRecord

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
DAY = (NOON - timedelta(days=1), NOON + timedelta(days=1))


def read(folder: Path) -> pd.DataFrame:
    return PredictionLog(folder).read(*DAY)


def rotate(folder: Path) -> list[str]:
    return PredictionLog(folder).rotate(now=NOON)


Open = Callable[..., InferenceLog]


@pytest.fixture
def open_log(tmp_path: Path) -> Iterator[Open]:
    opened: list[InferenceLog] = []

    def open_one(release: str = "1.0.0", **more: Any) -> InferenceLog:
        opened.append(InferenceLog(tmp_path, release, clock=lambda: NOON, **more))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


def record(request: str, minutes: int = 0, **changes: Any) -> InferenceRecord:
    """Return a request of two rows, a minute apart."""
    times = [NOON + timedelta(minutes=minutes + row) for row in range(2)]
    values = {
        "request_id": request,
        "at": NOON + timedelta(minutes=minutes),
        "release": "1.0.0",
        "replica": "r1",
        "columns": ("temp", "season"),
        "ids": [f"{request}-0", f"{request}-1"],
        "times": [t.isoformat() for t in times],
        "rows": [[1.5, "summer"], [None, None]],
        "predictions": [10.0, None],
        "probabilities": None,
        "classes": (),
        "positive": None,
    }
    return InferenceRecord.model_construct(**(values | changes))


def test_rows_come_back_as_they_were_logged(tmp_path: Path, open_log: Open) -> None:
    open_log().append(record("q"))
    frame = read(tmp_path)
    assert list(frame.columns) == [
        *("__id", "__time", "__at", "__release", "__request_id", "__row"),
        *("temp", "season", "__prediction", "__probability"),
    ]
    assert frame["__id"].tolist() == ["q-0", "q-1"]
    assert frame["__time"].tolist() == [
        pd.Timestamp(NOON),
        pd.Timestamp(NOON + timedelta(minutes=1)),
    ]
    assert frame["temp"].tolist()[0] == 1.5
    assert frame["season"].tolist() == ["summer", None]
    assert frame["temp"].isna().tolist() == frame["__prediction"].isna().tolist() == [False, True]
    assert frame["__probability"].isna().all()


def test_an_empty_log_has_no_rows_but_its_columns(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        frame = read(folder)
        assert len(frame) == 0
        assert {"__id", "__time", "__prediction", "__probability"} <= set(frame.columns)


def test_the_range_is_half_open_in_event_time(tmp_path: Path, open_log: Open) -> None:
    log = open_log()
    for minutes in (0, 2, 4):
        log.append(record(f"q{minutes}", minutes))
    frame = PredictionLog(tmp_path).read(NOON + timedelta(minutes=1), NOON + timedelta(minutes=4))
    assert frame["__id"].tolist() == ["q0-1", "q2-0", "q2-1"]


def test_a_torn_last_line_is_left_out(tmp_path: Path, open_log: Open) -> None:
    log = open_log()
    log.append(record("q"))
    with log.segment.open("ab") as file:
        file.write(b'{"request_id": "torn", "at"')
    assert len(read(tmp_path)) == 2
    log.close()
    assert len(rotate(tmp_path)) == 1
    assert len(read(tmp_path)) == 2


def test_a_retried_request_counts_once(tmp_path: Path, open_log: Open) -> None:
    open_log().append(record("q"))
    open_log().append(record("q", minutes=1, replica="r2"))
    frame = read(tmp_path)
    assert frame["__id"].tolist() == ["q-0", "q-1"]
    assert frame["__at"].tolist() == [pd.Timestamp(NOON)] * 2


def test_rows_of_a_client_that_repeats_its_request_id_all_count(
    tmp_path: Path, open_log: Open
) -> None:
    log = open_log()
    log.append(record("q", ids=["a", "b"]))
    log.append(record("q", ids=["c", "d"]))
    assert sorted(read(tmp_path)["__id"]) == ["a", "b", "c", "d"]


def test_segments_rotate_by_size_and_two_replicas_never_share_one(
    tmp_path: Path, open_log: Open
) -> None:
    first, second = open_log(segment_bytes=1000), open_log()
    assert first.segment != second.segment
    for number in range(10):
        first.append(record(f"q{number}"))
    sizes = [path.stat().st_size for path in tmp_path.glob("*.jsonl")]
    assert len(sizes) > 3
    assert max(sizes) <= 1000
    assert len(read(tmp_path)) == 20


def test_compaction_keeps_every_row_and_leaves_live_segments(
    tmp_path: Path, open_log: Open
) -> None:
    log = open_log(segment_bytes=1000)
    for number in range(10):
        log.append(record(f"q{number}", number))
    before = read(tmp_path)
    made = rotate(tmp_path)
    assert len(made) > 2
    assert list(tmp_path.glob("*.jsonl")) == [log.segment]
    pd.testing.assert_frame_equal(read(tmp_path), before)
    assert rotate(tmp_path) == []
    log.append(record("after", 20))
    assert len(read(tmp_path)) == 22


def test_compaction_killed_before_the_segment_is_removed_doubles_nothing(
    tmp_path: Path, open_log: Open
) -> None:
    log = open_log(segment_bytes=10)
    log.append(record("a", ids=["1", "2"]))
    log.append(record("b"))
    segment = next(p for p in tmp_path.glob("*.jsonl") if p != log.segment)
    content = segment.read_bytes()
    rotate(tmp_path)
    segment.write_bytes(content)  # as if it had been killed between the two steps
    assert len(read(tmp_path)) == 4
    assert rotate(tmp_path) == []
    assert not segment.exists()
    assert len(read(tmp_path)) == 4


def test_compaction_killed_while_it_writes_loses_nothing(tmp_path: Path, open_log: Open) -> None:
    log = open_log(segment_bytes=10)
    log.append(record("a"))
    log.append(record("b"))
    segment = next(p for p in tmp_path.glob("*.jsonl") if p != log.segment)
    draft = tmp_path / f".{segment.stem}.from-x-to-y.parquet.part"
    draft.write_bytes(b"PAR1 half")
    assert len(read(tmp_path)) == 4
    assert len(rotate(tmp_path)) == 1
    assert not draft.exists()
    assert len(read(tmp_path)) == 4


def test_an_empty_closed_segment_is_removed(tmp_path: Path) -> None:
    InferenceLog(tmp_path, "1.0.0").close()
    assert rotate(tmp_path) == []
    assert list(tmp_path.glob("*")) == []


def test_the_binary_probability_is_the_positive_class(tmp_path: Path, open_log: Open) -> None:
    open_log().append(
        record(
            "q",
            predictions=["yes", "no"],
            probabilities=[[0.9, 0.1], [0.2, 0.8]],
            classes=("yes", "no"),
            positive="yes",
        )
    )
    frame = read(tmp_path)
    assert frame["__prediction"].tolist() == ["yes", "no"]
    assert frame["__probability"].tolist() == [0.9, 0.2]


def test_more_classes_have_a_column_each(tmp_path: Path, open_log: Open) -> None:
    open_log().append(
        record(
            "q",
            predictions=["b", "a"],
            probabilities=[[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]],
            classes=("a", "b", "c"),
        )
    )
    frame = read(tmp_path)
    assert frame["__probability"].tolist() == [0.7, 0.5]
    assert frame["__probability_c"].tolist() == [0.2, 0.2]


def test_a_column_that_changed_its_type_between_releases_becomes_text(
    tmp_path: Path, open_log: Open
) -> None:
    open_log("1.0.0").append(record("a"))
    open_log("2.0.0").append(
        record("b", columns=("temp", "humidity"), rows=[["warm", 1.0], ["cold", 2.0]])
    )
    frame = read(tmp_path)
    by_id = frame.set_index("__id")
    assert by_id.loc["a-0", "temp"] == "1.5"
    assert by_id.loc["b-0", "temp"] == "warm"
    assert by_id["humidity"].isna().tolist().count(True) == 2


def test_a_line_is_one_json_object(open_log: Open) -> None:
    log = open_log()
    log.append(record("line\u2028separator"))
    assert json.loads(log.segment.read_bytes())["request_id"] == "line\u2028separator"


def test_a_line_that_somebody_changed_is_left_out_and_kept_aside(
    tmp_path: Path, open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log()
    log.append(record("before"))
    with log.segment.open("ab") as file:
        for line in (
            "no json",
            "[]",
            '{"request_id": "half"}',
            json.dumps(record("time", times=["noon", None]).__dict__, default=str),
            json.dumps(record("cells", rows=[[1.5], [2.5]]).__dict__, default=str),
            json.dumps(record("short", predictions=[1.0]).__dict__, default=str),
            json.dumps(record("scores", probabilities=[[], []]).__dict__, default=str),
        ):
            file.write(f"{line}\n".encode())
    log.append(record("after"))
    assert set(read(tmp_path)["__request_id"]) == {"before", "after"}
    log.close()
    assert len(rotate(tmp_path)) == 1
    assert set(read(tmp_path)["__request_id"]) == {"before", "after"}
    (aside,) = tmp_path.glob("*.jsonl.damaged")
    assert b"no json" in aside.read_bytes()
    assert "7 lines are no logged requests and were left out, first line 2" in caplog.text


def test_one_value_of_another_type_costs_its_request_alone(tmp_path: Path, open_log: Open) -> None:
    log = open_log()
    log.append(record("before"))
    with log.segment.open("ab") as file:
        wrong = json.dumps(record("typed", predictions=["much"]).__dict__, default=str)
        file.write(f"{wrong}\n".encode())
    log.append(record("after"))
    log.close()
    assert set(read(tmp_path)["__request_id"]) == {"before", "after"}
    rotate(tmp_path)
    assert set(read(tmp_path)["__request_id"]) == {"before", "after"}
    (aside,) = PredictionLog(tmp_path).damaged()
    assert aside.endswith(".jsonl.damaged")


@contextmanager
def full_disk(log: InferenceLog) -> Iterator[None]:
    """Have the kernel refuse after some bytes of a line, as it does on a disk that gets full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.segment.stat().st_size + 10, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)


def refuse(log: InferenceLog, *requests: str) -> None:
    for request in requests:
        with pytest.raises(OSError, match="File too large"):
            log.append(record(request))


def test_requests_that_found_the_disk_full_are_written_once_it_has_room(
    tmp_path: Path, open_log: Open
) -> None:
    log = open_log()
    log.append(record("before"))
    with full_disk(log):
        refuse(log, "first", "second")
        assert read(tmp_path)["__request_id"].unique().tolist() == ["before"]
    log.append(record("after"))
    assert len(list(tmp_path.iterdir())) == 1
    assert sorted(read(tmp_path)["__request_id"]) == sorted(
        2 * ["before", "after", "first", "second"]
    )


def test_what_waited_for_room_is_written_when_the_log_is_closed(
    tmp_path: Path, open_log: Open
) -> None:
    log = open_log()
    log.append(record("before"))
    with full_disk(log):
        refuse(log, "waits")
    log.close()
    assert set(read(tmp_path)["__request_id"]) == {"before", "waits"}


def test_no_more_waits_in_memory_than_has_room_there(
    tmp_path: Path, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log()
    log.append(record("before"))
    monkeypatch.setattr("modelyard.serving.inference_log.WAITING_BYTES", 1_000)
    with full_disk(log):
        refuse(log, *(f"refused-{number}" for number in range(9)))
    log.append(record("after"))
    kept = set(read(tmp_path)["__request_id"])
    assert {"before", "refused-0", "after"} <= kept
    assert len(kept) < 9
