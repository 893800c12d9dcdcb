"""What did each policy lose, and when?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from modelyard.adapters.pictures.plot_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    RED,
    legend,
    naive_utc,
    name,
    new_chart,
    new_figure,
    style,
    time_axis,
)
from modelyard.domain.backtest import Backtest
from modelyard.domain.policy_runs import NEVER, ORACLE, PolicyRun, WindowFigure

_OTHERS = ("#6b4fa0", "#2a9d8f", "#b5651d", "#7a9a01", "#a0527d")
_MOST_LINES = 6


def backtest_figures(backtest: Backtest) -> dict[str, Figure]:
    """Return the figures of one backtest, by name."""
    return {
        "metric over time": _over_time(backtest),
        "releases and alarms": _calendar(backtest),
        "lost against trainings": _pareto(backtest),
    }


def _over_time(backtest: Backtest) -> Figure:
    figure = new_chart(11.0, 4.6)
    axes = style(
        figure.add_subplot(),
        title=f"{backtest.metric} of {name(backtest.model)} under each policy, by all labels; "
        "a triangle is a new release",
        x="event time (UTC)",
        y=backtest.metric,
    )
    axes.axhline(
        backtest.promise, color=GREY, linestyle=":", linewidth=1, label="promised at the start"
    )
    recommended = backtest.recommendation.policy
    for run, colour in zip(_drawn(backtest), _colours(backtest), strict=False):
        figures = backtest.figures[run.policy]
        times, values = _middle(figures), _values(figures)
        strong = run.policy == recommended
        axes.plot(
            times,
            values,
            color=colour,
            linewidth=2.2 if strong else 1.3,
            alpha=1.0 if strong else 0.85,
            linestyle="--" if run.policy == ORACLE else "-",
            label=name(run.policy),
            zorder=3 if strong else 2,
        )
        if strong:
            low, high = _bounds(figures)
            axes.fill_between(times, low, high, color=colour, alpha=0.15, linewidth=0)
        if run.policy != ORACLE:
            new = np.array([False, *(s.outcome == "champion" for s in run.steps[:-1])])
            axes.plot(times[new], values[new], "^", color=colour, markersize=7, zorder=4)
    time_axis(axes)
    legend(axes, ncol=4, loc="lower left", bbox_to_anchor=(0, -0.34))
    figure.subplots_adjust(bottom=0.24)
    return figure


def _calendar(backtest: Backtest) -> Figure:
    """Draw a line a policy: what alarmed, what was retrained, and what came of it."""
    runs = [run for run in backtest.runs if run.policy != ORACLE]
    figure = new_figure(11.0, 1.4 + 0.36 * len(runs))
    axes = style(figure.add_subplot(), title="What each policy saw and did", x="event time (UTC)")
    marks = (
        ("drift", "alarms", "s", LIGHT, 10),
        ("performance", "alarms", "s", ORANGE, 6),
        ("data", "alarms", "x", RED, 6),
        ("champion", "outcome", "^", GREEN, 8),
        ("kept_champion", "outcome", "v", GREY, 7),
        ("aborted", "outcome", "X", RED, 7),
    )
    words = {
        "drift": "drift alarm",
        "performance": "performance alarm",
        "data": "broken data",
        "champion": "retrained, promoted",
        "kept_champion": "retrained, champion kept",
        "aborted": "not to be trained on",
    }
    for what, where, mark, colour, size in marks:
        at = [
            (step.end if where == "outcome" else step.start + (step.end - step.start) / 2, place)
            for place, run in enumerate(runs)
            for step in run.steps
            if (what in step.alarms if where == "alarms" else step.outcome == what)
        ]
        if at:
            times, places = zip(*at, strict=True)
            axes.plot(
                naive_utc(times),
                places,
                mark,
                color=colour,
                markersize=size,
                label=words[what],
                linestyle="",
            )
    axes.set_yticks(range(len(runs)), [name(run.policy) for run in runs])
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.set_xlim(*naive_utc([backtest.start, backtest.end]))
    time_axis(axes)
    legend(axes, ncol=6, loc="upper left", bbox_to_anchor=(0, -0.42 / len(runs) * 3))
    return figure


def _pareto(backtest: Backtest) -> Figure:
    figure = new_chart(8.0, 4.4)
    axes = style(
        figure.add_subplot(),
        title="What is lost, for how many trainings: below and left is better",
        x="trainings",
        y=f"{backtest.metric} lost against the oracle, summed over windows",
    )
    front = sorted(
        (s for s in backtest.scores if s.best_for_its_price), key=lambda s: (s.trainings, s.lost)
    )
    axes.step(
        [s.trainings for s in front],
        [s.lost for s in front],
        where="post",
        color=LIGHT,
        linewidth=3,
        zorder=1,
    )
    alike: dict[tuple[int, str], list[str]] = {}
    for score in sorted(backtest.scores, key=lambda s: s.lost, reverse=True):
        chosen = score.policy == backtest.recommendation.policy
        colour = GREEN if chosen else BLUE if score.best_for_its_price else GREY
        axes.plot(score.trainings, score.lost, "o", color=colour, markersize=9 if chosen else 6)
        told = name(score.policy) + (" (recommended)" if chosen else "")
        at = alike.setdefault((score.trainings, f"{score.lost:.3g}"), [])
        at.insert(0 if chosen else len(at), told)
    room = 0.06 * max(score.lost for score in backtest.scores)
    above = float("inf")
    for (trainings, lost), names in alike.items():
        is_close, above = above - float(lost) < room, float(lost)
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        axes.annotate(
            ", ".join(names[:2]) + more,
            (trainings, float(lost)),
            xytext=(7, -12 if is_close else 4),
            textcoords="offset points",
            fontsize=8.5,
            color=INK,
        )
    axes.margins(x=0.18, y=0.12)
    return figure


def _drawn(backtest: Backtest) -> list[PolicyRun]:
    """Return what is drawn as a line: the bounds, the recommended one, and the best of the rest."""
    wanted = [NEVER, ORACLE, backtest.recommendation.policy]
    shown = {score.lost for score in backtest.scores if score.policy in wanted}
    for score in backtest.ranked:
        if score.lost not in shown:  # what came to the same is one line
            wanted.append(score.policy)
            shown.add(score.lost)
    chosen = set(wanted[:_MOST_LINES])
    return [run for run in backtest.runs if run.policy in chosen]


def _colours(backtest: Backtest) -> list[str]:
    fixed = {NEVER: GREY, ORACLE: INK, backtest.recommendation.policy: GREEN}
    others = iter((BLUE, *_OTHERS))
    return [fixed.get(run.policy) or next(others) for run in _drawn(backtest)]


def _middle(figures: Sequence[WindowFigure]) -> np.ndarray:
    return naive_utc([f.start + (f.end - f.start) / 2 for f in figures])


def _values(figures: Sequence[WindowFigure]) -> np.ndarray:
    return np.array([np.nan if f.figure is None else f.figure.value for f in figures])


def _bounds(figures: Sequence[WindowFigure]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [
        (np.nan, np.nan) if f.figure is None else (f.figure.low, f.figure.high) for f in figures
    ]
    low, high = np.array(pairs).T
    return low, high
