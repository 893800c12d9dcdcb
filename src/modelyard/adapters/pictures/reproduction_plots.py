"""How near is a refit to the recorded release?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modelyard.adapters.pictures.plot_style import BLUE, GREEN, GREY, INK, RED, new_figure, style
from modelyard.domain.reproduction import UNSEEN_SHARE, MetricPair

_MOST_POINTS = 4000


def draw_reproduction(
    recorded: np.ndarray, reproduced: np.ndarray, metrics: Mapping[str, MetricPair]
) -> Figure:
    """Draw predictions against predictions, and each metric within its recorded interval.

    `recorded` and `reproduced` are the figures of the same rows, shape (rows,).
    """
    figure = new_figure(9.0, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    _draw_predictions(left, recorded, reproduced)
    _draw_metrics(right, metrics)
    return figure


def _draw_predictions(axes: Axes, recorded: np.ndarray, reproduced: np.ndarray) -> None:
    style(axes, title="Each holdout row's prediction", x="recorded", y="reproduced")
    places = np.linspace(0, len(recorded) - 1, min(_MOST_POINTS, len(recorded))).astype(int)
    before, after = recorded[places], reproduced[places]
    known = np.isfinite(before) & np.isfinite(after)
    if not known.any():
        return
    ends = [float(min(before[known].min(), after[known].min()))]
    ends.append(float(max(before[known].max(), after[known].max())))
    axes.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
    axes.scatter(before[known], after[known], s=8, color=BLUE, alpha=0.5, linewidths=0, zorder=2)


def _draw_metrics(axes: Axes, metrics: Mapping[str, MetricPair]) -> None:
    style(axes, title="Metrics within the recorded interval", x="half-widths of the interval")
    axes.grid(visible=False)
    axes.axvspan(-UNSEEN_SHARE, UNSEEN_SHARE, color=GREEN, alpha=0.18, linewidth=0)
    for place, pair in enumerate(metrics.values()):
        width = (pair.recorded.high - pair.recorded.low) / 2 or 1.0
        low, high = (
            (edge - pair.recorded.value) / width for edge in (pair.recorded.low, pair.recorded.high)
        )
        axes.plot([low, high], [place, place], color=GREY, linewidth=2, solid_capstyle="butt")
        offset = (pair.reproduced - pair.recorded.value) / width
        shown = float(np.clip(offset, -3.0, 3.0)) if np.isfinite(offset) else 3.0
        axes.plot([shown], [place], "o", color=BLUE if pair.equal else RED, markersize=6)
    axes.set_yticks(range(len(metrics)), list(metrics), color=INK)
    axes.set_ylim(max(1, len(metrics)) - 0.5, -0.5)
