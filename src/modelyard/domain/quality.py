"""Is the data of this window sound enough to be judged, and to be trained on?"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType

from modelyard.domain.arrivals import Gap
from modelyard.domain.profiles import CategoricalProfile, NumericProfile, Profile
from modelyard.domain.statistics import share_difference_tail
from modelyard.domain.values import Value

_CERTAIN = 1e-6
"""Chance below which a higher null rate is not put down to luck; small windows vary much."""
_CONTINUOUS_BINS = 20
"""Filled bins from which a numeric column counts as continuous: a flag, a weekday or a month may
well stay the same all window long or take a new value, a thermometer may not."""
_NEAR_POWER = 0.15
"""How near a change of the mean order of magnitude (log10) must be to a power of ten to be taken
for a change of unit: demand that rose fourfold is news, not a fault."""
_ORDERS = 1.5
"""Change of the mean order of magnitude that is a fault however far it is from a power of ten: a
season on top of another unit moves it away from one, and nothing real grows thirtyfold."""


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
    GAP = "gap"
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
    """Rows in levels that the reference lacks: news, which retraining may mend."""
    respelled_broken: float = 0.05
    """Rows in levels that the reference has in another spelling: a fault upstream."""
    outside_warn: float = 0.05
    """Rows beyond the reference's smallest or largest value."""
    far_outside_warn: float = 0.01
    """Rows so far beyond those that no season explains it."""
    far_outside_broken: float = 0.10
    spike_warn: float = 0.25
    """Rise of the share of one narrow bin of a continuous column."""
    duplicates_warn: float = 0.0
    duplicates_broken: float = 0.10
    gap_broken: float = 0.5
    """Rows that usually come in a time in which none came: what is left speaks for the rest no
    more."""
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
    gap: Gap | None = None,
    still: Collection[str] = (),
    spreads: Mapping[str, float] = MappingProxyType({}),
) -> QualityVerdict:
    """Judge the data of a window against the profile of the release's reference.

    Args:
        duplicate_ids: rows whose id another row of the window has as well.
        expected_rows: what a window of this length usually holds, for example the median of the
            former ones; None leaves the volume unjudged, save that zero rows are broken.
        gap: a time without rows that `arrivals.find_gap` found.
        still: columns whose every value stays for a while (`drift_history.still_columns`): to stay
            the same all window long is worth a look then, and no fault.
        spreads: usual standard deviation within a window by column
            (`drift_history.usual_spreads`): without a change of it there is no change of unit.
    """
    found = list(_check_rows(window, policy, duplicate_ids, expected_rows))
    if window.rows and gap is not None:
        found.append(_gap_finding(gap, policy))
    if window.rows:
        for name, known in reference.columns.items():
            if name in window.columns:
                found += _check_column(
                    name, known, window.columns[name], policy, name in still, spreads.get(name)
                )
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


def _gap_finding(gap: Gap, policy: QualityPolicy) -> QualityFinding:
    return _graded(
        QualityCheck.GAP,
        None,
        gap.share,
        0.0,
        gap.share > policy.gap_broken,
        f"no rows from {gap.start:%Y-%m-%d %H:%M} to {gap.end:%Y-%m-%d %H:%M} UTC, where each of "
        f"the windows before had {gap.least} or more, and {gap.share:.0%} of their rows came",
    )


