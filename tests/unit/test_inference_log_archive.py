"""What was logged is found again, wherever it is kept, and only what is asked for is read."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from modelyard.adapters.data.inference_log import Labels, PredictionLog
from modelyard.adapters.data.labels import store_labels
from modelyard.adapters.data.log_archive import LogArchive
from modelyard.adapters.data.log_segments import FIXED
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.errors import DataError
from modelyard.serving.inference_log import InferenceLog

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
DAY = (NOON - timedelta(days=1), NOON + timedelta(days=1))
CONTRACT = Contract(
    task=MLTask.REGRESSION,
    columns=(
        Column(name="temp", kind=ColumnKind.NUMERIC),
        Column(name='the "season"', kind=ColumnKind.CATEGORICAL),
    ),
    target="cnt",
)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server on loopback that answers as S3 does."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "store", "s3"])
def log(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PredictionLog]:
    """A log whose closed segments are in a folder, or in an object store."""
    if request.param == "folder":
        yield PredictionLog(tmp_path)
        return
    if request.param == "s3":
        for name, value in {
            "AWS_ENDPOINT_URL": request.getfixturevalue("s3"),
            "AWS_ACCESS_KEY_ID": "user",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
    protocol = "s3" if request.param == "s3" else "memory"
    bucket = f"{protocol}://{uuid.uuid4().hex}"
    storage = fsspec.filesystem(protocol)
    storage.mkdir(bucket)
    yield PredictionLog(tmp_path, f"{bucket}/log/bikes")
    storage.rm(bucket, recursive=True)


def write(folder: Path, request: str, at: datetime = NOON, **changes: Any) -> None:
    """Write a segment of one request with two rows, a minute apart, and close it."""
    segment = InferenceLog(folder, "1.0.0", clock=lambda: at)
    segment.describe(CONTRACT, "r1")
    values = {
        "request_id": request,
        "at": at,
        "ids": [f"{request}-0", f"{request}-1"],
        "times": [(at + timedelta(minutes=row)).isoformat() for row in range(2)],
        "rows": [[1.5, "summer"], [2.5, None]],
        "predictions": [10.0, 20.0],
        "probabilities": None,
    }
    segment.append_lines([orjson.dumps(values | changes)])
    segment.close()


def test_rows_are_the_same_before_and_after_they_are_rotated(
    tmp_path: Path, log: PredictionLog
) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", NOON + timedelta(hours=2))
    before = log.read(*DAY)
    assert before["__id"].tolist() == ["a-0", "a-1", "b-0", "b-1"]
    assert len(log.rotate(now=NOON)) == 2
    assert list(tmp_path.glob("*.jsonl")) == []
    pd.testing.assert_frame_equal(log.read(*DAY), before)
    assert log.span() == (NOON, NOON + timedelta(hours=2, minutes=1))
    assert log.known(["b-1", "never", "a-0"]) == {"a-0", "b-1"}
    assert log.rotate(now=NOON) == []


def test_what_a_release_answered_in_a_span_is_found_open_or_rotated(
    tmp_path: Path, log: PredictionLog
) -> None:
    span = (NOON, NOON + timedelta(minutes=5))
    write(tmp_path, "early", NOON - timedelta(microseconds=1))
    write(tmp_path, "first", NOON)
    write(tmp_path, "another's", NOON, release="2.0.0")
    write(tmp_path, "last", span[1] - timedelta(microseconds=1))
    write(tmp_path, "late", span[1])
    before = log.answered("1.0.0", *span, most=100)
    assert set(before["__request_id"]) == {"first", "last"}
    assert set(log.answered("2.0.0", *span, most=100)["__request_id"]) == {"another's"}
    assert len(log.rotate(now=span[1] + timedelta(hours=2))) == 5
    pd.testing.assert_frame_equal(log.answered("1.0.0", *span, most=100), before)


def test_a_column_has_its_contracts_type_though_no_request_gave_a_value(
    tmp_path: Path, log: PredictionLog
) -> None:
    write(tmp_path, "empty", rows=[[None, None]] * 2, predictions=[None] * 2)
    log.rotate(now=NOON)
    (batch,) = log.batches(*DAY)
    types = {f.name: str(f.type) for f in batch.schema}
    assert types["temp"] == types["__prediction"] == types["__probability"] == "double"
    assert types['the "season"'] == "string"
    assert types["__time"] == "timestamp[us, tz=UTC]"


def test_releases_and_repeated_ids_are_counted(tmp_path: Path, log: PredictionLog) -> None:
    assert (log.served(*DAY), log.repeated_ids(*DAY)) == ({}, 0)
    write(tmp_path, "a")
    write(tmp_path, "a")  # sent again, and answered by another replica: one request
    assert (log.served(*DAY), log.repeated_ids(*DAY)) == ({"1.0.0": 2}, 0)
    write(tmp_path, "b", ids=["a-0", "b-1"], release="1.1.0")
    write(tmp_path, "c", ids=["c-0", "a-0"], release="1.1.0")
    log.rotate(now=NOON)
    assert log.repeated_ids(*DAY) == 3
    assert list(log.served(*DAY).items()) == [("1.1.0", 4), ("1.0.0", 2)]


def test_what_is_made_of_the_rows_is_made_of_all_of_them(tmp_path: Path) -> None:
    write(tmp_path, "a")
    log = PredictionLog(tmp_path)
    assert log.fold(*DAY, lambda batches: sum(b.num_rows for b in batches)) == 2


def test_a_request_does_not_repeat_what_its_segment_says_once(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (segment,) = tmp_path.glob("*.jsonl")
    first, second = segment.read_text().splitlines()
    assert "season" in first
    assert "season" not in second
    assert "1.0.0" not in second


def test_a_segment_that_is_an_hour_old_takes_no_more_requests(tmp_path: Path) -> None:
    now = [NOON]
    segment = InferenceLog(tmp_path, "1.0.0", clock=lambda: now[0])
    for minutes in (0, 59, 61):
        now[0] = NOON + timedelta(minutes=minutes)
        segment.append_lines([b"{}"])
    segment.close()
    lines = [len(path.read_text().splitlines()) for path in sorted(tmp_path.glob("*.jsonl"))]
    assert lines == [2, 1]


def test_files_outside_the_span_are_not_opened(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    write(tmp_path, "old", NOON - timedelta(days=3))
    write(tmp_path, "new")
    (old, _) = log.rotate(now=NOON)
    (tmp_path / old).write_bytes(b"nobody reads this")
    assert log.read(*DAY)["__id"].tolist() == ["new-0", "new-1"]
    assert log.span() == (NOON - timedelta(days=3), NOON + timedelta(minutes=1))
    assert log.damaged() == ()
    assert log.read(NOON - timedelta(days=9), NOON).empty
    assert log.damaged() == (f"{old}.damaged",)


def test_a_file_that_cannot_be_read_is_set_aside_and_comes_back_by_its_name(
    tmp_path: Path, log: PredictionLog, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "lost")
    write(tmp_path, "kept", NOON + timedelta(hours=2))
    lost, _ = log.rotate(now=NOON)
    storage, path = log._archive.storage, log._archive.segments()[0].path
    whole = storage.cat_file(path)
    storage.pipe_file(path, whole[:-20])

    assert set(log.read(*DAY)["__id"]) == {"kept-0", "kept-1"}
    assert log.damaged() == (f"{lost}.damaged",)
    assert f"{lost} is damaged" in caplog.text

    storage.rm_file(storage._strip_protocol(f"{path}.damaged"))
    storage.pipe_file(path, whole)
    assert len(log.read(*DAY)) == 4
    assert log.damaged() == ()


def test_windows_that_got_rows_since_they_were_read_are_told(
    tmp_path: Path, log: PredictionLog
) -> None:
    hour = timedelta(hours=1)
    windows = [(NOON + n * hour, NOON + (n + 1) * hour, NOON + 5 * hour) for n in range(4)]
    early = [(NOON + n * hour, NOON + n * hour + timedelta(minutes=1)) for n in (0, 1, 3)]
    for number, times in enumerate(early):
        stamps = [time.isoformat() for time in times]
        write(tmp_path, f"early-{number}", NOON + 4 * hour, times=stamps)
    assert log.late(windows) == [False] * 4
    late = [(NOON + n * hour).isoformat() for n in (1, 9)]
    write(tmp_path, "late", NOON + 6 * hour, times=late)
    write(tmp_path, "mirrored-late", NOON + 7 * hour, times=[NOON.isoformat()] * 2)
    assert log.late(windows) == [False, True, False, False]
    log.rotate(now=NOON)
    assert log.late(windows) == [False, True, False, False]
    assert log.late([]) == []


def test_columns_that_are_not_asked_for_are_not_read(tmp_path: Path, log: PredictionLog) -> None:
    write(tmp_path, "a")
    for _ in range(2):
        frame = log.read(*DAY, columns=["__release", "temp", "of another release"])
        assert list(frame.columns) == ["__release", "temp", "of another release"]
        assert frame["temp"].tolist() == [1.5, 2.5]
        assert frame["of another release"].isna().all()
        log.rotate(now=NOON)


def test_a_row_has_the_label_that_became_known_last_by_then(
    tmp_path: Path, log: PredictionLog
) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    folder = tmp_path / "labels"
    folder.mkdir()
    assert log.read(*DAY, labels=Labels(folder, NOON))["label"].isna().all()
    for days, values in enumerate([{"a-0": 1.0, "a-1": 2.0}, {"a-0": 3.0, "other": 9.0}]):
        known = pd.Series([NOON + timedelta(days=days)] * len(values))
        store_labels(folder, pd.Series(list(values)), pd.Series(list(values.values())), known)
    log.rotate(now=NOON)
    for known_by, labels in ((NOON, [1.0, 2.0]), (NOON + timedelta(days=1), [3.0, 2.0])):
        frame = log.read(*DAY, labels=Labels(folder, known_by)).set_index("__id")
        assert frame.loc[["a-0", "a-1"], "label"].tolist() == labels
        assert frame.loc[["b-0", "b-1"], "label"].isna().all()
        assert frame.loc["a-1", "label_time"] == pd.Timestamp(NOON)
        assert len(frame) == 4


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-20], lambda content: bytes(204) + content[204:]]
)
def test_labels_that_are_damaged_are_named(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    write(tmp_path, "a")
    folder = tmp_path / "labels"
    folder.mkdir()
    store_labels(folder, pd.Series(["a-0"]), pd.Series([1.0]), pd.Series([NOON]))
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=rf"{file.name} is damaged.*Restore it"):
        PredictionLog(tmp_path).read(*DAY, labels=Labels(folder, NOON))


def test_old_segments_are_removed_and_then_the_oldest_until_the_rest_is_small_enough(
    tmp_path: Path, log: PredictionLog
) -> None:
    for days in range(5):
        write(tmp_path, f"d{days}", NOON - timedelta(days=days))
    always = (NOON - timedelta(days=9), NOON + timedelta(days=1))
    log.rotate(now=NOON, keep=timedelta(days=3), max_bytes=10**9)
    assert set(log.read(*always)["__request_id"]) == {"d0", "d1", "d2", "d3"}
    archive = LogArchive(str(tmp_path)) if list(tmp_path.glob("*.parquet")) else log._archive
    size = sum(segment.size_bytes for segment in archive.segments())
    log.rotate(now=NOON, keep=None, max_bytes=size - 1)
    assert set(log.read(*always)["__request_id"]) == {"d0", "d1", "d2"}
    live = InferenceLog(tmp_path, "1.0.0", clock=lambda: NOON - timedelta(days=99))
    log.rotate(now=NOON, keep=timedelta(seconds=1), max_bytes=0)
    assert live.segment.exists()
    live.close()
    assert len(log.read(*always)) == 0


def test_a_year_of_rows_is_read_in_the_memory_of_a_day(tmp_path: Path) -> None:
    archive, rows, files = LogArchive(str(tmp_path)), 100_000, 6
    for number in range(files):
        begun = NOON + timedelta(days=number)
        times = np.datetime64(begun.replace(tzinfo=None), "us") + np.arange(rows) * 500_000
        ids = pa.array([f"{number}-{row}" for row in range(rows)])
        fixed = [ids, times, times, pa.array(["1.0.0"] * rows), ids, pa.array([0] * rows)]
        table = pa.Table.from_arrays(
            [pa.array(values).cast(f.type) for values, f in zip(fixed, FIXED, strict=True)],
            schema=FIXED,
        ).append_column("temp", pa.array(np.arange(rows, dtype=np.float64)))
        archive.put(f"{begun:%Y%m%dT%H%M%S%fZ}-1.0.0-{number}", table, tmp_path)
    log = PredictionLog(tmp_path, memory="96MB")
    end = NOON + timedelta(days=files)
    seen, last = 0, NOON - timedelta(days=1)
    for batch in log.batches(NOON, end, columns=["__time", "temp"]):
        assert batch.num_rows <= 122_880
        assert batch["__time"][0].as_py() >= last
        last = batch["__time"][-1].as_py()
        seen += batch.num_rows
    assert seen == rows * files


_ROTATE_AND_DIE = """
import os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
from modelyard.adapters.data.inference_log import PredictionLog
log = PredictionLog(Path(sys.argv[1]))
for delay in map(float, sys.argv[2:]):
    child = os.fork()
    if not child:
        log.rotate(now=datetime.now(UTC))
        os._exit(0)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_a_rotation_that_is_killed_at_any_time_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    for number in range(150):
        write(tmp_path, f"q{number}", NOON + timedelta(seconds=number))
    log = PredictionLog(tmp_path)
    before = log.read(*DAY)
    delays = [f"{rng.uniform(0, 0.12):.4f}" for _ in range(20)]
    subprocess.run([sys.executable, "-c", _ROTATE_AND_DIE, str(tmp_path), *delays], check=True)
    assert len(list(tmp_path.glob("*.parquet"))) > 0
    pd.testing.assert_frame_equal(log.read(*DAY), before)
    log.rotate(now=NOON)
    pd.testing.assert_frame_equal(log.read(*DAY), before)
    assert len(list(tmp_path.iterdir())) == 150


def test_a_file_of_somebody_else_in_the_archive_is_left_alone(
    tmp_path: Path, log: PredictionLog
) -> None:
    write(tmp_path, "a")
    (tmp_path / "notes.parquet").write_bytes(b"mine")
    log.rotate(now=NOON, keep=timedelta(0), max_bytes=0)
    assert (tmp_path / "notes.parquet").exists()
    assert len(log.read(*DAY)) == 0
