"""What do windows say that may ask for a retraining, and since when is it so?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import numpy as np

from modelyard.domain.drift import DriftOutcome
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.quality import QualityOutcome
from modelyard.domain.values import Value

_LOOK_BACK = 5
"""Windows before an alarm in which the change behind it is looked for: tests take that long."""
_LEAST_FIGURES = 4
"""Windows with a figure, below which where they step is not asked."""


class RetrainingCause(StrEnum):
    """What asks for a retraining, the strongest first."""

    PERSON = "person"
    PERFORMANCE = "performance"
    DRIFT = "drift"
    SCHEDULE = "schedule"


class JudgedWindow(Value):
    """What monitoring said about one window."""

    id: str
    start: datetime
    end: datetime
    drift: DriftOutcome
    performance: PerformanceOutcome
    quality: QualityOutcome
    realized: float | None = None
    """The primary metric on the window's labels."""
    moved: float | None = None
    """Largest share of rows that moved in a column, alarmed or not."""

    @property
    def is_labelled(self) -> bool:
        """Whether enough labels came to say how good the release was."""
        return self.performance in (PerformanceOutcome.OK, PerformanceOutcome.DEGRADED)

    @property
    def is_broken(self) -> bool:
        """Whether what it shows may be its data's fault, and nothing that is to be learnt."""
        return self.quality is QualityOutcome.BROKEN


class Signal(Value):
    """Whether monitoring shows one cause, by at least k of the last n windows and the newest."""

    cause: RetrainingCause
    newest: bool
    """Whether the newest window that can tell shows it."""
    passed: bool
    figure: str
    limit: str
    words: str
    window_id: str | None
    """The newest window that can tell."""


def performance_signal(windows: Sequence[JudgedWindow], k: int, n: int) -> Signal:
    """Count degraded windows among the last n that have labels.

    Labels may come later than the next window ends: a window without them says nothing, neither
    for nor against. So does one whose data was broken.
    """
    windows = _telling(windows)
    labelled = [window for window in windows if window.is_labelled]
    flags = [window.performance is PerformanceOutcome.DEGRADED for window in labelled[-n:]]
    which = "windows" if len(labelled) == len(windows) else "windows with labels"
    return _k_of_n(RetrainingCause.PERFORMANCE, labelled, flags, k, n, which)


def drift_signal(
    windows: Sequence[JudgedWindow], k: int, n: int, *, harmless_counts: bool = False
) -> Signal:
    """Count drifted windows among the last n; a drift that labels show to be harmless is none.

    The labels of the newest labelled window of the present drift tell: inputs may move without the
    release becoming worse. Where no such window has labels, nothing is known against it. Windows
    whose data was broken say nothing.
    """
    windows = _telling(windows)
    flags = [window.drift is DriftOutcome.DRIFTED for window in windows[-n:]]
    signal = _k_of_n(RetrainingCause.DRIFT, windows, flags, k, n, "windows")
    proof = harmless(windows)
    if proof is None or not signal.newest or harmless_counts:
        return signal
    words = (
        f"{signal.words}; without effect: labels of the window {_span(proof)}, which drifted too, "
        "show the performance that was promised"
    )
    return signal.model_copy(update={"passed": False, "words": words})


def _telling(windows: Sequence[JudgedWindow]) -> Sequence[JudgedWindow]:
    """Leave out former windows whose data was broken: their labels come when it is mended already.

    The newest stays, so that the controller says that broken data holds it back.
    """
    return [window for window in windows if window is windows[-1] or not window.is_broken]


def harmless(windows: Sequence[JudgedWindow]) -> JudgedWindow | None:
    """Return the window that shows the present drift to be without effect, if one does."""
    labelled = [
        window
        for window in _present(windows, RetrainingCause.DRIFT)
        if window.is_labelled and window.drift is DriftOutcome.DRIFTED
    ]
    is_fine = labelled and labelled[-1].performance is PerformanceOutcome.OK
    return labelled[-1] if is_fine else None


