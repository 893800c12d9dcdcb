"""How are the results of backtests shown?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from benchmarks.claims import show
from modelyard.adapters.backtest.report import share_words
from modelyard.domain.backtest import Backtest
from modelyard.domain.policy_runs import Step

_FIGURE = re.compile(r"\d[\d:,.-]*")


def scores_table(title: str, done: Backtest) -> None:
    """Print every policy beside the others, what lost least first."""
    show(
        title,
        ("policy", done.metric, "recovered", "trainings", "kept", "fits", "alarms (false)"),
        [
            (
                score.policy,
                f"{score.mean:.4f}",
                share_words(score.recovered),
                score.trainings,
                score.kept,
                score.fits,
                f"{score.alarms} ({score.false_alarms})",
            )
            for score in done.ranked
        ],
    )


def decisions_table(title: str, steps: Sequence[Step]) -> None:
    """Print what a policy decided; windows in a row of which the same is told are one row."""
    rows = []
    for what, alike in groupby(steps, key=_told):
        windows = list(alike)
        first, last = windows[0].start, windows[-1].start
        span = f"{first:%Y-%m-%d}" if first == last else f"{first:%Y-%m-%d} … {last:%Y-%m-%d}"
        rows.append((span, len(windows), *what))
    show(title, ("windows from", "", "release", "alarms", "decided", "why"), rows)


def _told(step: Step) -> tuple[str, str, str, str]:
    cause = f" on {step.cause}" if step.cause else ""
    outcome = f": {step.outcome}" if step.outcome else ""
    return (
        step.release,
        ", ".join(step.alarms),
        f"{step.verdict or 'nothing'}{cause}{outcome}",
        _reason_words(step),
    )


def _reason_words(step: Step) -> str:
    """Say what spoke against a retraining, without the figures that each window has; nothing where
    it took place and was promoted."""
    if step.outcome == "champion":
        return ""
    return "; ".join(_FIGURE.sub("n", reason) for reason in step.reasons)
