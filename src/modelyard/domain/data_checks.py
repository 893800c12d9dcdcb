"""May these rows be trained on?

Asked before anything is fitted: facts about the rows in, findings out, each with its figure, its
limit and what to do. A model that is trained on broken rows is measured on broken rows too, so the
gate would not see it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import Field

from modelyard.domain.profiles import Profile
from modelyard.domain.values import Contract, Value


class Level(StrEnum):
    """What a finding leads to, in rising order of severity."""

    OK = "ok"
    WARN = "warn"
    """It is shown and recorded; training goes on."""
    BLOCK = "block"
    """Nothing is trained on these rows."""


class DataCheck(StrEnum):
    """What is asked of the rows."""

    SCHEMA = "schema"
    ROWS = "rows"
    CLASSES = "classes"
    MISSING = "missing"
    INFINITE = "infinite"
    CONSTANT = "constant"
    RANGE = "range"
    UNIT = "unit"
    UNSEEN = "unseen"
    DUPLICATES = "duplicates"
    OVERLAP = "overlap"
    LEAK = "leak"


class CheckPolicy(Value):
    """Limits; shares are 0..1."""

    max_missing: float = 0.5
    """Cells of a column without a value, above which it is warned of."""
    min_rows: int = 100
    """Training rows."""
    min_holdout: int = 30
    """Holdout rows, below which the gate promotes nothing."""
    min_class_rows: int = 10
    """Training rows of each class."""
    max_duplicates: float = 0.3
    """Rows that repeat another one, above which they block; a file loaded twice makes it half."""
    ranges: dict[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    """Smallest and largest value that a column may have."""
    levels: dict[DataCheck, Level] = Field(default_factory=dict)
    """What all findings of a check lead to, instead of what the check itself says."""
    allow: tuple[str, ...] = ()
    """Findings that are known and meant: `check`, `column` or `check:column`."""

    def allows(self, check: DataCheck, column: str | None) -> bool:
        """Return whether a finding is known and meant."""
        names = {check.value} if column is None else {check.value, column, f"{check}:{column}"}
        return not names.isdisjoint(self.allow)


class Champion(Value):
    """What the release in traffic was made for."""

    version: str
    contract: Contract
    types: dict[str, str]
    """Type of each feature, as MLflow's signature names it."""


class RowFacts(Value):
    """What is known of the rows of one delivery before it is trained."""

    contract: Contract
    left_out: dict[str, str] = Field(default_factory=dict)
    """Columns that are no feature, with the reason."""
    types: dict[str, str]
    """Type of each feature, as MLflow's signature names it."""
    champion: Champion | None = None
    training: Profile
    """Features, and the target where it is a number, of the training rows."""
    holdout_rows: int
    reference: Profile
    """What rows are compared with: those that the champion was trained on, or `training`."""
    reference_name: str
    compared: dict[str, Profile] = Field(default_factory=dict)
    """`training rows` and `holdout` on the bins of `reference`, as far as they are others."""
    training_classes: dict[str, int] = Field(default_factory=dict)
    """Rows of each class of the contract; empty for a regression."""
    holdout_classes: dict[str, int] = Field(default_factory=dict)
    outside: dict[str, int] = Field(default_factory=dict)
    """Rows beyond the declared range, by column."""
    infinite: dict[str, int] = Field(default_factory=dict)
    """Infinite cells, which were read as missing, by column."""
    early: int = 0
    """Rows that were left out because their labels came before they were due."""
    repeated: int = 0
    """Rows that are equal to a former one in every column but the id."""
    overlap: float = 0.0
    """Share of the holdout whose features and outcome are those of a training row."""
    usual_overlap: float = 0.0
    """The same share of as many of the newest training rows, against the older ones."""
    named_after_target: tuple[str, ...] = ()
    """Features whose name says that they are made from the target."""
    scores: dict[str, float] = Field(default_factory=dict)
    """How well each feature alone predicts the target: see `modelyard.domain.leakage`."""
    last_value_score: float = 0.0
    """How well the outcome of the row before predicts it."""

    @property
    def rows(self) -> int:
        return self.training.rows + self.holdout_rows


class Finding(Value):
    """One thing that the rows are not as they should be in."""

    check: DataCheck
    column: str | None = None
    """None for what concerns all columns."""
    level: Level
    value: float | None
    limit: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.check}: {self.reason}"


class Checked(Value):
    """The verdict of all checks together, the gravest finding first."""

    level: Level
    findings: tuple[Finding, ...] = ()
    further: int = 0
    """Findings that were left out, none of them graver than the last that is here."""
    words: str
    """What was looked at."""
    report: str | None = None
    """Path of the data summary in the model's MLflow run of data checks."""

    @property
    def blocks(self) -> bool:
        return self.level is Level.BLOCK

    @property
    def causes(self) -> frozenset[tuple[DataCheck, str | None]]:
        """Return what was found in which column, whatever its figures."""
        return frozenset((f.check, f.column) for f in self.findings if f.level is not Level.OK)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return one line for each finding of the verdict's level, at most ten; never empty."""
        if self.level is Level.OK:
            return (self.words,)
        lines = [str(finding) for finding in self.findings if finding.level is self.level]
        more = len(lines) - 10
        return (*lines[:10], *([f"and {more} more"] if more > 0 else []))


_ORDER = {level: rank for rank, level in enumerate(Level)}
MOST_FINDINGS = 500
"""Of a table with thousands of broken columns, the ledger keeps so many."""


def worst(levels: Iterable[Level]) -> Level:
    """Fold many levels into one; nothing found is ok."""
    return max(levels, key=_ORDER.__getitem__, default=Level.OK)


def conclude(facts: RowFacts, findings: Iterable[Finding], policy: CheckPolicy) -> Checked:
    """Apply the config's levels and allowances to all findings, and fold them into one verdict."""
    settled = sorted((_settled(f, policy) for f in findings), key=lambda f: -_ORDER[f.level])
    return Checked(
        level=worst(finding.level for finding in settled),
        findings=tuple(settled[:MOST_FINDINGS]),
        further=max(0, len(settled) - MOST_FINDINGS),
        words=(
            f"{facts.training.rows:,} training and {facts.holdout_rows:,} holdout rows in "
            f"{len(facts.contract.columns)} columns, compared with {facts.reference_name}"
            + (f"; {facts.early:,} rows wait: their labels came early" if facts.early else "")
        ),
    )


def _settled(finding: Finding, policy: CheckPolicy) -> Finding:
    level, by = policy.levels.get(finding.check), "levels"
    if policy.allows(finding.check, finding.column):
        level, by = Level.OK, "allow"
    if level is None or level is finding.level:
        return finding
    reason = f"{finding.reason} ({finding.level}, {level} by data.checks.{by})"
    return finding.model_copy(update={"level": level, "reason": reason})
