"""Is a release that was made again the release that was recorded?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import numpy as np

from modelyard.domain.metrics import Interval
from modelyard.domain.records import Threads, pins_of
from modelyard.domain.values import Value

TOLERANCE = 1e-6
"""Largest difference, absolute and relative, of predictions that count as equal: a bundle's."""
UNSEEN_SHARE = 0.1
"""A metric counts as equal within this share of its interval's half-width: far less than what the
holdout could tell apart."""


class ReproductionVerdict(StrEnum):
    """How equal a refit is; each is weaker than the one before it."""

    BIT_EQUAL = "bit-equal"
    """The model file is the same, byte for byte."""
    PREDICTION_EQUAL = "prediction-equal"
    """Every holdout row gets the same label and the same figures within the tolerance."""
    METRIC_EQUAL = "metric-equal"
    """Predictions differ, by less than the holdout could tell."""
    DIFFERENT = "different"


class Part(StrEnum):
    """What a release is made of, in the order in which it is compared."""

    DATA = "data"
    CODE = "code"
    RECIPE = "recipe"
    ENVIRONMENT = "environment"


class Difference(Value):
    """Something that is not as it was recorded."""

    part: Part
    name: str
    recorded: str
    found: str
    decides: bool = False
    """Whether no refit can make up for it: what was recorded was altered afterwards."""

    def __str__(self) -> str:
        return f"{self.part}: {self.name}: recorded {self.recorded}, now {self.found}"


class CheckedRecord(Value):
    """What was found of a release's record."""

    release_id: str
    differences: tuple[Difference, ...]
    usable: bool
    """Whether it can be made again: rows can be read, and nothing to install or run was altered."""


class Agreement(Value):
    """How far two models' predictions of the same rows are apart."""

    rows: int
    largest: float
    """Largest absolute difference of a predicted number or probability; of labels 1."""
    off: int
    """Rows whose difference is beyond the tolerance, or whose labels differ."""
    labels: int
    """Rows whose labels differ."""
    first: str | None = None
    """The first such row, in words."""


class MetricPair(Value):
    """One metric of the recorded and of the reproduced predictions of the same rows."""

    recorded: Interval
    reproduced: float

    @property
    def difference(self) -> float:
        return abs(self.reproduced - self.recorded.value)

    @property
    def allowed(self) -> float:
        """The difference that the holdout could not see."""
        return UNSEEN_SHARE * (self.recorded.high - self.recorded.low) / 2

    @property
    def equal(self) -> bool:
        return self.difference <= self.allowed


class Reproduction(Value):
    """What came of making a release again."""

    model: str
    version: str
    verdict: ReproductionVerdict
    reasons: tuple[str, ...]
    largest_difference: float | None
    """Largest difference of a prediction; None where there was no refit to compare."""
    first_difference: str | None
    """The first thing that is not as it was recorded; None where all of it is."""
    differences: tuple[Difference, ...]
    metrics: dict[str, MetricPair]
    rows: int
    """Holdout rows that were compared."""
    by_reference: bool
    """Whether the rows were read from their source again, not from a copy."""
    refit_seconds: float | None
    learnt_holdout: bool = False
    """Whether both fits know the rows that they are measured on."""

    @property
    def measured_on(self) -> str:
        """Say which rows the metrics are of; those of learnt rows are no promise."""
        known = ", which both fits have learnt" if self.learnt_holdout else ""
        return f"the holdout{known}"


