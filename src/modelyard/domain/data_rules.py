"""What is wrong with rows that are about to be trained on, by each rule?"""

from __future__ import annotations

from collections.abc import Iterator

from modelyard.domain.data_checks import (
    Checked,
    CheckPolicy,
    DataCheck,
    Finding,
    Level,
    RowFacts,
    conclude,
)
from modelyard.domain.profiles import NumericProfile
from modelyard.domain.quality import (
    QualityCheck,
    QualityFinding,
    QualityOutcome,
    QualityPolicy,
    judge_quality,
)
from modelyard.domain.values import MLTask
from modelyard.domain.versioning import column_breaks, contract_breaks

BY_CHANCE = 1e-6
"""Chance below which it is no accident that a class is not in the holdout."""
OUTSIDE = 0.01
"""Share of the rows beyond a declared range from which they are no stray mistakes."""
FEW_DUPLICATES = 0.01
"""Of the hotel bookings among the public data sets, up to 22 % are equal but for their id."""
FEW_OVERLAP, MOST_OVERLAP = 0.05, 0.20
"""Share of the holdout that was trained on, beyond what repeats by chance: up to 4 % was seen where
a broken station sent nothing for days."""
LEAK_BLOCK, LEAK_WARN = 0.995, 0.98
"""Single-column scores. On eight public data sets the best honest column, the outcome of the row
before, scores 0.93; the target with 1 % of noise, rounded or in another unit scores 0.998."""
BEYOND_BLOCK, BEYOND_WARN = 4.0, 2.0
"""How many times smaller its error must be than that of the last known outcome: where rows
resemble their neighbours, a lag predicts almost perfectly and honestly."""

_JUMPS = QualityPolicy(
    min_rows=50,
    outside_warn=1.0,  # a new season leaves the range; only what no season explains is a finding
)
_CHECK_OF = {
    QualityCheck.NULLS: DataCheck.MISSING,
    QualityCheck.UNSEEN: DataCheck.UNSEEN,
    QualityCheck.RANGE: DataCheck.RANGE,
    QualityCheck.UNIT: DataCheck.UNIT,
    QualityCheck.STUCK: DataCheck.CONSTANT,
}
_MEND_OF = {
    DataCheck.MISSING: "Look at what fills the column; it did so before.",
    DataCheck.UNSEEN: "Mend the spelling at the source, or leave it if the levels are new.",
    DataCheck.RANGE: "Look for another unit or a placeholder; declare it in data.missing_values.",
    DataCheck.UNIT: "Bring all rows to one unit.",
    DataCheck.CONSTANT: "Look at the sensor or the job that fills the column.",
}


def check_facts(facts: RowFacts, policy: CheckPolicy) -> Checked:
    """Ask every rule, and fold the findings into one verdict."""
    rules = (
        _check_schema,
        _check_rows,
        _check_classes,
        _check_columns,
        _check_ranges,
        _check_jumps,
        _check_duplicates,
        _check_leaks,
    )
    return conclude(facts, (found for rule in rules for found in rule(facts, policy)), policy)


def _check_schema(facts: RowFacts, policy: CheckPolicy) -> Iterator[Finding]:
    """Compare with the champion: a broken contract is a MAJOR release, which may be meant."""
    champion = facts.champion
    if champion is None:
        return
    major = f"Mend the source, or expect a MAJOR release after {champion.version}."
    breaks = column_breaks(champion.contract, facts.contract)
    retyped = {
        name: f"input column {name} is {facts.types[name]}, was {kind}"
        for name, kind in champion.types.items()
        if facts.types.get(name, kind) != kind and name not in breaks
    }
    for name, words in {**breaks, **retyped}.items():
        why = f": {facts.left_out[name]}" if name in facts.left_out else ""
        limit = f"the contract of {champion.version}"
        yield _finding(DataCheck.SCHEMA, name, Level.WARN, None, limit, words + why, major)
    for words in contract_breaks(champion.contract, facts.contract)[len(breaks) :]:
        limit = f"the contract of {champion.version}"
        yield _finding(DataCheck.SCHEMA, None, Level.WARN, None, limit, words, major)