def _check_column(
    name: str,
    known: NumericProfile | CategoricalProfile,
    seen: NumericProfile | CategoricalProfile,
    policy: QualityPolicy,
    stays: bool,
    spread: float | None,
) -> Iterator[QualityFinding]:
    yield from _check_nulls(name, known, seen, policy)
    if not seen.present:
        return
    if isinstance(known, CategoricalProfile) and isinstance(seen, CategoricalProfile):
        yield from _check_unseen(name, known, seen, policy)
    elif isinstance(known, NumericProfile) and isinstance(seen, NumericProfile) and known.present:
        yield from _check_range(name, known, seen, policy)
        if seen.present >= policy.min_rows:
            yield from _check_unit(name, known, seen, spread)
            yield from _check_stuck(name, known, seen, policy, stays)


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
    name: str, known: CategoricalProfile, seen: CategoricalProfile, policy: QualityPolicy
) -> Iterator[QualityFinding]:
    spellings = {_plain(level) for level in known.levels}
    respelled = {level: n for level, n in seen.unseen.items() if _plain(level) in spellings}
    broken = sum(respelled.values()) / seen.present > policy.respelled_broken
    shown = respelled if broken else seen.unseen
    share = (sum(shown.values()) if broken else seen.unseen_rows) / seen.present
    if broken or share > policy.unseen_warn:
        examples = ", ".join(repr(level) for level in list(shown)[:3])
        what = "spelled otherwise in the reference" if broken else "that the reference lacks"
        yield _graded(
            QualityCheck.UNSEEN,
            name,
            share,
            policy.respelled_broken if broken else policy.unseen_warn,
            broken,
            f"{name}: {share:.1%} of the rows in levels {what}: {examples}",
        )


def _plain(level: str) -> str:
    """Return a level without what changes by accident: case, blanks, `.0` of a number."""
    plain = "".join(level.split()).casefold()
    return plain.removesuffix(".0")


def _check_range(
    name: str, known: NumericProfile, seen: NumericProfile, policy: QualityPolicy
) -> Iterator[QualityFinding]:
    outside, far = seen.outside / seen.present, seen.far_outside / seen.present
    broken = far > policy.far_outside_broken and _is_continuous(known)
    is_far = far > policy.far_outside_warn
    if is_far or outside > policy.outside_warn:
        far_limit = policy.far_outside_broken if broken else policy.far_outside_warn
        yield _graded(
            QualityCheck.RANGE,
            name,
            far if is_far else outside,
            far_limit if is_far else policy.outside_warn,
            broken,
            f"{name}: {outside:.1%} of the rows outside {known.min:.4g} to {known.max:.4g} "
            f"(window {seen.min:.4g} to {seen.max:.4g})",
        )


def _check_unit(
    name: str, known: NumericProfile, seen: NumericProfile, spread: float | None
) -> Iterator[QualityFinding]:
    """Find a column in another unit: order of magnitude and spread moved by one power of ten.

    A season moves the level of a thermometer tenfold around zero, but not its spread; of a column
    that is mostly zero, the rest is too few to tell. The weeks of January are a tenth of the year's
    in level and in spread, but no window has more than its week or two: there the `spread` that is
    usual within a window tells.
    """
    if not _is_continuous(known) or not seen.sd or seen.non_zero < seen.present / 2:
        return
    if known.log_mean is None or seen.log_mean is None:
        return
    jump = seen.log_mean - known.log_mean
    power = round(jump)
    # A window spans less than the reference does, so its spread may lag behind, not run ahead.
    lag = power - math.log10(seen.sd / known.sd)
    is_unit = abs(jump - power) <= _NEAR_POWER or abs(jump) >= _ORDERS
    # Of a former spread and one that moved with the unit, it must be nearer to the latter.
    moved = not spread or math.log10(seen.sd / spread) / (power or 1) > 0.5
    if power and is_unit and moved and -0.3 <= lag <= 0.7:
        yield _graded(
            QualityCheck.UNIT,
            name,
            10**jump,
            10.0**power,
            True,
            f"{name}: values are about {10**jump:.3g} times those of the reference, as after a "
            "change of unit",
        )


def _is_continuous(known: NumericProfile) -> bool:
    return sum(count > 0 for count in known.counts) >= _CONTINUOUS_BINS


def _check_stuck(
    name: str, known: NumericProfile, seen: NumericProfile, policy: QualityPolicy, stays: bool
) -> Iterator[QualityFinding]:
    if not _is_continuous(known):
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
            constant and not stays,
            f"{name}: {words}",
        )


def _graded(
    check: QualityCheck, column: str | None, value: float, limit: float, broken: bool, words: str
) -> QualityFinding:
    outcome = QualityOutcome.BROKEN if broken else QualityOutcome.WARN
    return QualityFinding(
        check=check, column=column, outcome=outcome, value=value, limit=limit, words=words
    )