def compare_predictions(
    recorded: np.ndarray,
    found: np.ndarray,
    labels: tuple[Sequence[str], Sequence[str]] | None = None,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Compare figures, shape (rows,) or (rows, classes), and labels where there are any.

    A missing figure (NaN) is equal to a missing one only.
    """
    rows = len(recorded)
    if recorded.shape != found.shape:
        words = f"{found.shape} figures instead of {recorded.shape}"
        return Agreement(rows=rows, largest=float("inf"), off=rows, labels=0, first=words)
    before, after = recorded.reshape(rows, -1), found.reshape(rows, -1)
    close = np.isclose(after, before, rtol=tolerance, atol=tolerance, equal_nan=True).all(axis=1)
    both_missing = np.isnan(before) & np.isnan(after)
    gaps = np.where(both_missing, 0.0, np.abs(after - before))
    gaps = np.where(np.isnan(gaps), np.inf, gaps)
    other = np.zeros(rows, dtype=bool)
    if labels is not None:
        other = np.array(labels[0], dtype=object) != np.array(labels[1], dtype=object)
    off = ~close | other
    largest = float(gaps.max()) if gaps.size else float(other.any())
    first = None
    if off.any():
        row = int(off.argmax())
        told = (
            (labels[0][row], labels[1][row])
            if labels is not None and other[row]
            else (
                _figures(before[row]),
                _figures(after[row]),
            )
        )
        first = f"row {row} of the holdout was predicted {told[0]}, now {told[1]}"
    return Agreement(
        rows=rows, largest=largest, off=int(off.sum()), labels=int(other.sum()), first=first
    )


def judge_reproduction(
    differences: Sequence[Difference],
    *,
    same_file: bool,
    agreement: Agreement | None,
    metrics: Mapping[str, MetricPair],
) -> tuple[ReproductionVerdict, tuple[str, ...]]:
    """Return the verdict and its reasons.

    `agreement` is None where there was no refit, or nothing recorded to compare it with. What was
    altered after it was recorded makes a release different whatever the refit says.
    """
    altered = [str(difference) for difference in differences if difference.decides]
    if altered:
        refit = _words(same_file, agreement, metrics)
        return ReproductionVerdict.DIFFERENT, (*altered, *refit)
    verdict = ReproductionVerdict.DIFFERENT
    if same_file:
        verdict = ReproductionVerdict.BIT_EQUAL
    elif agreement is not None and agreement.rows and not agreement.off:
        verdict = ReproductionVerdict.PREDICTION_EQUAL
    elif metrics and all(pair.equal for pair in metrics.values()):
        verdict = ReproductionVerdict.METRIC_EQUAL
    return verdict, _words(same_file, agreement, metrics)


def compare_pins(
    recorded: str, found: str, *, where: str = "", decides: bool = False
) -> list[Difference]:
    """Name the packages that two sets of pins have in other versions."""
    old, new = pins_of(recorded), pins_of(found)
    return [
        Difference(
            part=Part.ENVIRONMENT,
            name=name + where,
            recorded=old.get(name, "absent"),
            found=new.get(name, "absent"),
            decides=decides,
        )
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def compare_facts(pairs: Iterable[tuple[str, object, object]], part: Part) -> list[Difference]:
    """Return the differences among facts, each a name with what was recorded and what is."""
    return [
        Difference(part=part, name=name, recorded=str(before), found=str(after))
        for name, before, after in pairs
        if before != after
    ]


def compare_threads(recorded: Threads, found: Threads) -> list[Difference]:
    """Name what decides the order of sums: numbers of threads, and the routines of a BLAS."""

    def facts(threads: Threads) -> dict[str, str]:
        named = {f"{api} threads": str(count) for api, count in threads.limits().items()}
        kinds = sorted({p.architecture for p in threads.pools if p.architecture})
        return named | ({"blas architecture": ", ".join(kinds)} if kinds else {})

    old, new = facts(recorded), facts(found)
    return compare_facts(
        ((name, old[name], new[name]) for name in sorted(old.keys() & new.keys())),
        Part.ENVIRONMENT,
    )


def _words(
    same_file: bool, agreement: Agreement | None, metrics: Mapping[str, MetricPair]
) -> tuple[str, ...]:
    if same_file:
        return ("the refit's model file is the recorded one, byte for byte",)
    if agreement is None:
        return ("nothing was compared",)
    if not agreement.off:
        return (
            f"all {agreement.rows:,} holdout rows are predicted alike, largest difference "
            f"{agreement.largest:.3g}; the model files differ",
        )
    words = [
        f"{agreement.off:,} of {agreement.rows:,} holdout rows are predicted otherwise, largest "
        f"difference {agreement.largest:.3g}; {agreement.first}"
    ]
    words += [
        f"{name} is {pair.reproduced:.6g}, was {pair.recorded}: "
        + ("less than the holdout can tell" if pair.equal else f"more than {pair.allowed:.2g} off")
        for name, pair in metrics.items()
    ]
    return tuple(words)


def _figures(values: np.ndarray) -> str:
    return ", ".join(f"{value:.9g}" for value in values[:4]) + (", ..." if len(values) > 4 else "")