def drifts_since(windows: Sequence[JudgedWindow]) -> datetime | None:
    """Return the start of the first window of the present drift; None where the newest is quiet."""
    present = _present(windows, RetrainingCause.DRIFT)
    return present[0].start if present else None


def locate_change(windows: Sequence[JudgedWindow], cause: RetrainingCause) -> datetime | None:
    """Return where the change began that the newest windows show; None where they show none.

    A change that is smaller than a window's chance, or that came in the middle of one, alarms late.
    So the step of the figures is looked for in the few windows before the first alarm: where two
    means explain all windows best (least squares, the maximum of the weighted CUSUM; Csörgő and
    Horváth 1997, "Limit Theorems in Change-Point Analysis", chapter 2).
    """
    present = _present(windows, cause)
    if not present:
        return None
    began = present[0].start
    # what alarmed long before has a step of its own; shortly before, it is the same change
    earlier = [place for place, w in enumerate(windows) if w.start < began]
    over = [place for place in earlier[:-_LOOK_BACK] if _shows(windows[place], cause)]
    since = windows[over[-1] + 1 :] if over else windows
    figures = [(w, f) for w in since if (f := _figure(w, cause)) is not None]
    if len(figures) < _LEAST_FIGURES:
        return began
    values = np.array([figure for _, figure in figures])
    before = np.arange(1, len(values))
    sums = np.cumsum(values - values.mean())[:-1]
    score = np.abs(sums) / np.sqrt(before * (len(values) - before) / len(values))
    starts = [window.start for window, _ in figures]
    first = next((place for place, start in enumerate(starts) if start >= began), len(starts) - 1)
    places = range(max(1, first - _LOOK_BACK), first + 1)
    return starts[max(places, key=lambda place: score[place - 1])] if places else began


def _present(windows: Sequence[JudgedWindow], cause: RetrainingCause) -> tuple[JudgedWindow, ...]:
    """Return the newest windows from the first that shows the cause on; none where it is over.

    Windows that cannot tell neither end it nor begin it.
    """
    shown: list[JudgedWindow] = []
    run: list[JudgedWindow] = []
    for window in reversed(windows):
        shows = _shows(window, cause)
        if shows is False:
            break
        run.append(window)
        if shows:
            shown = list(run)
    return tuple(reversed(shown))


def _shows(window: JudgedWindow, cause: RetrainingCause) -> bool | None:
    """Whether a window shows a cause; None where it cannot tell."""
    if window.is_broken:
        return None
    if cause is RetrainingCause.PERFORMANCE:
        bad = window.performance is PerformanceOutcome.DEGRADED
        return bad if window.is_labelled else None
    if window.drift is DriftOutcome.TOO_FEW_ROWS:
        return None
    return window.drift is DriftOutcome.DRIFTED


def _figure(window: JudgedWindow, cause: RetrainingCause) -> float | None:
    return window.realized if cause is RetrainingCause.PERFORMANCE else window.moved


def _k_of_n(
    cause: RetrainingCause,
    windows: Sequence[JudgedWindow],
    flags: list[bool],
    k: int,
    n: int,
    which: str,
) -> Signal:
    newest = bool(flags) and flags[-1]
    shows = "shows it" if newest else "does not show it"
    words = (
        f"{cause} in {sum(flags)} of the last {len(flags)} {which}, {k} of {n} are needed; the "
        f"newest window {shows}"
        if flags
        else f"no window has the labels that tell of {cause}"
    )
    return Signal(
        cause=cause,
        newest=newest,
        passed=newest and sum(flags) >= k,
        figure=f"{sum(flags)} of {len(flags)}",
        limit=f"{k} of {n}",
        words=words,
        window_id=windows[-1].id if windows else None,
    )


def _span(window: JudgedWindow) -> str:
    return f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M}"