def _check_rows(facts: RowFacts, policy: CheckPolicy) -> Iterator[Finding]:
    mend = "Wait for more rows, or make training.window longer; data.checks sets the limits."
    parts = (
        ("training", facts.training.rows, policy.min_rows, Level.BLOCK),
        ("holdout", facts.holdout_rows, policy.min_holdout, Level.WARN),
    )
    for part, rows, least, level in parts:
        if rows < least:
            words = f"{rows:,} {part} rows, at least {least:,} are needed"
            yield _finding(DataCheck.ROWS, None, level, rows, f"at least {least}", words, mend)
    for name, rows in facts.training_classes.items():
        if 0 < rows < policy.min_class_rows:
            words = f"class {name!r} has {rows} training rows, too few to learn it from"
            limit = f"at least {policy.min_class_rows}"
            yield _finding(DataCheck.ROWS, None, Level.WARN, rows, limit, words, mend)


def _check_classes(facts: RowFacts, policy: CheckPolicy) -> Iterator[Finding]:
    mend = "Look at how outcomes come in; or take a longer holdout or training window."
    for name, rows in facts.training_classes.items():
        if not rows:
            words = f"class {name!r} is in no training row: it cannot be learnt"
            yield _finding(DataCheck.CLASSES, None, Level.BLOCK, 0, "at least 1", words, mend)
        elif facts.holdout_rows and not facts.holdout_classes.get(name):
            share = rows / max(facts.training.rows, 1)
            chance = (1 - share) ** facts.holdout_rows
            gone = facts.contract.task is MLTask.BINARY or chance < BY_CHANCE
            words = f"class {name!r}, {share:.1%} of the training rows, is in no holdout row"
            level = Level.BLOCK if gone else Level.WARN
            yield _finding(DataCheck.CLASSES, None, level, 0, "at least 1", words, mend)
    for name in facts.champion.contract.classes if facts.champion else ():
        if name not in facts.contract.classes and facts.contract.classes:
            words = f"class {name!r} of the champion is in no row any more"
            yield _finding(DataCheck.CLASSES, None, Level.BLOCK, 0, "at least 1", words, mend)


def _check_columns(facts: RowFacts, policy: CheckPolicy) -> Iterator[Finding]:
    """Ask of each column of the training rows whether there is anything to learn from it."""
    rows, target = facts.training.rows, facts.contract.target
    for name, column in facts.training.columns.items() if rows else ():
        share = column.nulls / rows
        limit = f"at most {policy.max_missing:.0%}"
        if share == 1:
            words = f"{name} is empty in all {rows:,} training rows"
            mend = "Look at what fills it, or put it into data.features.drop."
            yield _finding(DataCheck.MISSING, name, Level.BLOCK, share, limit, words, mend)
            continue
        if share > policy.max_missing:
            words = f"{name} is empty in {share:.1%} of the training rows"
            mend = "Look at what fills it; data.checks.max_missing sets the limit."
            yield _finding(DataCheck.MISSING, name, Level.WARN, share, limit, words, mend)
        if isinstance(column, NumericProfile):
            only = f"{column.min:.6g}" if column.min == column.max else None
        else:
            only = repr(next(iter(column.levels))) if len(column.levels) == 1 else None
        if only is not None and not column.nulls:
            level = Level.BLOCK if name == target else Level.WARN
            words = f"{name} is {only} in every training row"
            mend = "Nothing is learnt from it; drop it, or look at what fills it."
            yield _finding(DataCheck.CONSTANT, name, level, 1, "2 values", words, mend)


def _check_ranges(facts: RowFacts, policy: CheckPolicy) -> Iterator[Finding]:
    """Hold the columns against what the config declares."""
    for name, cells in facts.infinite.items():
        words = f"{name} is infinite in {cells:,} cells, which count as missing"
        mend = "Look for a division by zero at the source."
        yield _finding(DataCheck.INFINITE, name, Level.WARN, cells, "none", words, mend)
    for name, rows in facts.outside.items():
        if rows:
            low, high = policy.ranges[name]
            share = rows / facts.rows
            allowed = " to ".join(f"{v:g}" if v is not None else "any" for v in (low, high))
            words = f"{name} is outside of {allowed} in {rows:,} rows ({share:.1%})"
            level = Level.BLOCK if share > OUTSIDE else Level.WARN
            mend = "Mend the rows at the source, or the range in data.checks.ranges."
            yield _finding(DataCheck.RANGE, name, level, share, allowed, words, mend)


