"""Can every plot be drawn, from the plainest and from the strangest input?"""

from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure

from modelyard.adapters.pictures.gate_plots import gate_difference, slice_forest
from modelyard.adapters.pictures.monitoring_plots import (
    WindowPoint,
    drift_heat_map,
    metric_over_windows,
    replay_story,
)
from modelyard.adapters.pictures.outcome_plots import (
    calibration_curves,
    confusion_matrix,
    precision_recall_curves,
    predicted_against_true,
    residuals_over_time,
    roc_curves,
)
from modelyard.adapters.pictures.reproduction_plots import draw_reproduction
from modelyard.domain.drift import DriftPolicy, judge_drift
from modelyard.domain.gate import SliceMetric
from modelyard.domain.metrics import METRICS, Interval
from modelyard.domain.profiles import profile_reference, profile_window
from modelyard.domain.reproduction import MetricPair
from modelyard.domain.values import ColumnKind
from modelyard.domain.windows import window_of

START = datetime(2024, 1, 1, tzinfo=UTC)
RNG = np.random.default_rng(5)


def texts(figure: Figure) -> list[str]:
    """Return every text of a drawn figure."""
    figure.canvas.draw()
    shown = [t.get_text() for axes in figure.axes for t in axes.findobj(match=_is_text)]
    return [text for text in shown if text]


def _is_text(artist: object) -> bool:
    return hasattr(artist, "get_text")


def assert_is_a_picture(figure: Figure) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    assert buffer.getvalue().startswith(b"\x89PNG")
    assert len(buffer.getvalue()) > 3_000
    assert _pylab_helpers.Gcf.figs == {}  # nothing is kept alive


@pytest.mark.parametrize("rows", [1, 30, 9_000])
@pytest.mark.parametrize("timed", [True, False])
def test_regression_plots(rows: int, timed: bool) -> None:
    truth = RNG.gamma(2, 50, rows)
    predicted = truth + RNG.normal(0, 9, rows)
    times = pd.Series(pd.date_range(START, periods=rows, freq="h")).to_numpy() if timed else None
    residuals = residuals_over_time(truth, predicted, "price in $ or $$", times)

    assert_is_a_picture(predicted_against_true(truth, predicted, "cnt"))
    assert_is_a_picture(residuals)
    assert ("event time (UTC)" if timed else "row, oldest first") in texts(residuals)


def test_a_hundred_thousand_points_are_thinned() -> None:
    truth = RNG.normal(size=100_000)
    axes = predicted_against_true(truth, truth, "cnt").axes[0]

    assert len(np.asarray(axes.collections[0].get_offsets())) <= 4_000


def test_classification_plots() -> None:
    positive = RNG.random(500) < 0.3
    score = np.clip(positive * 0.3 + RNG.random(500) * 0.7, 0, 1)
    curves = {"challenger": (positive, score), "one class only": (np.ones(500, bool), score)}

    roc = roc_curves(curves)
    assert_is_a_picture(roc)
    assert not any("one class only" in text for text in texts(roc))
    assert_is_a_picture(precision_recall_curves(curves))
    assert_is_a_picture(calibration_curves(curves))


@pytest.mark.parametrize("classes", [["no", "yes"], [f"class $x_{i}$" for i in range(20)]])
def test_confusion_matrix(classes: list[str]) -> None:
    truth = RNG.integers(0, len(classes), 300)
    figure = confusion_matrix(truth, truth, classes)

    assert_is_a_picture(figure)
    if len(classes) == 2:
        assert f"{np.sum(truth == 1)}\n100%" in texts(figure)


def test_gate_plot_states_the_interval_of_the_difference() -> None:
    truth = RNG.normal(size=400)
    figure = gate_difference(METRICS["mae"], truth, truth + 1.0, truth + 3.0)

    assert_is_a_picture(figure)
    assert any("over all rows +2, 95% interval +2 to +2" in text for text in texts(figure))


