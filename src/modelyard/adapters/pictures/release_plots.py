"""How good was each release when it was made, and how good the champion that it replaced?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from modelyard.adapters.pictures.plot_style import (
    BLUE,
    GREY,
    ORANGE,
    legend,
    new_figure,
    style,
)
from modelyard.domain.gate import Gated

SHOWN_RELEASES = 20


def plot_metric_history(releases: Sequence[tuple[str, Gated]], metric: str) -> Figure:
    """Draw a metric of the newest releases with its interval, each on its own holdout.

    `releases` are versions with what the gate measured, oldest first. Beside each is the champion
    of its day on the same rows: neighbouring releases were measured on different rows, and only
    the two marks above one version can be compared.
    """
    shown = [(v, g) for v, g in releases if metric in g.metrics][-SHOWN_RELEASES:]
    figure = new_figure(max(5.0, min(10.0, 2.5 + 0.8 * len(shown))), 3.6)
    axes = figure.add_subplot()
    for place, (_, gated) in enumerate(shown):
        interval = gated.metrics[metric]
        axes.vlines(place, interval.low, interval.high, color=BLUE, linewidth=2.2)
        axes.plot(place, interval.value, "o", color=BLUE, label="" if place else "the release")
        former = gated.champion_metrics.get(metric)
        if former is not None:
            first = not any(metric in g.champion_metrics for _, g in shown[:place])
            label = "the champion before it, same rows" if first else ""
            axes.plot(place - 0.16, former, "D", color=ORANGE, markersize=5, label=label)
    axes.plot(
        range(len(shown)), [g.metrics[metric].value for _, g in shown], color=GREY, linewidth=0.8
    )
    axes.set_xticks(range(len(shown)), [version for version, _ in shown])
    axes.set_xlim(-0.6, len(shown) - 0.4)
    style(axes, title=f"{metric} of each release on its holdout", x="version", y=metric)
    legend(axes)
    return figure
