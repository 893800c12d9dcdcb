"""How does every plot of ModelYard look?

Figures are made without pyplot: it keeps each figure alive in a global list, and two threads that
draw would share it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

INK = "#1f2933"
GREY = "#8a94a0"
LIGHT = "#e4e7eb"
BLUE = "#2f6fb3"
"""The challenger, or the release that is looked at."""
ORANGE = "#d98324"
"""The champion, or what it is compared with."""
RED = "#c2352b"
"""What is wrong: alarms and limits."""
GREEN = "#3d8b57"

_LONGEST_NAME = 40
_DOTS_PER_INCH = 90
_COMPRESSION = {"compress_level": 3}
"""Files are 4 % larger than at the default level, and are written in half the time."""
_MARGINS = (0.95, 0.2, 0.6, 0.5)
"""Inches to the left, right, below and above axes: for ten digits, and for the title."""


def new_figure(width: float = 8.0, height: float = 4.2) -> Figure:
    """Return an empty figure of a size in inches that draws without a display, and whose margins
    are made to fit what stands in them."""
    return _figure(width, height, layout="constrained")


def new_chart(width: float = 8.0, height: float = 4.2) -> Figure:
    """Return such a figure for axes of numbers and times, whose labels are never long.

    To fit margins takes as long as to draw, so these are given.
    """
    figure = _figure(width, height)
    left, right, bottom, top = _MARGINS
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    return figure


def _figure(width: float, height: float, **options: Any) -> Figure:
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> Axes:
    """Give axes the house look, a title that says what is seen, and labels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color=LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK, pad=10)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    return axes


def legend(axes: Axes, **where: Any) -> None:
    """Draw a frameless legend if anything has a label."""
    if axes.get_legend_handles_labels()[0]:
        drawn = axes.legend(frameon=False, fontsize=9, **where)
        for text in drawn.get_texts():
            text.set_color(INK)


def time_axis(axes: Axes) -> None:
    """Label a time axis with as few and as short dates as tell the time."""
    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    formats = ["%Y", "%b", "%d", "%H:%M", "%H:%M", "%H:%M:%S"]  # by default seconds stand alone
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, formats=formats))


def name(text: object) -> str:
    """Return a column, class or release name as plain text of bounded length.

    A pair of dollar signs would be read as a formula, and a broken formula raises.
    """
    plain = str(text).replace("$", r"\$")
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"


def positions(times: np.ndarray | None, rows: int) -> tuple[np.ndarray, str]:
    """Return where rows lie on the x axis, and its label: event time, or the order of the rows."""
    if times is None:
        return np.arange(rows), "row, oldest first"
    return naive_utc(times), "event time (UTC)"


def stretches(rows: int) -> list[np.ndarray]:
    """Split rows in time order into up to 30 stretches with at least 25 rows each."""
    return np.array_split(np.arange(rows), max(1, min(30, rows // 25)))


def as_png(figure: Figure) -> bytes:
    """Return a figure of `new_figure` as PNG, in the size in which MLflow and Prefect show it."""
    buffer = io.BytesIO()
    # savefig would draw everything twice: first without ink, to lay it out.
    cast(FigureCanvasAgg, figure.canvas).print_png(buffer, pil_kwargs=_COMPRESSION)
    return buffer.getvalue()


def naive_utc(times: np.ndarray | Sequence[Any]) -> np.ndarray:
    """Return times of any kind as datetime64 in UTC."""
    import pandas as pd

    return pd.to_datetime(np.asarray(times), utc=True).tz_localize(None).to_numpy()
