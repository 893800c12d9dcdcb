"""Does a source that is read in parts give the profile of its rows?"""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.adapters.data.profiling import (
    ArrowReader,
    Layout,
    batch_part,
    frame_part,
    parquet_parts,
    profile_reference_rows,
    profile_rows,
)
from modelyard.domain.profiles import (
    PREDICTION,
    SCORE,
    CategoricalProfile,
    Levels,
    profile_reference,
    profile_window,
)
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.errors import DataError, InvalidInputError, RequestError

KINDS = {
    "price": ColumnKind.NUMERIC,
    "city": ColumnKind.CATEGORICAL,
    PREDICTION: ColumnKind.CATEGORICAL,
    SCORE: ColumnKind.NUMERIC,
}
LAYOUT = Layout(KINDS, {PREDICTION: "__prediction", SCORE: "__probability"})


def rows(seed: int, count: int = 5_000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    score = np.where(rng.random(count) < 0.1, np.nan, rng.random(count))
    return pd.DataFrame(
        {
            "price": np.where(rng.random(count) < 0.1, np.nan, rng.lognormal(3, 1, count)),
            "unused": "never read",
            "city": rng.choice(np.array(["Rome", "Oslo", "Bern", None], dtype=object), count),
            "__prediction": np.where(np.nan_to_num(score) > 0.5, "yes", "no"),
            "__probability": score,
        }
    )


def whole(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    named = frame.rename(columns={"__prediction": PREDICTION, "__probability": SCORE})
    return {name: named[name].to_numpy() for name in KINDS}


def written(folder: Path, frame: pd.DataFrame, name: str = "rows.parquet") -> Path:
    frame.to_parquet(folder / name, row_group_size=700)
    return folder / name


def test_row_groups_in_threads_give_the_profile_of_all_rows(tmp_path: Path) -> None:
    known, seen = rows(1), rows(2)
    parts = parquet_parts([written(tmp_path, known)], LAYOUT)
    assert len(parts) == 8
    reference = profile_reference_rows(parts, KINDS)
    expected = profile_reference(whole(known), KINDS)
    price, other = reference.columns["price"], expected.columns["price"]
    assert price.joint == other.joint
    assert price.model_dump(exclude={"mean", "sd", "log_mean"}) == other.model_dump(
        exclude={"mean", "sd", "log_mean"}
    )
    assert reference.columns["city"] == expected.columns["city"]
    assert reference.columns[PREDICTION] == expected.columns[PREDICTION]
    parts = parquet_parts([written(tmp_path, seen)], LAYOUT)
    one, many = (profile_rows(parts, reference, threads=n) for n in (1, 3))
    assert one == many  # to the last digit
    window = profile_window(whole(seen), reference)
    assert one.columns["city"] == window.columns["city"]
    score, other = one.columns[SCORE], window.columns[SCORE]
    assert score.model_dump(include={"counts", "nulls"}) == other.model_dump(
        include={"counts", "nulls"}
    )
    assert score.joint == ()


def test_arrow_readers_and_chunks_of_frames_give_the_same_profile() -> None:
    kinds = {name: kind for name, kind in KINDS.items() if name in ("price", "city")}
    frame = rows(1)[["price", "city"]]
    contract = Contract(
        task=MLTask.REGRESSION,
        columns=tuple(Column(name=name, kind=kind) for name, kind in kinds.items()),
        target="y",
    )
    chunks = [frame[:1_000], frame[1_000:]]
    arrow = batch_part(lambda: map(pa.RecordBatch.from_pandas, chunks), Layout(kinds))
    pandas = frame_part(lambda: chunks, contract)
    reference = profile_reference_rows([arrow], kinds)
    assert reference == profile_reference_rows([pandas], kinds)
    assert profile_rows([arrow, arrow], reference) == profile_rows([pandas, pandas], reference)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([1, None, 3]), [1, np.nan, 3]),
        (pa.array([True, None, False]), [1, np.nan, 0]),
        (pa.array([1.5, None], pa.float32()), [1.5, np.nan]),
        (pa.array([Decimal("1.25"), None]), [1.25, np.nan]),
        (pa.nulls(2), [np.nan, np.nan]),
        (pa.array([2, None]).dictionary_encode(), [2, np.nan]),
    ],
)
def test_numbers_of_any_type_are_read(cells: pa.Array, expected: list[float]) -> None:
    reader = ArrowReader(Layout({"x": ColumnKind.NUMERIC}))
    read = reader.read(pa.record_batch({"x": cells}))
    assert np.array_equal(read["x"], np.array(expected), equal_nan=True)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([1, None, 1]), ["1", None, "1"]),
        (pa.array([1.0, 1.5, float("nan"), None]), ["1", "1.5", None, None]),
        (pa.array([True, None]), ["True", None]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array(["a", None], pa.large_string()), ["a", None]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_categories_of_any_type_are_called_as_a_service_calls_them(
    cells: pa.Array, expected: list[str | None]
) -> None:
    reader = ArrowReader(Layout({"x": ColumnKind.CATEGORICAL}))
    read = reader.read(pa.record_batch({"x": cells}))["x"]
    assert isinstance(read, Levels)
    assert [None if code < 0 else read.names[code] for code in read.codes] == expected


def test_a_dictionary_that_changes_between_batches_is_read_anew() -> None:
    kinds = {"x": ColumnKind.CATEGORICAL}
    batches = [pa.record_batch({"x": pa.array(words)}) for words in (["a", "b"], ["b", "a", "b"])]
    profile = profile_reference_rows([batch_part(lambda: batches, Layout(kinds))], kinds)
    column = profile.columns["x"]
    assert isinstance(column, CategoricalProfile)
    assert column.levels == {"b": 3, "a": 2}


def test_a_text_where_a_number_is_meant_is_refused() -> None:
    reader = ArrowReader(Layout({"x": ColumnKind.NUMERIC}))
    with pytest.raises(RequestError, match=r"'x'.*expected a number or null, got 'many'"):
        reader.read(pa.record_batch({"x": pa.array(["many"])}))


def test_numbers_as_categories_and_missing_columns_of_files_are_told_apart(tmp_path: Path) -> None:
    kinds = {"code": ColumnKind.CATEGORICAL, "price": ColumnKind.NUMERIC}
    pq.write_table(pa.table({"code": [7, 7, None], "price": [1, 2, 3]}), tmp_path / "codes.parquet")
    pq.write_table(pa.table({"price": [1.0]}), tmp_path / "other.parquet")
    parts = parquet_parts([tmp_path / "codes.parquet"], Layout(kinds))
    reference = profile_reference_rows(parts, kinds)
    column = reference.columns["code"]
    assert isinstance(column, CategoricalProfile)
    assert (column.levels, column.nulls) == ({"7": 2}, 1)
    lacking = parquet_parts([tmp_path / "other.parquet"], Layout(kinds))
    with pytest.raises(InvalidInputError, match="lacks code"):
        profile_reference_rows(lacking, kinds)
    window = profile_rows(lacking, reference)
    assert (window.rows, window.columns["code"].nulls) == (1, 1)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, rows(1))
    parts = parquet_parts([file], LAYOUT)
    file.write_bytes(file.read_bytes()[:1_000])
    with pytest.raises(DataError, match=r"rows.parquet is damaged"):
        parquet_parts([file], LAYOUT)
    with pytest.raises(DataError, match=r"rows.parquet is damaged"):
        profile_reference_rows(parts, KINDS)


def test_no_rows_are_no_reference_and_an_empty_window() -> None:
    nothing = batch_part(lambda: iter(()), LAYOUT)
    with pytest.raises(InvalidInputError, match="has no rows"):
        profile_reference_rows([nothing], KINDS)
    assert profile_rows([], profile_reference(whole(rows(1)), KINDS)).rows == 0


def test_profiling_a_file_imports_no_pandas(tmp_path: Path) -> None:
    file = written(tmp_path, rows(seed=1, count=2_000))
    code = f"""
import sys
from modelyard.adapters.data.profiling import Layout, parquet_parts, profile_reference_rows
from modelyard.domain.values import ColumnKind
layout = Layout({{"price": ColumnKind.NUMERIC, "city": ColumnKind.CATEGORICAL}})
profile = profile_reference_rows(parquet_parts([{str(file)!r}], layout), layout.kinds)
print(profile.rows, "pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2000", "False"]
