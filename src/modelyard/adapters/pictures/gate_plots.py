"""How does the gate's comparison look?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.pictures.outcome_plots import (
    Curves,
    calibration_curves,
    confusion_matrix,
    precision_recall_curves,
    predicted_against_true,
    residuals_over_time,
    roc_curves,
)
from modelyard.adapters.pictures.plot_style import (
    BLUE,
    GREEN,
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
from modelyard.config import Evaluation
from modelyard.domain.gate import Gated, SliceMetric
from modelyard.domain.intervals import paired_difference
from modelyard.domain.metrics import Interval, Metric
from modelyard.errors import InvalidInputError

if TYPE_CHECKING:
    from modelyard.adapters.learning.judging import Comparison, Judged

_MAX_SLICES = 24


def gate_figures(comparison: Comparison, gated: Gated, evaluation: Evaluation) -> dict[str, Figure]:
    """Return the plots of one evaluation by name, ready to be logged with its MLflow run."""
    metric = find_metric(evaluation.primary_metric, comparison.contract.task)
    challenger, rival = comparison.challenger, comparison.rival
    values, truth = challenger.outcomes.values, comparison.truth
    contract = comparison.contract
    figures = {
        "gate": gate_difference(
            metric,
            truth,
            challenger.outcomes.for_metric(metric),
            rival.outcomes.for_metric(metric),
            times=comparison.times,
            challenger_name=challenger.name,
            champion_name=rival.name,
            confidence=evaluation.confidence,
        )
    }
    if any(slice_.gain for slice_ in gated.slices):
        figures["slices"] = slice_forest(gated.slices, metric.name)
    if not contract.task.is_classification:
        figures["predicted_against_true"] = predicted_against_true(truth, values, contract.target)
        figures["residuals"] = residuals_over_time(truth, values, contract.target, comparison.times)
        return figures
    classes = contract.classes
    if contract.positive is not None:
        others = [label for label in classes if label != contract.positive]
        classes = (*others, contract.positive)  # codes: 0 is negative, 1 is positive
    figures["confusion_matrix"] = confusion_matrix(truth, values, classes)
    curves = _curves(truth, (challenger, comparison.champion), classes)
    if curves:
        figures["calibration"] = calibration_curves(curves)
        figures["roc"] = roc_curves(curves)
        figures["precision_recall"] = precision_recall_curves(curves)
    return figures


def _curves(truth: np.ndarray, models: Sequence[Judged | None], classes: Sequence[str]) -> Curves:
    """Return a curve of each model, or, of more than two classes, one of each of the first's."""
    scored = [(m.name, m.outcomes.scores) for m in models if m and m.outcomes.scores is not None]
    if not scored or scored[0][1].ndim == 1:
        return {label: (truth == 1, scores) for label, scores in scored}
    _, scores = scored[0]
    return {label: (truth == i, scores[:, i]) for i, label in enumerate(classes)}


def slice_forest(slices: Sequence[SliceMetric], metric: str) -> Figure:
    """Draw the gain on each slice with its interval, the worst on top; red is surely worse."""
    compared = [(s, s.gain) for s in slices if s.gain is not None]
    compared.sort(key=lambda found: found[1].high)
    shown = compared[:_MAX_SLICES]
    figure = new_figure(8.0, 1.6 + 0.3 * len(shown))
    more = f", the worst {len(shown)} of {len(compared):,}" if len(compared) > len(shown) else ""
    axes = style(
        figure.add_subplot(),
        title=f"Gain on each slice{more}: all intervals hold at once",
        x=f"gain in {metric} (right of 0 is better)",
    )
    axes.axvline(0, color=INK, linewidth=1)
    for place, (_, gain) in enumerate(shown):
        colour = RED if gain.high < 0 else GREEN if gain.low > 0 else BLUE
        axes.plot([gain.low, gain.high], [place, place], color=colour, linewidth=2)
        axes.plot(gain.value, place, "o", color=colour, markersize=5)
    labels = [f"{name(s.name)}  ({s.rows:,})" for s, _ in shown]
    axes.set_yticks(range(len(shown)), labels)
    axes.invert_yaxis()
    return figure


def gate_difference(
    metric: Metric,
    truth: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    *,
    times: np.ndarray | None = None,
    challenger_name: str = "challenger",
    champion_name: str = "champion",
    confidence: float = 0.95,
) -> Figure:
    """Draw a metric over the holdout for both models, and by how much the challenger is better.

    Where the difference as a whole is not defined on these rows, its band is left out.
    """
    x, label = positions(times, len(truth))
    parts = stretches(len(truth))
    middles = np.array([x[part[len(part) // 2]] for part in parts])
    new = np.array([metric(truth[p], challenger[p]) for p in parts])
    old = np.array([metric(truth[p], champion[p]) for p in parts])
    sign = 1.0 if metric.higher_is_better else -1.0

    figure = new_chart(8.0, 5.4)
    top, bottom = figure.subplots(2, 1, height_ratios=[3, 2], sharex=True)
    better = "higher" if metric.higher_is_better else "lower"
    style(top, title=f"{metric.name} over the holdout ({better} is better)", y=metric.name)
    style(bottom, x=label, y=f"gain in {metric.name}")
    top.plot(middles, old, color=ORANGE, linewidth=1.8, label=name(champion_name))
    top.plot(middles, new, color=BLUE, linewidth=1.8, label=name(challenger_name))
    bottom.axhline(0, color=INK, linewidth=1)
    bottom.plot(middles, sign * (new - old), color=GREEN, linewidth=1.4)
    try:
        whole = paired_difference(metric, truth, challenger, champion, confidence=confidence)
    except InvalidInputError:
        pass
    else:
        _band(bottom, whole)
    if times is not None:
        time_axis(bottom)
    legend(top, loc="best")
    legend(bottom, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    return figure


def _band(axes: Axes, whole: Interval) -> None:
    axes.axhspan(whole.low, whole.high, color=GREEN, alpha=0.18, linewidth=0)
    axes.axhline(
        whole.value,
        color=GREEN,
        linewidth=1.2,
        linestyle=(0, (4, 3)),
        label=f"over all rows {whole.value:+.3g}, {whole.confidence:.0%} interval "
        f"{whole.low:+.3g} to {whole.high:+.3g}",
    )
