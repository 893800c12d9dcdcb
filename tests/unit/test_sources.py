"""Rows are read in time order, or refused with the place, the value and the mend."""

import gzip
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.data.sources import EARLY, labelled, read_rows
from modelyard.config import Data
from modelyard.domain.values import MLTask
from modelyard.errors import DataError

CSV = """id,at,x,kind,y
1,2024-01-02,1.5,a,10
2,2024-01-01,2.5,b,20
3,2024-01-03,,NA,30
"""


def data(source: object, **more: Any) -> Data:
    return Data.model_validate({"source": str(source), "target": "y", **more})


def refusal(folder: Path, text: str, task: MLTask | None = None, **more: Any) -> str:
    (folder / "rows.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_rows(data("rows.csv", **more), root=folder, task=task)
    return str(caught.value)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_a_csv_is_read_with_types_and_sorted_by_time(csv: Path) -> None:
    rows = read_rows(data("rows.csv", time="at", id="id"), root=csv.parent)
    assert rows["id"].tolist() == ["2", "1", "3"]
    assert str(rows["at"].dt.tz) == "UTC"
    assert (rows["x"].dtype, rows["y"].dtype) == ("float64", "int64")
    assert rows["kind"].tolist() == ["b", "a", None]
    assert rows.index.tolist() == [0, 1, 2]


def test_gzip_parquet_and_other_delimiters_hold_the_same_rows(csv: Path) -> None:
    folder = csv.parent
    expected = read_rows(data("rows.csv"), root=folder)
    (folder / "rows.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    (folder / "semicolon.csv").write_text("\ufeff" + CSV.replace(",", ";"), encoding="utf-8")
    pd.read_csv(csv).to_parquet(folder / "rows.parquet")
    for name in ("rows.csv.gz", "semicolon.csv", "rows.parquet"):
        rows = read_rows(data(name), root=folder)
        pd.testing.assert_frame_equal(rows, expected, check_dtype=name.startswith("rows.csv"))


def test_a_glob_reads_all_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for part in (2, 1):
        (tmp_path / f"part{part}.csv").write_text(f"x,y\n{part},{part}\n", encoding="utf-8")
    assert read_rows(data("part*.csv"), root=tmp_path)["x"].tolist() == [1, 2]
    (tmp_path / "part3.csv").write_text("x,z\n3,3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"part3.csv: its columns differ .*'y', 'z'"):
        read_rows(data("part*.csv"), root=tmp_path)


def test_a_url_is_read_through_its_file_system(csv: Path) -> None:
    assert len(read_rows(data(f"file://{csv}"), root=Path("/nowhere"))) == 3


def test_a_file_system_whose_package_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Install adlfs"):
        read_rows(data("abfs://container/rows.csv"), root=tmp_path)


def test_a_query_reads_a_database_relative_to_the_project(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as database:
        database.execute("CREATE TABLE sales (id TEXT, at TEXT, y REAL)")
        database.execute("INSERT INTO sales VALUES ('007', '2024-01-01', 1.5)")
        database.commit()
    config = data("sqlite:///app.db", query="SELECT * FROM sales", id="id", time="at")
    rows = read_rows(config, root=tmp_path)
    assert rows.to_dict("records") == [
        {"id": "007", "at": pd.Timestamp("2024-01-01", tz="UTC"), "y": 1.5}
    ]
    with pytest.raises(DataError, match="no such table: sale"):
        read_rows(data("sqlite:///app.db", query="SELECT * FROM sale"), root=tmp_path)


def test_an_error_of_a_database_does_not_show_the_password(tmp_path: Path) -> None:
    config = data("postgresql+nodriver://me:s3cret@127.0.0.1/db", query="SELECT 1")
    with pytest.raises(DataError) as caught:
        read_rows(config, root=tmp_path)
    assert "s3cret" not in str(caught.value)
    assert "me:***@" in str(caught.value)


def test_a_function_of_the_project_gives_rows(tmp_path: Path) -> None:
    (tmp_path / "my_rows_of_a_test.py").write_text(
        "import pandas as pd\n"
        "def load(): return pd.DataFrame({'x': [1, 2], 'y': [True, None]})\n"
        "def wrong(): return 7\n",
        encoding="utf-8",
    )
    rows = read_rows(data("my_rows_of_a_test:load"), root=tmp_path)
    assert rows["y"].tolist()[0] == 1.0
    for name, says in [
        ("my_rows_of_a_test:wrong", "returned int, not a pandas DataFrame"),
        ("my_rows_of_a_test:missing", "has no missing"),
        ("no_such_module_here:load", "cannot be imported"),
    ]:
        with pytest.raises(DataError, match=says):
            read_rows(data(name), root=tmp_path)


BAD_FILES = [
    ("", "is empty"),
    ("x,y\n", "holds no row"),
    ("x,y\n1,2\n1,2,3\n4\n", "2 rows do not have the header's 2 cells, first line 3 with 3"),
    ("y\n1\n", "has one column only"),
    ("x,x,y\n1,2,3\n", "column 'x' stands twice"),
    ("x,Y\n1,2\n", "there is no column 'y' (data.target). Did you mean `Y`?"),
    ("x,y\n1,\n2,\n", "target column 'y' is empty in every row"),
]


@pytest.mark.parametrize(("text", "says"), BAD_FILES, ids=[b[1] for b in BAD_FILES])
def test_a_broken_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.csv", b"\x89PNG\r\n\x1a\n\0\0", "is not CSV"),
        ("rows.csv", b"x,y\n1,\xff\xfe\n", "cannot be read"),
        ("rows.csv.gz", b"x,y\n1,2\n", "cannot be read"),
        ("rows.csv.gz", gzip.compress(CSV.encode() * 99, mtime=0)[:60], "cannot be read"),
        ("rows.parquet", b"x,y\n1,2\n", "cannot be read"),
        ("rows.xlsx", b"PK", "is none of .csv"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_rows(data(name), root=tmp_path)


def test_a_missing_file_is_answered_with_the_most_similar_one(csv: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*row\.csv\. Did you mean `rows.csv`\?"):
        read_rows(data("row.csv"), root=csv.parent)
    with pytest.raises(DataError, match="no file matches"):
        read_rows(data("*.parquet"), root=csv.parent)


def test_a_text_in_a_number_column_is_named_with_its_line(tmp_path: Path) -> None:
    # A quoted line break and an empty line stand before the row: the line is the one of the file.
    text = 'x,note,y\n1,"two\nlines",5\n\n?,b,6\n2,c,many\n'
    message = refusal(tmp_path, text, features={"numeric": ["x"]})
    assert "numeric feature 'x' holds 1 values that are no numbers: '?' at" in message
    assert "rows.csv:5." in message
    message = refusal(tmp_path, text, task=MLTask.REGRESSION)
    assert "target column 'y' holds 1 values that are no numbers: 'many' at" in message
    assert "rows.csv:6." in message


def test_the_wrong_number_of_classes_is_refused(tmp_path: Path) -> None:
    three = "x,y\n1,a\n2,b\n3,c\n"
    assert "has 3 classes ('a', 'b', 'c')" in refusal(tmp_path, three, MLTask.BINARY)
    two = "x,y\n1,a\n2,b\n"
    assert "Set task to binary_classification" in refusal(tmp_path, two, MLTask.MULTICLASS)
    assert "no class 'yes'" in refusal(tmp_path, two, MLTask.BINARY, positive="yes")


def test_ids_that_repeat_or_are_missing_are_refused(tmp_path: Path) -> None:
    again = refusal(tmp_path, "k,x,y\n1,1,1\n1,2,2\n1,3,3\n", id="k")
    assert "repeats a value in 2 rows, first '1' at" in again
    assert "rows.csv:3" in again
    assert "is empty in 1 rows" in refusal(tmp_path, "k,x,y\n1,1,1\n,2,2\n", id="k")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("t,x,y\n2024-01-01,1,1\n31/12/2024,2,2\nsoon,3,3\n", "in 2 rows, first '31/12/2024' at"),
        ("t,x,y\n2024-01-01,1,1\n,2,2\n", "time column 't' is empty in 1 rows"),
        ("t,x,y\n17,1,1\n18,2,2\n", "cannot be read as ISO 8601"),
    ],
)
def test_dates_that_cannot_be_read_are_refused(tmp_path: Path, text: str, says: str) -> None:
    message = refusal(tmp_path, text, time="t")
    assert says in message
    assert "rows.csv:" in message


def test_a_time_format_reads_dates_that_are_not_iso(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("t,y\n31/12/2024 23:00,1\n01/02/2024 00:00,2\n", "utf-8")
    config = data("rows.csv", time="t", time_format="%d/%m/%Y %H:%M")
    rows = read_rows(config, root=tmp_path)
    assert rows["t"].tolist() == [
        pd.Timestamp("2024-02-01", tz="UTC"),
        pd.Timestamp("2024-12-31 23:00", tz="UTC"),
    ]


def test_times_with_an_offset_become_utc_and_others_are_taken_as_utc(tmp_path: Path) -> None:
    text = "t,y\n2024-01-01T02:00:00+02:00,1\n2024-01-01T01:00:00,2\n2024-01-01T00:30:00Z,3\n"
    (tmp_path / "rows.csv").write_text(text, "utf-8")
    rows = read_rows(data("rows.csv", time="t"), root=tmp_path)
    assert rows["y"].tolist() == [1, 3, 2]
    assert rows["t"].dt.hour.tolist() == [0, 0, 1]


def test_rows_of_equal_time_keep_their_order(tmp_path: Path) -> None:
    text = "t,y\n" + "".join(f"2024-01-0{1 + i % 2},{i}\n" for i in range(40))
    (tmp_path / "rows.csv").write_text(text, "utf-8")
    ordered = read_rows(data("rows.csv", time="t"), root=tmp_path)["y"].tolist()
    assert ordered == [*range(0, 40, 2), *range(1, 40, 2)]


def test_a_label_known_before_its_event_is_refused(tmp_path: Path) -> None:
    text = "t,l,y\n2024-01-02,2024-01-03,1\n2024-01-02,2024-01-01,2\n"
    message = refusal(tmp_path, text, time="t", label_time="l")
    assert "label time 'l' is before 't' in 1 rows" in message
    assert "rows.csv:3" in message


def test_until_gives_only_rows_whose_outcome_was_known_by_then(tmp_path: Path) -> None:
    text = (
        "t,l,y\n"
        "2024-01-01,2024-01-02,1\n"  # known
        "2024-01-02,2024-02-01,2\n"  # not yet known
        "2024-01-03,,3\n"  # never
        "2024-01-04,2024-01-05,\n"  # known to be nothing
        "2024-01-05,2024-01-10,5\n"  # known at the very moment
        "2024-01-10,2024-01-10,6\n"  # happens at the very moment
    )
    (tmp_path / "rows.csv").write_text(text, "utf-8")
    moment = datetime(2024, 1, 10, tzinfo=UTC)
    config = data("rows.csv", time="t", label_time="l")
    assert read_rows(config, root=tmp_path, until=moment)["y"].tolist() == [1, 5]
    assert read_rows(config, root=tmp_path, until=moment.replace(tzinfo=None))["y"].tolist() == [
        1,
        5,
    ]
    delayed = data("rows.csv", time="t", label_delay="7d")
    assert read_rows(delayed, root=tmp_path, until=moment)["y"].tolist() == [1, 2, 3]


def test_rows_whose_labels_came_early_are_left_out_unless_told_otherwise(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=60)
    lost = np.arange(60) % 3 == 0  # known after a day, the others after 20
    known = days + pd.to_timedelta(np.where(lost, 1, 20), unit="D")
    rows = pd.DataFrame({"t": days, "l": known, "y": lost.astype(int)})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    moment = datetime(2024, 3, 1, tzinfo=UTC)

    def read(**more) -> pd.DataFrame:
        config = data("rows.csv", time="t", label_time="l", **more)
        return read_rows(config, root=tmp_path, until=moment)

    due, early = read(), read(early_labels="learn")
    assert due["t"].max() == pd.Timestamp("2024-02-10", tz="UTC")
    assert due["y"].tail(12).mean() == pytest.approx(1 / 3)
    assert early["t"].max() > pd.Timestamp("2024-02-25", tz="UTC")
    assert early["y"].tail(6).mean() == 1.0
    assert (due.attrs[EARLY], early.attrs[EARLY]) == (len(early) - len(due), 0)


def test_a_moment_before_all_labels_is_refused(csv: Path) -> None:
    config = data("rows.csv", time="at", label_delay="2d")
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    with pytest.raises(DataError, match="no row before 2024-01-02 00:00 UTC has a known outcome"):
        read_rows(config, root=csv.parent, until=moment)


def test_without_an_event_time_all_rows_are_given(csv: Path) -> None:
    moment = datetime(1999, 1, 1, tzinfo=UTC)
    assert len(read_rows(data("rows.csv"), root=csv.parent, until=moment)) == 3


def test_missing_values_may_be_texts_and_numbers(tmp_path: Path) -> None:
    text = "x,kind,y\n-200,none,1\n-200.0,b,2\n3,c,inf\n"
    (tmp_path / "rows.csv").write_text(text, "utf-8")
    rows = read_rows(data("rows.csv", missing_values=["none", -200]), root=tmp_path)
    assert rows["x"].isna().tolist() == [True, True, False]
    assert rows["kind"].tolist() == [None, "b", "c"]
    assert labelled(rows, "y")["y"].tolist() == [1, 2]


def test_an_id_and_a_class_stay_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("k,x,y\n007,1,01\n008,2,02\n", "utf-8")
    rows = read_rows(data("rows.csv", id="k"), root=tmp_path, task=MLTask.BINARY)
    assert rows["k"].tolist() == ["007", "008"]
    assert rows["y"].tolist() == ["01", "02"]


def test_nullable_columns_of_parquet_become_plain_ones(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": pd.array([1, None], "Int64"), "y": [1.0, 2.0]})
    frame.to_parquet(tmp_path / "rows.parquet")
    rows = read_rows(data("rows.parquet"), root=tmp_path)
    assert rows["x"].dtype == "float64"


def test_a_time_format_with_an_unknown_directive_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, CSV, time="at", time_format="%Y-%Q")
    assert "time format '%Y-%Q': 'Q' is a bad directive" in message


def test_a_dictionary_of_texts_in_parquet_is_a_plain_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"kind": pd.Categorical(["a", "b"]), "y": [1, 2]})
    frame.to_parquet(tmp_path / "rows.parquet")
    assert read_rows(data("rows.parquet"), root=tmp_path)["kind"].tolist() == ["a", "b"]
