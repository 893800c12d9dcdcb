"""How do predictions look against what came true?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modelyard.adapters.pictures.plot_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    legend,
    name,
    new_chart,
    new_figure,
    positions,
    stretches,
    style,
    time_axis,
)

_MAX_POINTS = 4_000  # more dots are one blot, and the file grows
_MAX_CURVES = 6
_COLOURS = (BLUE, ORANGE, GREEN, RED, INK, GREY)


def predicted_against_true(truth: np.ndarray, predicted: np.ndarray, target: str) -> Figure:
    """Draw each prediction against the true outcome; on the diagonal is right."""
    figure = new_chart(5.6, 5.2)
    axes = style(
        figure.add_subplot(),
        title="Predicted against true",
        x=f"true {name(target)}",
        y=f"predicted {name(target)}",
    )
    kept = _thinned(len(truth))
    axes.scatter(truth[kept], predicted[kept], s=9, color=BLUE, alpha=0.35, linewidths=0)
    low = float(min(truth.min(), predicted.min()))
    high = float(max(truth.max(), predicted.max()))
    margin = 0.03 * (high - low or 1.0)
    axes.plot([low, high], [low, high], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    axes.set_aspect("equal")
    return figure


def residuals_over_time(
    truth: np.ndarray, predicted: np.ndarray, target: str, times: np.ndarray | None = None
) -> Figure:
    """Draw predicted minus true over event time, with the middle half in each stretch of it."""
    figure = new_chart()
    x, label = positions(times, len(truth))
    axes = style(
        figure.add_subplot(),
        title="Residuals over the holdout",
        x=label,
        y=f"predicted minus true {name(target)}",
    )
    residuals = predicted - truth
    kept = _thinned(len(truth))
    axes.scatter(x[kept], residuals[kept], s=7, color=GREY, alpha=0.35, linewidths=0)
    parts = stretches(len(truth))
    middles = np.array([x[part[len(part) // 2]] for part in parts])
    low, mid, high = np.array([np.quantile(residuals[p], [0.25, 0.5, 0.75]) for p in parts]).T
    axes.fill_between(middles, low, high, color=BLUE, alpha=0.2, linewidth=0, label="middle half")
    axes.plot(middles, mid, color=BLUE, linewidth=1.8, label="median")
    axes.axhline(0, color=INK, linewidth=1)
    if times is not None:
        time_axis(axes)
    legend(axes, loc="upper left", ncols=2)
    return figure


Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Name to (whether each row is positive, its score), for one model or one class each."""


def roc_curves(curves: Curves) -> Figure:
    """Draw how many positives are found for how many false alarms, at every threshold."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure, axes = _unit_square("ROC curve", "false positive rate", "true positive rate")
    for colour, (label, (positive, score)) in _some(curves):
        x, y, _ = roc_curve(positive, score)
        area = roc_auc_score(positive, score)
        axes.plot(x, y, color=colour, linewidth=1.8, label=f"{name(label)}, area {area:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="by chance")
    legend(axes, loc="lower right")
    return figure


def precision_recall_curves(curves: Curves) -> Figure:
    """Draw how many of the found are right against how many are found, at every threshold."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = _unit_square("Precision and recall", "recall", "precision")
    for colour, (label, (positive, score)) in _some(curves):
        precision, recall, _ = precision_recall_curve(positive, score)
        mean = average_precision_score(positive, score)
        text = f"{name(label)}, average {mean:.3f}"
        axes.step(recall, precision, where="post", color=colour, linewidth=1.8, label=text)
        share = float(np.mean(positive))
        axes.axhline(share, color=colour, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
    legend(axes, loc="lower left")
    return figure


def calibration_curves(curves: Curves, bins: int = 10) -> Figure:
    """Draw how often what was given a probability comes true; on the diagonal is honest."""
    from sklearn.calibration import calibration_curve

    figure = new_chart(5.6, 6.0)
    top, bottom = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    style(top, title="Calibration", y="share that came true")
    style(bottom, x="predicted probability", y="share of rows")
    top.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for colour, (label, (positive, score)) in _some(curves):
        inside = np.clip(score, 0.0, 1.0)
        came_true, predicted = calibration_curve(positive, inside, n_bins=bins, strategy="quantile")
        top.plot(predicted, came_true, color=colour, marker="o", markersize=4, label=name(label))
        bottom.hist(
            inside,
            bins=np.linspace(0, 1, 31).tolist(),
            weights=np.full(len(inside), 1 / len(inside)),
            histtype="step",
            color=colour,
            linewidth=1.4,
        )
    top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    legend(top, loc="upper left")
    return figure


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw rows by true and predicted class code; shaded by the share of the true class."""
    size = len(classes)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (truth.astype(np.int64), predicted.astype(np.int64)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 3.6 + 0.55 * min(size, 14)
    figure = new_figure(side + 0.4, side)
    axes = style(figure.add_subplot(), title="Confusion matrix", x="predicted", y="true")
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = [name(label) for label in classes]
    upright = size > 4 or max(map(len, ticks)) > 10
    axes.set_xticks(
        range(size), ticks, rotation=40 if upright else 0, ha="right" if upright else "center"
    )
    axes.set_yticks(range(size), ticks)
    for (i, j), rows in np.ndenumerate(counts):
        if size <= 12:
            text = f"{rows:,}\n{shares[i, j]:.0%}"
            colour = "white" if shares[i, j] > 0.55 else INK
            axes.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
    return figure


def _unit_square(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = new_chart(5.6, 5.2)
    axes = style(figure.add_subplot(), title=title, x=x, y=y)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    return figure, axes


def _some(curves: Curves) -> list[tuple[str, tuple[str, tuple[np.ndarray, np.ndarray]]]]:
    """Return colour and curve of the first few that have both positives and negatives."""
    defined = [item for item in curves.items() if 0 < np.sum(item[1][0]) < len(item[1][0])]
    return list(zip(_COLOURS, defined[:_MAX_CURVES], strict=False))


def _thinned(rows: int) -> np.ndarray:
    """Return evenly spread row numbers, no more than can be told apart in a plot."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _MAX_POINTS)).astype(np.int64))
