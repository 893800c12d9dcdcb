"""Are wrong values found: ranges, units, copies and leaks, at the level that each deserves?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from modelyard.domain.data_checks import (
    CheckPolicy,
    DataCheck,
    Level,
)
from modelyard.domain.values import MLTask
from tests.checked_rows import TARGET, check, contract_of, former_of, found, rides, visits

Frame = pd.DataFrame


# ranges and jumps


@pytest.mark.parametrize(
    ("wrong", "level"), [(0, Level.OK), (10, Level.WARN), (11, Level.BLOCK), (500, Level.BLOCK)]
)
def test_rows_outside_of_a_declared_range_warn_and_many_block(wrong: int, level: Level) -> None:
    rows = rides()
    rows.loc[rows.index[:wrong], "temp"] = -45.0
    checked = check(rows, policy=CheckPolicy(ranges={"temp": (-40.0, 60.0)}))
    declared = {f.level for f in checked.findings if f.reason.startswith("temp is outside")}
    assert declared == ({level} if wrong else set())


def test_a_range_may_be_open_and_may_be_of_the_target() -> None:
    policy = CheckPolicy(ranges={TARGET: (None, 50.0)})
    (finding,) = check(rides(), policy=policy).findings
    assert (finding.column, finding.level) == (TARGET, Level.BLOCK)
    assert "outside of any to 50" in finding.reason


@pytest.mark.parametrize("factor", [1000.0, 10.0, 0.1, 0.001])
@pytest.mark.parametrize("column", ["temp", "wind", TARGET])
def test_a_change_of_unit_in_the_newest_rows_blocks(column: str, factor: float) -> None:
    rows = rides().assign(**{TARGET: lambda frame: frame[TARGET].abs() + 50})
    rows.loc[800:, column] *= factor
    checked = check(rows)
    assert (DataCheck.UNIT, column, Level.BLOCK) in found(checked), checked.reasons


def test_a_change_of_unit_in_all_rows_is_seen_beside_the_champion() -> None:
    champion = former_of(rides(), contract_of(rides()))
    rows = rides(seed=1).assign(wind=lambda frame: frame["wind"] * 1000)
    assert check(rows).level is Level.OK  # there is nothing to compare with
    checked = check(rows, former=champion)
    assert (DataCheck.UNIT, "wind", Level.BLOCK) in found(checked)
    assert any("the training rows of 1.0.0" in reason for reason in checked.reasons)


def test_a_warmer_season_is_no_finding() -> None:
    rows = rides()
    rows.loc[800:, "temp"] += 12
    assert check(rows).level is Level.OK


def test_respelled_levels_block_and_new_ones_warn() -> None:
    rows = rides()
    rows.loc[800:, "season"] = rows.loc[800:, "season"].str.upper()
    assert found(check(rows)) == {(DataCheck.UNSEEN, "season", Level.BLOCK)}
    rows.loc[800:, "season"] = "monsoon"
    assert found(check(rows)) == {(DataCheck.UNSEEN, "season", Level.WARN)}


def test_a_sensor_that_is_stuck_in_the_newest_rows_blocks() -> None:
    rows = rides()
    rows.loc[800:, "temp"] = 12.5
    assert (DataCheck.CONSTANT, "temp", Level.BLOCK) in found(check(rows))


# duplicates and overlap


def test_rows_that_were_loaded_twice_block_and_some_copies_warn() -> None:
    rows = rides()
    twice = pd.concat([rows, rows], ignore_index=True)
    assert (DataCheck.DUPLICATES, None, Level.BLOCK) in found(check(twice))
    some = pd.concat([rows.iloc[:50], rows], ignore_index=True)
    assert found(check(some)) == {(DataCheck.DUPLICATES, None, Level.WARN)}
    assert check(some, policy=CheckPolicy(max_duplicates=0.01)).level is Level.BLOCK


def test_an_id_of_its_own_does_not_hide_a_copy() -> None:
    rows = rides()
    twice = pd.concat([rows, rows], ignore_index=True)
    twice["row_id"] = [f"r{number}" for number in range(len(twice))]
    checked = check(twice, contract=contract_of(twice, key="row_id"))
    assert (DataCheck.DUPLICATES, None, Level.BLOCK) in found(checked)


def test_a_holdout_that_was_trained_on_blocks() -> None:
    rows = rides()
    checked = check(rows, rows.iloc[:200])
    assert (DataCheck.OVERLAP, None, Level.BLOCK) in found(checked)
    assert any("100.0% of the holdout are training rows" in r for r in checked.reasons)


def test_coarse_rows_that_repeat_by_chance_are_no_overlap() -> None:
    rng = np.random.default_rng(0)
    coarse = pd.DataFrame(
        {
            "temp": rng.integers(0, 5, 1_000).astype(float),
            "wind": rng.integers(0, 5, 1_000).astype(float),
            "season": rng.choice(np.array(["dry", "wet"], dtype=object), 1_000),
            TARGET: rng.integers(0, 3, 1_000).astype(float),
        }
    )
    assert DataCheck.OVERLAP not in {f.check for f in check(coarse).findings}


# leaks


def test_a_declared_column_that_predicts_the_target_almost_perfectly_blocks() -> None:
    rng = np.random.default_rng(1)
    rows = rides().assign(total=lambda f: f[TARGET] * 1.19 * rng.normal(1, 0.001, len(f)))
    assert found(check(rows)) == {(DataCheck.LEAK, "total", Level.BLOCK)}
    classes = visits().assign(ended=lambda f: f[TARGET].map({"yes": "paid", "no": "left"}))
    checked = check(classes, task=MLTask.BINARY)
    assert found(checked) == {(DataCheck.LEAK, "ended", Level.BLOCK)}
    assert "ended alone predicts cnt almost perfectly (1.0000)" in checked.reasons[0]


def test_a_lag_of_a_smooth_series_is_honest_and_a_leak_beside_it_is_found() -> None:
    rng = np.random.default_rng(0)
    level = np.cumsum(rng.normal(size=4_000))
    rows = rides(4_000).assign(**{TARGET: level, f"{TARGET}_lag_1": np.roll(level, 1)})
    rows = rows.iloc[1:].reset_index(drop=True)
    checked = check(rows, policy=CheckPolicy(allow=("unit", "range")))
    assert DataCheck.LEAK not in {f.check for f in checked.findings}, checked.reasons
    leaking = rows.assign(billed=lambda f: f[TARGET] * 3)
    assert (DataCheck.LEAK, "billed", Level.BLOCK) in found(check(leaking))


def test_a_name_made_from_the_target_is_warned_of_where_the_config_declares_it() -> None:
    rows = rides().assign(pred_cnt=np.random.default_rng(3).normal(size=1_000))
    assert check(rows).level is Level.OK
    checked = check(rows, declared=frozenset({"pred_cnt"}))
    assert found(checked) == {(DataCheck.LEAK, "pred_cnt", Level.WARN)}