def test_gate_plot_survives_a_difference_without_meaning() -> None:
    assert_is_a_picture(
        gate_difference(METRICS["roc_auc"], np.ones(60), RNG.random(60), RNG.random(60))
    )


def test_the_worst_of_many_slices_are_drawn() -> None:
    slices = [
        SliceMetric(
            column="city $",
            level=str(i),
            rows=50,
            challenger=1.0,
            champion=2.0,
            gain=Interval(value=i - 40.0, low=i - 41.0, high=i - 39.0),
        )
        for i in range(80)
    ]
    figure = slice_forest(slices, "mae")

    assert_is_a_picture(figure)
    assert any("the worst 24 of 80" in text for text in texts(figure))
    assert len(figure.axes[0].get_yticklabels()) == 24


def points(count: int = 12) -> list[WindowPoint]:
    return [
        WindowPoint(
            window=window_of(
                "bikes", START + i * timedelta(days=7), START + (i + 1) * timedelta(7)
            ),
            realized=None if i == 4 else Interval(value=10 + i, low=9 + i, high=12 + i),
            release="1.0.0" if i < 7 else "1.0.1",
            degraded=i in (5, 6),
            drifted=i == 6,
            promised=Interval(value=10, low=9, high=11),
            limit=12.0,
            likely=None if i == 2 else Interval(value=10, low=7, high=13),
        )
        for i in range(count)
    ]


def test_monitoring_plots_mark_releases_alarms_and_events() -> None:
    over = metric_over_windows(points(), "mae")
    story = replay_story(points(), "mae", marks={"subway opens": START + timedelta(days=40)})

    for figure in (over, story):
        assert_is_a_picture(figure)
        assert {"1.0.0", "1.0.1", "degraded"} <= set(texts(figure))
    legend = over.axes[0].get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert (names.count("promised"), names.count("estimated")) == (1, 1)
    (line,) = [line for line in over.axes[0].get_lines() if line.get_label() == "estimated"]
    assert line.get_linestyle() == "--"
    assert np.isnan(np.asarray(line.get_ydata(), dtype=float)).sum() == 1
    assert {"subway opens", "input drift"} <= set(texts(story))


def test_monitoring_plots_of_no_window_are_empty_and_not_an_error() -> None:
    assert_is_a_picture(metric_over_windows([], "mae"))
    assert_is_a_picture(replay_story([], "mae"))
    assert_is_a_picture(drift_heat_map([]))


def test_drift_heat_map_puts_what_moved_most_first() -> None:
    kinds = dict.fromkeys(("quiet", "moved"), ColumnKind.NUMERIC)
    known = profile_reference({name: RNG.normal(size=2_000) for name in kinds}, kinds)
    verdicts = []
    for i, rows in enumerate((300, 300, 20)):
        columns = {"quiet": RNG.normal(size=rows), "moved": RNG.normal(i, 1, size=rows)}
        verdict = judge_drift(known, profile_window(columns, known), DriftPolicy())
        verdicts.append((points()[i].window, verdict))
    figure = drift_heat_map(verdicts)

    assert_is_a_picture(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["moved", "quiet"]
    assert len(np.asarray(figure.axes[0].collections[0].get_offsets())) == 1


def test_a_reproduction_is_drawn_whatever_the_figures_are() -> None:
    interval = Interval(value=1.0, low=1.0, high=1.0)
    pairs = {"mae": MetricPair(recorded=interval, reproduced=float("nan"))}
    for recorded, reproduced, metrics in (
        (np.arange(9000.0), np.arange(9000.0), {}),
        (np.array([np.nan, 1.0]), np.array([1.0, np.nan]), pairs),
    ):
        figure = draw_reproduction(recorded, reproduced, metrics)
        figure.savefig(BytesIO(), format="png")
        assert figure.axes[0].get_title(loc="left") == "Each holdout row's prediction"
