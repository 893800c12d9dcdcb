"""A single row is read as quickly as it can be, and as exactly as any other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import RequestError
from modelyard.serving.features import Features, PlainRow, Reader, join
from modelyard.serving.rows import Layouts, OneRow
from tests.serving_bundles import REGRESSION

PLAIN = {"temp": 20.5, "season": "summer", "wind": None, "note": "x"}
CELLS = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.just(10**400),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=1),
)


def one(row: dict[str, Any]) -> OneRow:
    layout = Layouts(REGRESSION).of(tuple(row))
    assert layout is not None
    return OneRow(layout, [*row.values()])


@given(st.permutations(sorted(PLAIN)), st.lists(CELLS, min_size=4, max_size=4), st.booleans())
def test_a_row_is_read_as_its_columns_are(names: list[str], cells: list[Any], text: bool) -> None:
    reader, row = Reader(REGRESSION, numeric_text=text), one(dict(zip(names, cells, strict=True)))
    quick = reader.read_plain(row)
    try:
        careful = reader.read(row.cells, 1)
    except RequestError:
        assert quick is None
        return
    if quick is not None:
        joined = join([quick])
        assert np.array_equal(joined.numeric, careful.numeric, equal_nan=True)
        assert joined.categorical.tolist() == careful.categorical.tolist()
        assert all(type(number) is float for number in quick.numeric)


@pytest.mark.parametrize("temp", [20.5, 20, True, None, math.nan])
def test_a_row_of_plain_values_needs_no_closer_look(temp: Any) -> None:
    assert Reader(REGRESSION).read_plain(one(PLAIN | {"temp": temp})) is not None


@pytest.mark.parametrize(
    "cells", [{"temp": math.inf}, {"temp": "20"}, {"season": 5.0}, {"temp": 10**400}]
)
def test_a_row_that_is_not_plain_gets_a_closer_look(cells: dict[str, Any]) -> None:
    assert Reader(REGRESSION, numeric_text=True).read_plain(one(PLAIN | cells)) is None


def test_a_row_with_a_missing_value_gets_a_closer_look_where_the_model_takes_none() -> None:
    assert Reader(REGRESSION, not_null=("wind",)).read_plain(one(PLAIN)) is None


def test_rows_and_blocks_of_rows_are_joined_in_their_order() -> None:
    block = Features(np.array([[2.0, 3.0], [4.0, 5.0]]), np.array([["b"], [None]], dtype=object))
    rows = [PlainRow([0.0, 1.0], ["a"]), block, PlainRow([6.0, math.nan], [None])]
    joined = join(rows)
    assert joined.numeric.tolist()[:3] == [[0, 1], [2, 3], [4, 5]]
    assert joined.categorical.tolist() == [["a"], ["b"], [None], [None]]
    assert [len(part) for part in rows] == [1, 2, 1]


def test_a_layout_has_every_column_of_the_contract_once() -> None:
    layouts = Layouts(REGRESSION)
    assert layouts.of(("wind", "temp", "season")) is layouts.of(("wind", "temp", "season"))
    assert layouts.of(("temp", "season")) is None
    assert layouts.of(("temp", "season", "wind", "temp")) is None


def test_clients_that_name_ever_new_columns_take_no_more_memory() -> None:
    layouts = Layouts(REGRESSION)
    for number in range(1000):
        assert layouts.of((*PLAIN, str(number))) is not None
    assert len(layouts._known) <= 64
    assert layouts.of((*PLAIN, "x" * 10_000)) is None
    assert layouts.of((*PLAIN, *map(str, range(10_000)))) is None
