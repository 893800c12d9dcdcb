"""What did a policy of monitoring and retraining do, window by window?"""

from __future__ import annotations

from datetime import datetime

from modelyard.domain.metrics import Interval
from modelyard.domain.values import Value

NEVER, CONFIGURED, ORACLE = "never", "config", "oracle"
"""Names of the policies that bound the others, and of the model's own."""

ABORTED = "aborted"
"""The outcome of a retraining that its rows or its recipe stopped."""


class Step(Value):
    """What one policy did about one window."""

    start: datetime
    end: datetime
    release: str
    """Version that answered the window."""
    alarms: tuple[str, ...] = ()
    """What monitoring found wrong when the window had ended, or when its labels were due."""
    verdict: str | None = None
    """The controller's, when the window had ended; None where nothing asked it."""
    cause: str | None = None
    outcome: str | None = None
    """What came of a retraining: the state that its release ended in."""
    reasons: tuple[str, ...] = ()
    """Of the outcome, or what spoke against a retraining."""


class PolicyRun(Value):
    """What one policy did over all windows, with what was known at each."""

    policy: str
    words: str
    """How it differs from the model's config."""
    steps: tuple[Step, ...]
    fits: int = 0
    """Models that it had to fit."""
    fit_seconds: float = 0.0
    """What fitting them took, whether in this run or in another one that shares them."""

    def count(self, outcome: str) -> int:
        """Return how many retrainings ended in a state."""
        return sum(step.outcome == outcome for step in self.steps)

    @property
    def trainings(self) -> int:
        """Retrainings that trained something."""
        return sum(step.outcome not in (None, ABORTED) for step in self.steps)


class WindowFigure(Value):
    """The true metric of one policy in one window, by all labels that ever came."""

    start: datetime
    end: datetime
    rows: int
    figure: Interval | None
    """None where the metric is not defined on the window's rows."""
