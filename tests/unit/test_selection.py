"""Is a row the same row however its file was read, and is there something to learn and to judge?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.data.selection import Selection, row_keys, select_rows
from modelyard.config import Data, ModelConfig
from modelyard.errors import DataError

ROWS = 200


def customers() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    age, regular = rng.integers(18, 90, ROWS), rng.random(ROWS) < 0.5
    spent = (age * 2.0 + rng.normal(0, 3, ROWS)).round(2)
    shop = np.arange(ROWS) // 5
    return pd.DataFrame({"age": age, "regular": regular, "shop": shop, "spent": spent})


def select(root: Path, rows: pd.DataFrame, *, time: str | None = None, **evaluation) -> Selection:
    rows.to_csv(root / "rows.csv", index=False)
    config = ModelConfig.model_validate(
        {
            "name": "customers",
            "task": "regression",
            "data": {"source": "rows.csv", "target": "spent", "time": time},
            "evaluation": evaluation,
        }
    )
    return select_rows(config, root, None)


@pytest.mark.parametrize("group", [None, "shop"])
def test_rows_keep_their_side_when_a_new_row_has_an_empty_cell(
    tmp_path: Path, group: str | None
) -> None:
    rows = customers()
    before = select(tmp_path, rows, group=group)
    odd = pd.DataFrame({"age": [None], "regular": [None], "shop": [None], "spent": [7.0]})
    after = select(tmp_path, pd.concat([rows.astype(object), odd]), group=group)

    assert before.rows["age"].dtype != after.rows["age"].dtype
    assert (after.holdout[:ROWS] == before.holdout).all()


def test_rows_without_the_column_that_they_are_known_by_now_are_known_by_all_they_hold() -> None:
    rows = customers()
    named = Data.model_validate({"source": "rows.csv", "target": "spent", "id": "key"})
    plain = named.model_copy(update={"id": None})
    assert (row_keys(rows, named) == row_keys(rows, plain)).all()


@pytest.mark.parametrize(
    ("evaluation", "column"), [({"slices": ["regoin"]}, "regoin"), ({"group": "stor"}, "stor")]
)
def test_a_column_to_group_or_slice_by_must_be_there(
    tmp_path: Path, evaluation: dict[str, object], column: str
) -> None:
    with pytest.raises(DataError, match=rf"no column '{column}' \(evaluation\."):
        select(tmp_path, customers(), **evaluation)


def test_one_row_cannot_be_learnt_and_judged_with(tmp_path: Path) -> None:
    rows = customers().assign(at="2024-05-01")
    with pytest.raises(DataError, match="1 row has a known outcome"):
        select(tmp_path, rows.head(1), time="at")


def test_rows_of_one_moment_have_no_old_and_no_new(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="All have the same at: name a column"):
        select(tmp_path, customers().assign(at="2024-05-01"), time="at")


def test_rows_of_one_group_cannot_be_split(tmp_path: Path) -> None:
    messages = []
    for shop in range(20):
        with pytest.raises(DataError) as caught:
            select(tmp_path, customers().assign(shop=shop), group="shop")
        messages.append(str(caught.value))
    assert any("takes no row of 200" in message for message in messages)
    assert any("takes all 200 rows" in message for message in messages)
