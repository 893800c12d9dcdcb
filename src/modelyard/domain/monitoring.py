"""What did one window show, and is anything wrong?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from modelyard.domain.causes import JudgedWindow
from modelyard.domain.drift import DriftOutcome, DriftVerdict
from modelyard.domain.drift_history import WindowShares
from modelyard.domain.estimation import Estimate
from modelyard.domain.metrics import Interval
from modelyard.domain.performance import PerformanceOutcome, PerformanceVerdict
from modelyard.domain.quality import QualityOutcome, QualityVerdict
from modelyard.domain.values import Value
from modelyard.domain.windows import Window


class IncidentCause(StrEnum):
    """What an incident is about: at most one is open for a model and cause."""

    DATA = "data"
    PERFORMANCE = "performance"
    DRIFT = "drift"
    TRAINING_DATA = "training data"
    """Rows that a delivery was about to train on; the other causes are about a window."""

    ROLLOUT = "rollout"
    """A release that was taken out of traffic before it became champion."""

    LOG = "inference log"
    """Files of the inference log that could not be read and were set aside."""

    RETRAINING = "retraining"
    """Retrainings that kept the champion again and again: the controller waits for a person."""

    @property
    def event(self) -> str:
        """Name of the Prefect event that tells of it."""
        return {
            IncidentCause.DATA: "modelyard.data.broken",
            IncidentCause.PERFORMANCE: "modelyard.performance.degraded",
            IncidentCause.DRIFT: "modelyard.drift.detected",
            IncidentCause.TRAINING_DATA: "modelyard.training_data.blocked",
            IncidentCause.ROLLOUT: "modelyard.rollout.aborted",
            IncidentCause.LOG: "modelyard.log.damaged",
            IncidentCause.RETRAINING: "modelyard.retraining.stopped",
        }[self]


WINDOW_CAUSES = (IncidentCause.DATA, IncidentCause.PERFORMANCE, IncidentCause.DRIFT)
"""Causes that windows open and resolve, in event time."""


class WindowRecord(Value):
    """All that monitoring found in one window, for the release that it is judged by."""

    window: Window
    release: str
    """Version whose reference and promise the window is judged by."""
    served: dict[str, int]
    """Rows that each version answered."""
    rows: int
    quality: QualityVerdict
    drift: DriftVerdict
    performance: PerformanceVerdict
    realized: float | None
    """The primary metric over all rows of the window whose label is due and known, whichever
    release answered them."""
    estimate: Estimate | None = None
    """What the metric is likely to be, told before labels come; never merged with `realized`."""
    due_at: datetime | None = None
    """From when on the labels of all rows are due."""
    arrived: tuple[int, ...] = ()
    """Rows in each of `arrivals.SLOTS` equal parts of the window."""
    shares: WindowShares | None = None
    """What later windows' drift is measured against, should this one be quiet."""
    measured_at: datetime | None = None
    """When its rows and labels were about to be read: what came later is not in it."""
    report: str | None = None
    """Path of the drift report in the model's monitoring run."""
    told: bool = False
    """Whether incidents, alerts and events of this record are out."""

    @property
    def likely(self) -> Interval | None:
        """Return the estimated metric; None where it could not be estimated."""
        return self.estimate and self.estimate.likely

    @property
    def causes(self) -> tuple[IncidentCause, ...]:
        """Return what is wrong in this window."""
        found = (
            (IncidentCause.DATA, self.quality.outcome is QualityOutcome.BROKEN),
            (
                IncidentCause.PERFORMANCE,
                self.performance.outcome is PerformanceOutcome.DEGRADED
                or self.performance.alarm
                or (self.estimate is not None and self.estimate.alarm),
            ),
            (IncidentCause.DRIFT, self.drift.outcome is DriftOutcome.DRIFTED),
        )
        return tuple(cause for cause, is_wrong in found if is_wrong)

    @property
    def settled(self) -> tuple[IncidentCause, ...]:
        """Return what this window shows to be right: saying nothing resolves nothing."""
        found = (
            (IncidentCause.DATA, self.quality.outcome is not QualityOutcome.BROKEN),
            (
                IncidentCause.PERFORMANCE,
                self.performance.outcome is PerformanceOutcome.OK and not self.performance.alarm,
            ),
            (IncidentCause.DRIFT, self.drift.outcome is DriftOutcome.STABLE),
        )
        return tuple(cause for cause, is_right in found if is_right)

    def is_quiet(self, *, by_labels: bool) -> bool:
        """Return whether the window may count as one in which nothing was wrong.

        With `by_labels` it is enough that its labels show the release as good as promised.
        """
        right = self.settled
        as_before = IncidentCause.DRIFT in right
        as_promised = by_labels and IncidentCause.PERFORMANCE in right
        return IncidentCause.DATA in right and (as_before or as_promised)

    def reasons(self, cause: IncidentCause) -> tuple[str, ...]:
        """Return the figures behind one cause; none for a cause that no window shows."""
        reasons = {
            IncidentCause.DATA: self.quality.reasons,
            IncidentCause.PERFORMANCE: self._performance_reasons(),
            IncidentCause.DRIFT: self._drift_reasons(),
        }
        return reasons.get(cause, ())

    def _performance_reasons(self) -> tuple[str, ...]:
        """Return first what was measured, and then what is only likely."""
        likely = () if self.estimate is None else (self.estimate.words,)
        return (*self.performance.reasons, *likely)

    def _drift_reasons(self) -> tuple[str, ...]:
        """Return what moved, and next to what moved most what it is likely to do to the metric."""
        told = self.estimate
        if self.drift.outcome is not DriftOutcome.DRIFTED or told is None or told.likely is None:
            return self.drift.reasons
        first, *rest = self.drift.reasons
        return (first, told.words, *rest)

    def judged(self) -> JudgedWindow:
        """Return what the retraining controller needs of it."""
        return JudgedWindow(
            id=self.window.id,
            start=self.window.start,
            end=self.window.end,
            drift=self.drift.outcome,
            performance=self.performance.outcome,
            quality=self.quality.outcome,
            realized=self.performance.realized.value if self.performance.realized else None,
            moved=max((finding.effect for finding in self.drift.findings), default=None),
        )


def quiet_eve(window: Window, release: str, former: Sequence[WindowRecord]) -> WindowShares | None:
    """Return what the window just before one looked like; None unless it was quiet.

    `former` are records of windows before, oldest first; that of the eve must be by the same
    release, as shares are of that release's deciles and levels.
    """
    eve = former[-1] if former else None
    if eve is None or eve.window.end != window.start or eve.release != release:
        return None
    return eve.shares if eve.is_quiet(by_labels=False) else None