def _check_jumps(facts: RowFacts, policy: CheckPolicy) -> Iterator[Finding]:
    """Compare each column with the rows that the champion learnt from, or the older rows."""
    gravest: dict[tuple[DataCheck, str], Finding] = {}
    for part, profile in facts.compared.items():
        if not profile.rows:
            continue
        for found in judge_quality(facts.reference, profile, _JUMPS).findings:
            if found.column is None or found.check not in _CHECK_OF:
                continue
            jump = _as_finding(found, f"{part} against {facts.reference_name}")
            key = jump.check, found.column
            if key not in gravest or jump.level is Level.BLOCK:
                gravest[key] = jump
    yield from gravest.values()


def _as_finding(found: QualityFinding, where: str) -> Finding:
    check = _CHECK_OF[found.check]
    level = Level.BLOCK if found.outcome is QualityOutcome.BROKEN else Level.WARN
    words = f"{found.words} ({where})"
    limit = f"{found.limit:.4g}"
    return _finding(check, found.column, level, found.value, limit, words, _MEND_OF[check])


def _check_duplicates(facts: RowFacts, policy: CheckPolicy) -> Iterator[Finding]:
    share = facts.repeated / facts.rows if facts.rows else 0.0
    if share > FEW_DUPLICATES:
        level = Level.BLOCK if share > policy.max_duplicates else Level.WARN
        words = f"{facts.repeated:,} rows ({share:.1%}) repeat another one in all columns"
        limit = f"at most {policy.max_duplicates:.0%}"
        mend = (
            "Look for a file or a batch that was loaded twice; where such rows are ordinary, as of "
            "a group that books alike, raise data.checks.max_duplicates."
        )
        yield _finding(DataCheck.DUPLICATES, None, level, share, limit, words, mend)
    # Coarse columns repeat by chance, in the training rows as well as in the holdout.
    more = facts.overlap - facts.usual_overlap
    if more > FEW_OVERLAP:
        level = Level.BLOCK if more > MOST_OVERLAP else Level.WARN
        words = (
            f"{facts.overlap:.1%} of the holdout are training rows once more, of the newest "
            f"training rows {facts.usual_overlap:.1%} repeat an older one"
        )
        limit = f"at most {MOST_OVERLAP:.0%} more"
        mend = "The holdout must be rows that no model has seen: remove the copies."
        yield _finding(DataCheck.OVERLAP, None, level, more, limit, words, mend)


def _check_leaks(facts: RowFacts, policy: CheckPolicy) -> Iterator[Finding]:
    drop = "Is it known when the prediction is made? If not, put it into data.features.drop."
    for name in facts.named_after_target:
        words = f"the name {name} says that it is made from the target"
        yield _finding(DataCheck.LEAK, name, Level.WARN, None, "another name", words, drop)
    left = 1.0 - max(facts.last_value_score, 0.0)
    for name, score in facts.scores.items():
        blocks = score >= LEAK_BLOCK and (1 - score) * BEYOND_BLOCK <= left
        if not blocks and (score < LEAK_WARN or (1 - score) * BEYOND_WARN > left):
            continue
        words = f"{name} alone predicts {facts.contract.target} almost perfectly ({score:.4f})"
        limit = f"below {LEAK_BLOCK}" if blocks else f"below {LEAK_WARN}"
        level = Level.BLOCK if blocks else Level.WARN
        yield _finding(DataCheck.LEAK, name, level, score, limit, words, drop)


def _finding(
    check: DataCheck,
    column: str | None,
    level: Level,
    value: float | None,
    limit: str,
    reason: str,
    mend: str,
) -> Finding:
    return Finding(
        check=check, column=column, level=level, value=value, limit=limit, reason=reason, mend=mend
    )
