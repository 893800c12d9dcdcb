"""Is each thing that may be wrong with rows found, at the level that it deserves, and no other?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from modelyard.domain.data_checks import (
    MOST_FINDINGS,
    CheckPolicy,
    DataCheck,
    Finding,
    Level,
    conclude,
    worst,
)
from modelyard.domain.data_rules import check_facts
from modelyard.domain.values import MLTask
from modelyard.errors import RequestError
from tests.checked_rows import TARGET, check, contract_of, former_of, found, rides, visits

Frame = pd.DataFrame


def test_sound_rows_are_ok_and_say_what_was_looked_at() -> None:
    for seed in range(20):
        checked = check(rides(seed=seed))
        assert (checked.level, checked.findings) == (Level.OK, ()), checked.reasons
    assert checked.reasons == (
        "800 training and 200 holdout rows in 3 columns, compared with the training rows",
    )
    assert check(visits(), task=MLTask.BINARY).level is Level.OK


def test_rows_that_wait_are_told_of() -> None:
    assert check(rides(), early=12).reasons[-1].endswith("; 12 rows wait: their labels came early")


def test_the_worst_level_of_many_is_the_verdict() -> None:
    assert worst([]) is Level.OK
    assert worst([Level.WARN, Level.OK]) is Level.WARN
    assert worst([Level.WARN, Level.BLOCK, Level.OK]) is Level.BLOCK


# schema


def test_a_column_that_the_champion_had_is_a_major_release_and_not_a_block() -> None:
    champion = former_of(rides(), contract_of(rides()))
    now = rides(seed=1).drop(columns="wind").assign(humidity=np.arange(1_000) % 7 + 0.5)
    checked = check(now, former=champion, left_out={"wind": "dropped by the config"})
    assert {
        (DataCheck.SCHEMA, "wind", Level.WARN),
        (DataCheck.SCHEMA, "humidity", Level.WARN),
    } == found(checked)
    (gone,) = (f for f in checked.findings if f.column == "wind")
    assert gone.reason == "input column wind was removed: dropped by the config"
    assert "MAJOR" in gone.mend


def test_a_column_of_another_kind_is_told_once() -> None:
    champion = former_of(rides(), contract_of(rides()))
    now = rides(seed=1).assign(wind=np.tile(np.array(["weak", "strong"], dtype=object), 500))
    checked = check(now, former=champion)
    assert found(checked) == {(DataCheck.SCHEMA, "wind", Level.WARN)}
    assert "is categorical, was numeric" in checked.reasons[0]


def test_a_type_that_only_the_signature_knows_is_told() -> None:
    champion = former_of(rides(), contract_of(rides()))
    types = {**champion.champion.types, "wind": "float32"}
    typed = champion.champion.model_copy(update={"types": types})
    checked = check(rides(seed=1), former=type(champion)(typed, champion.profile))
    assert found(checked) == {(DataCheck.SCHEMA, "wind", Level.WARN)}
    assert "wind is float64, was float32" in checked.reasons[0]


def test_another_target_is_a_schema_finding_of_no_column() -> None:
    before = rides().rename(columns={TARGET: "rentals"})
    champion = former_of(before, contract_of(before, target="rentals"))
    checked = check(rides(seed=1), former=champion)
    assert found(checked) == {(DataCheck.SCHEMA, None, Level.WARN)}
    assert "the target is cnt, was rentals" in checked.reasons[0]


def test_a_champion_whose_rows_are_gone_leaves_the_older_rows_to_compare_with() -> None:
    champion = former_of(rides(), contract_of(rides()), profile=False)
    checked = check(rides(seed=1), former=champion)
    assert checked.level is Level.OK
    assert "compared with the training rows" in checked.words


# rows and classes


@pytest.mark.parametrize(("rows", "level"), [(99, Level.BLOCK), (100, Level.OK)])
def test_too_few_training_rows_block(rows: int, level: Level) -> None:
    assert check(rides(rows), rides(60, seed=1)).level is level


def test_one_row_is_too_few_and_no_error() -> None:
    checked = check(rides(1), rides(1, seed=1))
    assert (DataCheck.ROWS, None, Level.BLOCK) in found(checked)
    assert "1 training rows, at least 100 are needed" in checked.reasons[0]


def test_a_small_holdout_is_warned_of_since_the_gate_has_the_last_word() -> None:
    checked = check(rides(), rides(29, seed=1))
    assert found(checked) == {(DataCheck.ROWS, None, Level.WARN)}


def test_a_class_with_one_row_is_warned_of() -> None:
    rows = visits(classes=("a", "b", "c"))
    rows.loc[5, TARGET] = "rare"
    checked = check(rows, task=MLTask.MULTICLASS)
    assert (DataCheck.ROWS, None, Level.WARN) in found(checked)
    assert any("class 'rare' has 1 training rows" in reason for reason in checked.reasons)
    # one in eight hundred is not in two hundred newer rows by chance
    assert (DataCheck.CLASSES, None, Level.WARN) in found(checked)


def test_a_class_that_vanished_from_the_holdout_blocks() -> None:
    rows = visits(classes=("a", "b", "c"))
    rows.loc[800:, TARGET] = np.where(rows.loc[800:, TARGET] == "c", "a", rows.loc[800:, TARGET])
    checked = check(rows, task=MLTask.MULTICLASS)
    assert (checked.level, len(checked.reasons)) == (Level.BLOCK, 1)
    assert "class 'c'" in checked.reasons[0]
    assert "is in no holdout row" in checked.reasons[0]


def test_one_class_alone_cannot_be_judged_however_rare_the_other_is() -> None:
    rows = visits(classes=("no",))
    rows.loc[[3, 40, 70], TARGET] = "yes"
    assert (DataCheck.CLASSES, None, Level.BLOCK) in found(check(rows, task=MLTask.BINARY))


def test_a_class_that_is_only_in_the_holdout_blocks() -> None:
    rows = visits(classes=("a", "b", "c"))
    rows.loc[990:, TARGET] = "new"
    checked = check(rows, task=MLTask.MULTICLASS)
    assert "class 'new' is in no training row: it cannot be learnt" in checked.reasons[0]


def test_a_class_of_the_champion_that_is_in_no_row_any_more_blocks() -> None:
    before, now = visits(classes=("a", "b", "c", "d")), visits(classes=("a", "b", "c"), seed=1)
    champion = former_of(before, contract_of(before, MLTask.MULTICLASS))
    checked = check(now, task=MLTask.MULTICLASS, former=champion)
    assert checked.reasons == ("classes: class 'd' of the champion is in no row any more",)


# missing, infinite, constant


def test_missing_cells_are_warned_of_above_the_limit_and_empty_columns_block() -> None:
    rows = rides()
    rows.loc[rows.index % 10 < 6, "temp"] = np.nan
    assert found(check(rows)) == {(DataCheck.MISSING, "temp", Level.WARN)}
    assert check(rows, policy=CheckPolicy(max_missing=0.7)).level is Level.OK
    for column, nothing in (("temp", np.nan), ("season", None)):
        empty = rides().assign(**{column: nothing})
        empty[column] = empty[column].astype(rides()[column].dtype)
        assert (DataCheck.MISSING, column, Level.BLOCK) in found(check(empty))


def test_a_column_that_stopped_coming_blocks() -> None:
    rows = rides()
    rows.loc[800:, "wind"] = np.nan
    checked = check(rows)
    assert found(checked) == {(DataCheck.MISSING, "wind", Level.BLOCK)}
    assert "holdout against the training rows" in checked.reasons[0]


def test_infinite_cells_are_told_of_features_only() -> None:
    checked = check(rides(), infinite={"temp": 7, "dropped": 3})
    assert found(checked) == {(DataCheck.INFINITE, "temp", Level.WARN)}
    assert "infinite in 7 cells" in checked.reasons[0]


def test_infinite_cells_that_were_not_read_as_missing_are_refused() -> None:
    rows = rides()
    rows.loc[5, "temp"] = np.inf
    with pytest.raises(RequestError, match="temp"):
        check(rows)


def test_a_constant_feature_is_warned_of_and_a_constant_target_blocks() -> None:
    rows = rides().assign(wind=3.0, season="dry")
    assert found(check(rows)) == {
        (DataCheck.CONSTANT, "wind", Level.WARN),
        (DataCheck.CONSTANT, "season", Level.WARN),
    }
    checked = check(rides().assign(**{TARGET: 5.0}))
    assert (DataCheck.CONSTANT, TARGET, Level.BLOCK) in found(checked)


def test_one_value_and_nothing_else_is_a_flag_and_no_constant() -> None:
    rows = rides()
    rows["season"] = np.where(rows.index % 3 == 0, "holiday", None)
    assert (DataCheck.CONSTANT, "season", Level.WARN) not in found(check(rows))


def test_mixed_types_in_a_category_are_levels_like_others() -> None:
    rows = rides()
    mixed = np.array(["dry", 5, 5.0, True, None], dtype=object)
    rows["season"] = np.tile(mixed, 200)
    assert check(rows).level is Level.OK


# what the config makes of it


def stuck() -> Frame:
    rows = rides()
    rows.loc[800:, "temp"] = 12.5
    return rows.assign(wind=3.0)


def test_a_check_can_be_given_another_level() -> None:
    lowered = check(stuck(), policy=CheckPolicy(levels={DataCheck.CONSTANT: Level.WARN}))
    assert {f.level for f in lowered.findings} == {Level.WARN}
    assert any("(block, warn by data.checks.levels)" in reason for reason in lowered.reasons)
    raised = check(
        rides().assign(wind=3.0), policy=CheckPolicy(levels={DataCheck.CONSTANT: Level.BLOCK})
    )
    assert raised.blocks
    off = check(stuck(), policy=CheckPolicy(levels={DataCheck.CONSTANT: Level.OK}))
    assert off.level is Level.OK
    assert len(off.findings) == 2  # still shown


@pytest.mark.parametrize(
    ("allowed", "level"),
    [
        (("temp",), Level.WARN),
        (("constant:temp",), Level.WARN),
        (("constant",), Level.OK),
        (("temp", "wind"), Level.OK),
        (("missing:temp", "leak"), Level.BLOCK),
    ],
)
def test_what_is_known_and_meant_is_allowed(allowed: tuple[str, ...], level: Level) -> None:
    assert check(stuck(), policy=CheckPolicy(allow=allowed)).level is level


def test_a_table_full_of_findings_keeps_the_gravest_and_counts_the_rest() -> None:
    columns = 2_000
    values = np.random.default_rng(0).normal(size=(300, columns))
    rows = pd.DataFrame(values, columns=[f"c{n}" for n in range(columns)])
    rows.iloc[:, 1:] = 1.0
    rows["c7"] = np.nan
    rows[TARGET] = np.random.default_rng(1).normal(size=300)
    checked = check(rows)
    assert checked.blocks
    assert checked.findings[0].column == "c7"
    assert len(checked.findings) == MOST_FINDINGS
    assert checked.further == columns - 1 - MOST_FINDINGS
    warned = checked.model_copy(update={"level": Level.WARN})
    assert warned.reasons[-1].startswith("and ")
    assert len(warned.reasons) == 11


def test_a_verdict_is_json_shaped() -> None:
    checked = check(stuck())
    assert type(checked).model_validate_json(checked.model_dump_json()) == checked


def test_every_finding_says_what_to_do() -> None:
    rows = stuck().assign(total=lambda f: f[TARGET] * 2)
    rows = pd.concat([rows, rows.iloc[:400]], ignore_index=True)
    for finding in check(rows).findings:
        assert finding.reason
        assert finding.limit
        assert finding.mend.endswith((".", "?"))


def test_no_rule_means_no_finding() -> None:
    from modelyard.adapters.checking import measure_rows
    from tests.checked_rows import types_of

    rows = rides()
    policy = CheckPolicy()
    facts = measure_rows(rows, rows, contract_of(rows), policy, type_of=types_of)
    assert conclude(facts, [], policy).level is Level.OK
    warning = Finding(
        check=DataCheck.LEAK, level=Level.WARN, value=None, limit="-", reason="r", mend="m."
    )
    assert conclude(facts, [warning], policy).reasons == ("leak: r",)
    assert check_facts(facts, policy).blocks  # the holdout is the training rows once more
