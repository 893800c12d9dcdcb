"""What happened to a model in production, window by window?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from modelyard.adapters.pictures.plot_style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    RED,
    legend,
    naive_utc,
    name,
    new_figure,
    style,
    time_axis,
)
from modelyard.domain.drift import DriftOutcome, DriftVerdict
from modelyard.domain.metrics import Interval
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.windows import Window

_MAX_HEAT_COLUMNS = 40


@dataclass(frozen=True)
class WindowPoint:
    """One judged window as it is drawn."""

    window: Window
    realized: Interval | None
    """The metric on the window's labels; None leaves a gap."""
    release: str | None = None
    """Version that served the window."""
    degraded: bool = False
    drifted: bool = False
    promised: Interval | None = None
    """What the gate promised for the release that served."""
    limit: float | None = None
    likely: Interval | None = None
    """The metric as it was estimated, which labels need not bear out."""


def window_points(records: Sequence[WindowRecord]) -> list[WindowPoint]:
    """Return recorded windows as they are drawn."""
    return [
        WindowPoint(
            window=record.window,
            realized=record.performance.realized,
            release=record.release,
            promised=record.performance.promised,
            limit=record.performance.limit,
            likely=record.likely,
            degraded=record.performance.outcome is PerformanceOutcome.DEGRADED,
            drifted=record.drift.outcome is DriftOutcome.DRIFTED,
        )
        for record in records
    ]


def monitoring_figures(records: Sequence[WindowRecord], metric_name: str) -> dict[str, Figure]:
    """Return the plots of a model's monitoring page by name; `records` are oldest first."""
    return {
        "metric": metric_over_windows(window_points(records), metric_name),
        "drift": drift_heat_map([(record.window, record.drift) for record in records]),
    }


def metric_over_windows(points: Sequence[WindowPoint], metric_name: str) -> Figure:
    """Draw a metric with its interval by window, what was promised, and the releases."""
    figure = new_figure(9.0, 4.2)
    axes = style(
        figure.add_subplot(),
        title=f"{metric_name} by window, as labels came",
        x="event time (UTC)",
        y=metric_name,
    )
    if not points:
        return _without_windows(figure, axes)
    _draw_promises(axes, points)
    _draw_estimates(axes, points)
    _draw_metric(axes, points)
    _leave_room(axes, [*(p.realized for p in points), *(p.likely for p in points)])
    _mark_releases(axes, points)
    time_axis(axes)
    _legend_below(axes)
    return figure


def drift_heat_map(verdicts: Sequence[tuple[Window, DriftVerdict]]) -> Figure:
    """Draw how far each column moved in each window; a dot marks what counts as drift.

    Columns that moved most come first; at most 40 are drawn. Grey is a window with too few rows.
    """
    title = "Share of rows that moved, by column and window"
    columns = _by_effect([verdict for _, verdict in verdicts])[:_MAX_HEAT_COLUMNS]
    if not columns:
        figure = new_figure()
        return _without_windows(figure, style(figure.add_subplot(), title=title))
    effects = np.full((len(columns), len(verdicts)), np.nan)
    drifted: list[tuple[int, int]] = []
    for j, (_, verdict) in enumerate(verdicts):
        if verdict.outcome is DriftOutcome.TOO_FEW_ROWS:
            continue
        for i, column in enumerate(columns):
            finding = verdict.strongest(column)
            effects[i, j] = finding.effect if finding else 0.0
            if finding and finding.drifted:
                drifted.append((i, j))
    figure = new_figure(max(6.0, 3.2 + 0.34 * len(verdicts)), 1.7 + 0.27 * max(len(columns), 2))
    axes = style(figure.add_subplot(), title=title)
    axes.grid(visible=False)
    axes.set_facecolor(LIGHT)
    colours = LinearSegmentedColormap.from_list("drift", ["#ffffff", ORANGE, RED])
    top = max(0.2, float(np.nanmax(effects, initial=0.0)))
    image = axes.imshow(effects, aspect="auto", cmap=colours, vmin=0, vmax=top)
    if drifted:
        rows, places = zip(*drifted, strict=True)
        axes.scatter(places, rows, s=14, color=INK, linewidths=0)
    axes.set_yticks(range(len(columns)), [name(column) for column in columns])
    step = max(1, len(verdicts) // 14)
    axes.set_xticks(
        range(0, len(verdicts), step),
        [f"{window.start:%Y-%m-%d}" for window, _ in verdicts[::step]],
        rotation=40,
        ha="right",
    )
    axes.set_xlabel("start of the window (UTC)", fontsize=9.5, color=INK)
    bar = figure.colorbar(image, ax=axes, pad=0.015, format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue] matplotlib's stub lacks it
    bar.ax.tick_params(colors=INK, labelsize=9)
    return figure


def replay_story(
    points: Sequence[WindowPoint],
    metric_name: str,
    *,
    marks: Mapping[str, datetime] | None = None,
) -> Figure:
    """Draw a replay as one story: the error by window, who served, what happened, what alarmed.

    Args:
        marks: what is known to have happened, and when, for example a shift of demand.
    """
    figure = new_figure(10.0, 4.8)
    axes = style(
        figure.add_subplot(),
        title=f"{metric_name} in production, window by window",
        x="event time (UTC)",
        y=f"{metric_name} on true outcomes",
    )
    if not points:
        return _without_windows(figure, axes)
    _shade_releases(axes, points)
    _draw_metric(axes, points)
    _leave_room(axes, [point.realized for point in points])
    drifts = [point for point in points if point.drifted]
    if drifts:
        axes.scatter(
            _middles(drifts),
            [0.03] * len(drifts),
            transform=axes.get_xaxis_transform(),
            marker="D",
            s=26,
            color=ORANGE,
            linewidths=0,
            label="input drift",
            zorder=4,
        )
    for label, when in (marks or {}).items():
        _mark_time(axes, when, label)
    time_axis(axes)
    _legend_below(axes)
    return figure


def _without_windows(figure: Figure, axes: Axes) -> Figure:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "no window was judged yet", transform=axes.transAxes, ha="center")
    return figure


