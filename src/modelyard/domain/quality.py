"""Is the data of this window sound enough to be judged, and to be trained on?"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from modelyard.domain.profiles import CategoricalProfile, NumericProfile, Profile
from modelyard.domain.statistics import share_difference_tail
from modelyard.domain.values import Value

_CERTAIN = 1e-6
"""Chance below which a higher null rate is not put down to luck; small windows vary much."""
_CONTINUOUS_BINS = 20
"""Filled bins from which a numeric column counts as continuous: a flag, a weekday or a month may
well stay the same all window long, a thermometer may not."""
_SAME_UNIT = 0.5
"""Largest change of the mean order of magnitude (log10) that is still the same unit: a factor 3."""


class QualityOutcome(StrEnum):
    """What a window's data-quality verdict says, in rising order of severity."""

    OK = "ok"
    WARN = "warn"
    """Worth a look; the window counts."""
    BROKEN = "broken"
    """Nothing may be trained on this window."""


class QualityCheck(StrEnum):
    """What was found wanting."""

    VOLUME = "volume"
    DUPLICATES = "duplicates"
    NULLS = "nulls"
    UNSEEN = "unseen levels"
    RANGE = "range"
    UNIT = "unit"
    STUCK = "stuck"


class QualityPolicy(Value):
    """Limits, as shares 0..1 of the window's rows where nothing else is said."""

    min_rows: int = 200
    """Rows below which distributions are not judged."""
    nulls_warn: float = 0.05
    """Rise of a column's null rate over the reference's."""
    nulls_broken: float = 0.25
    unseen_warn: float = 0.01
    unseen_broken: float = 0.20
    outside_warn: float = 0.05
    """Rows beyond the reference's smallest or largest value."""
    far_outside_broken: float = 0.01
    """Rows so far beyond those that no season explains it."""
    spike_warn: float = 0.25
    """Rise of the share of one narrow bin of a continuous column."""
    duplicates_warn: float = 0.0
    duplicates_broken: float = 0.10
    volume_warn: float = 0.5
    """Rows, as a share of what was expected."""
    volume_broken: float = 0.1


class QualityFinding(Value):
    """One thing that is wrong, with its figure and the limit that it passed."""

    check: QualityCheck
    column: str | None
    """None for what concerns all columns."""
    outcome: QualityOutcome
    value: float
    limit: float
    words: str


class QualityVerdict(Value):
    """Whether a window's data is sound, the gravest finding first."""

    outcome: QualityOutcome
    findings: tuple[QualityFinding, ...] = ()
    reasons: tuple[str, ...]


def judge_quality(
    reference: Profile,
    window: Profile,
    policy: QualityPolicy,
    *,
    duplicate_ids: int = 0,
    expected_rows: float | None = None,
) -> QualityVerdict:
    """Judge the data of a window against the profile of the release's reference.

    Args:
        duplicate_ids: rows whose id another row of the window has as well.
        expected_rows: what a window of this length usually holds, for example the median of the
            former ones; None leaves the volume unjudged, save that zero rows are broken.
    """
    found = list(_check_rows(window, policy, duplicate_ids, expected_rows))
    if window.rows:
        for name, known in reference.columns.items():
            if name in window.columns:
                found += _check_column(name, known, window.columns[name], policy)
    order = list(QualityOutcome)
    found.sort(key=lambda finding: -order.index(finding.outcome))
    outcome = found[0].outcome if found else QualityOutcome.OK
    return QualityVerdict(
        outcome=outcome,
        findings=tuple(found),
        reasons=tuple(finding.words for finding in found)
        or (f"{window.rows} rows in {len(reference.columns)} columns as they should be",),
    )


def _check_rows(
    window: Profile, policy: QualityPolicy, duplicates: int, expected: float | None
) -> Iterator[QualityFinding]:
    if window.rows == 0:
        yield _graded(QualityCheck.VOLUME, None, 0.0, 0.0, True, "no rows in the window")
        return
    if expected:
        share = window.rows / expected
        if share < policy.volume_warn:
            yield _graded(
                QualityCheck.VOLUME,
                None,
                share,
                policy.volume_warn,
                share < policy.volume_broken,
                f"{window.rows} rows where {expected:.0f} were expected",
            )
    share = duplicates / window.rows
    if share > policy.duplicates_warn:
        yield _graded(
            QualityCheck.DUPLICATES,
            None,
            share,
            policy.duplicates_warn,
            share > policy.duplicates_broken,
            f"{duplicates} of {window.rows} rows repeat an id",
        )


