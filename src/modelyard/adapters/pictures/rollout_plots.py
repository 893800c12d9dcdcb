"""How did a rollout go?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from modelyard.adapters.pictures.plot_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    legend,
    naive_utc,
    new_chart,
    style,
    time_axis,
)
from modelyard.domain.rollout import (
    EventKind,
    Look,
    RolloutEvent,
    Verdict,
)
from modelyard.domain.rollout_plan import Plan

_COLOURS = {
    Verdict.SUCCESSFUL: GREEN,
    Verdict.INCONCLUSIVE: GREY,
    Verdict.ERROR: ORANGE,
    Verdict.FAILED: RED,
}


def plot_rollout(events: Sequence[RolloutEvent]) -> Figure:
    """Draw the new release's share of the traffic over time, and what each look said."""
    figure = new_chart(8.0, 3.4)
    axes = style(
        figure.add_subplot(),
        title="The new release's share of the traffic",
        x="time (UTC)",
        y="percent",
    )
    shares = _shares(events)
    times = naive_utc([event.at for event in events])
    axes.step(times, shares, where="post", color=BLUE, linewidth=1.8)
    for verdict, colour in _COLOURS.items():
        looks = [
            place
            for place, event in enumerate(events)
            if event.kind is EventKind.LOOKED
            and Look.model_validate(event.payload).verdict is verdict
        ]
        if looks:
            at = times[looks]
            said, label = [shares[i] for i in looks], f"look: {verdict}"
            axes.plot(at, said, "o", color=colour, markersize=5, label=label)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylim(-4, 104)
    time_axis(axes)
    legend(axes, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, borderaxespad=0.2)
    return figure


def _shares(events: Sequence[RolloutEvent]) -> list[int]:
    """Return the new release's percent after each event."""
    steps = Plan.model_validate(events[0].payload).steps
    share, shares = steps[0].weight, []
    for event in events:
        if event.kind is EventKind.ENTERED:
            share = steps[int(event.payload["step"])].weight
        elif event.kind is EventKind.PROMOTED:
            share = 100
        elif event.kind is EventKind.ABORTED:
            share = 0
        shares.append(share)
    return shares