def _draw_metric(axes: Axes, points: Sequence[WindowPoint]) -> None:
    """Draw a metric by window: line, intervals, and alarms in red."""
    x = _middles(points)
    value, low, high = _lines([point.realized for point in points])
    axes.vlines(x, low, high, color=BLUE, alpha=0.45, linewidth=2.5)
    axes.plot(x, value, color=BLUE, linewidth=1.5, marker="o", markersize=4.5, label="realized")
    bad = np.array([point.degraded for point in points], dtype=bool)
    if bad.any():
        axes.scatter(x[bad], value[bad], s=70, color=RED, zorder=3, linewidths=0, label="degraded")


def _draw_estimates(axes: Axes, points: Sequence[WindowPoint]) -> None:
    """Draw what the metric was estimated to be: dashed, in a band, as nobody measured it."""
    x = _middles(points)
    value, low, high = _lines([point.likely for point in points])
    if not np.isfinite(value).any():
        return
    axes.fill_between(x, low, high, color=ORANGE, alpha=0.13, linewidth=0)
    axes.plot(
        x,
        value,
        color=ORANGE,
        linewidth=1.3,
        linestyle=(0, (5, 3)),
        marker="o",
        markersize=3,
        label="estimated",
    )


def _leave_room(axes: Axes, intervals: Sequence[Interval | None]) -> None:
    """Let the axis reach from zero, which an error is read against, to where names have room."""
    _, low, high = _lines(intervals)
    if np.isfinite(high).any() and np.nanmin(low) >= 0:
        axes.set_ylim(0, np.nanmax(high) * 1.22)


def _lines(intervals: Sequence[Interval | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value, low and high end of each interval; NaN where there is none."""
    ends = [(i.value, i.low, i.high) if i else (np.nan,) * 3 for i in intervals]
    value, low, high = np.array(ends, dtype=float).T
    return value, low, high


def _draw_promises(axes: Axes, points: Sequence[WindowPoint]) -> None:
    """Draw what was promised for each window, and the limit: a new release brings its own."""
    spans = [(_number(point.window.start), _number(point.window.end)) for point in points]
    for point, (start, end) in zip(points, spans, strict=True):
        if point.promised is not None:
            axes.fill_between(
                [start, end],
                point.promised.low,
                point.promised.high,
                color=LIGHT,
                linewidth=0,
                label=_once(axes, "promised"),
            )
        if point.limit is not None:
            label = _once(axes, "limit")
            axes.hlines(point.limit, start, end, color=RED, linewidth=1.2, label=label)


def _once(axes: Axes, label: str) -> str:
    """Return the label the first time, and then one that legends leave out."""
    return f"_{label}" if label in axes.get_legend_handles_labels()[1] else label


def _mark_releases(axes: Axes, points: Sequence[WindowPoint]) -> None:
    for version, start, _ in _reigns(points):
        axes.axvline(start, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        _write_above(axes, start, version)


def _shade_releases(axes: Axes, points: Sequence[WindowPoint]) -> None:
    for number, (version, start, end) in enumerate(_reigns(points)):
        shade = "#eef3f8" if number % 2 == 0 else "#fbf1e4"
        axes.axvspan(start, end, color=shade, linewidth=0, zorder=0)
        _write_above(axes, start, version)


def _write_above(axes: Axes, x: Any, text: str) -> None:
    axes.annotate(
        name(text),
        (x, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(4, -3),
        textcoords="offset points",
        va="top",
        fontsize=9,
        color=INK,
    )


def _mark_time(axes: Axes, when: datetime, text: str) -> None:
    x = _number(when)
    axes.axvline(x, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        name(text),
        (x, 0.9),
        xycoords=axes.get_xaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        va="top",
        fontsize=9,
        fontstyle="italic",
        color=INK,
    )


def _legend_below(axes: Axes) -> None:
    legend(axes, loc="upper left", bbox_to_anchor=(0.0, -0.16), ncols=5, borderaxespad=0.0)


def _reigns(points: Sequence[WindowPoint]) -> list[tuple[str, float, float]]:
    """Return who served from when to when, one entry a stretch of the same release."""
    served = [point for point in points if point.release is not None]
    reigns = []
    for version, stretch in groupby(served, key=lambda point: str(point.release)):
        windows = [point.window for point in stretch]
        reigns.append((version, _number(windows[0].start), _number(windows[-1].end)))
    return reigns


def _middles(points: Sequence[WindowPoint]) -> np.ndarray:
    return np.array([_number(p.window.start + (p.window.end - p.window.start) / 2) for p in points])


def _number(when: datetime) -> float:
    return float(date2num(naive_utc([when])[0]))


def _by_effect(verdicts: Sequence[DriftVerdict]) -> list[str]:
    """Return all tested columns, those that moved most in any window first."""
    largest: dict[str, float] = {}
    for verdict in verdicts:
        for finding in verdict.findings:
            largest[finding.column] = max(largest.get(finding.column, 0.0), finding.effect)
    return sorted(largest, key=lambda column: -largest[column])