def _check_column(
    name: str,
    known: NumericProfile | CategoricalProfile,
    seen: NumericProfile | CategoricalProfile,
    policy: QualityPolicy,
) -> Iterator[QualityFinding]:
    yield from _check_nulls(name, known, seen, policy)
    if not seen.present:
        return
    if isinstance(known, CategoricalProfile) and isinstance(seen, CategoricalProfile):
        yield from _check_unseen(name, seen, policy)
    elif isinstance(known, NumericProfile) and isinstance(seen, NumericProfile) and known.present:
        yield from _check_range(name, known, seen, policy)
        if seen.present >= policy.min_rows:
            yield from _check_unit(name, known, seen)
            yield from _check_stuck(name, known, seen, policy)


def _check_nulls(
    name: str,
    known: NumericProfile | CategoricalProfile,
    seen: NumericProfile | CategoricalProfile,
    policy: QualityPolicy,
) -> Iterator[QualityFinding]:
    n, m = known.nulls + known.present, seen.nulls + seen.present
    was, now = known.nulls / n, seen.nulls / m
    if now - was <= policy.nulls_warn:
        return
    if share_difference_tail(seen.nulls, m, known.nulls, n) > _CERTAIN:
        return
    yield _graded(
        QualityCheck.NULLS,
        name,
        now - was,
        policy.nulls_warn,
        now - was > policy.nulls_broken,
        f"{name}: {now:.1%} null, {was:.1%} in the reference",
    )


def _check_unseen(
    name: str, seen: CategoricalProfile, policy: QualityPolicy
) -> Iterator[QualityFinding]:
    share = seen.unseen_rows / seen.present
    if share > policy.unseen_warn:
        examples = ", ".join(repr(level) for level in list(seen.unseen)[:3])
        yield _graded(
            QualityCheck.UNSEEN,
            name,
            share,
            policy.unseen_warn,
            share > policy.unseen_broken,
            f"{name}: {share:.1%} of the rows in levels that the reference lacks: {examples}",
        )


def _check_range(
    name: str, known: NumericProfile, seen: NumericProfile, policy: QualityPolicy
) -> Iterator[QualityFinding]:
    outside, far = seen.outside / seen.present, seen.far_outside / seen.present
    broken = far > policy.far_outside_broken
    if broken or outside > policy.outside_warn:
        yield _graded(
            QualityCheck.RANGE,
            name,
            far if broken else outside,
            policy.far_outside_broken if broken else policy.outside_warn,
            broken,
            f"{name}: {outside:.1%} of the rows outside {known.min:.4g} to {known.max:.4g} "
            f"(window {seen.min:.4g} to {seen.max:.4g})",
        )


def _check_unit(name: str, known: NumericProfile, seen: NumericProfile) -> Iterator[QualityFinding]:
    """Find a column in another unit: its order of magnitude and its spread moved together.

    A season moves the level of a thermometer tenfold around zero, but not its spread.
    """
    if known.log_mean is None or seen.log_mean is None or not known.sd or not seen.sd:
        return
    jump = seen.log_mean - known.log_mean
    spread = seen.sd / known.sd
    # A window spans less than the reference does, so its spread may lag behind upwards.
    together = spread > 10 ** (jump - 0.7) if jump > 0 else spread < 10 ** (jump + 0.3)
    if abs(jump) > _SAME_UNIT and together:
        yield _graded(
            QualityCheck.UNIT,
            name,
            10**jump,
            10**_SAME_UNIT,
            True,
            f"{name}: values are about {10**jump:.3g} times those of the reference, as after a "
            "change of unit",
        )


def _check_stuck(
    name: str, known: NumericProfile, seen: NumericProfile, policy: QualityPolicy
) -> Iterator[QualityFinding]:
    if sum(count > 0 for count in known.counts) < _CONTINUOUS_BINS:
        return
    rises = [
        now / seen.present - was / known.present
        for was, now in zip(known.counts[1:-1], seen.counts[1:-1], strict=True)
    ]
    constant = seen.min == seen.max
    if constant or max(rises) > policy.spike_warn:
        words = (
            f"all {seen.present} values are {seen.min:.6g}"
            if constant
            else f"{max(rises):.0%} more of the rows than in the reference hold nearly one value"
        )
        yield _graded(
            QualityCheck.STUCK,
            name,
            1.0 if constant else max(rises),
            policy.spike_warn,
            constant,
            f"{name}: {words}",
        )


def _graded(
    check: QualityCheck, column: str | None, value: float, limit: float, broken: bool, words: str
) -> QualityFinding:
    outcome = QualityOutcome.BROKEN if broken else QualityOutcome.WARN
    return QualityFinding(
        check=check, column=column, outcome=outcome, value=value, limit=limit, words=words
    )
