"""Is every window measured until everybody was told, and again when labels come late?"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from modelyard.adapters.baseline import (
    reference_profile,
    reference_rows,
    training_windows,
    windows_before,
)
from modelyard.adapters.data.inference_log import PREDICTION
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.monitoring_page import monitoring_page
from modelyard.adapters.watching import (
    drawn_rows,
    judged_release,
    measure,
    read_window,
    see_window,
)
from modelyard.adapters.workspace import Workspace
from modelyard.config import ModelConfig
from modelyard.config.schema import PerformanceAlerts
from modelyard.domain.drift import DriftOutcome
from modelyard.domain.drift_history import MIN_WINDOWS
from modelyard.domain.gate import Gated
from modelyard.domain.incidents import seen_in
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.profiles import profile_window
from modelyard.domain.promises import promise_limit
from modelyard.domain.quality import QualityOutcome
from modelyard.domain.releases import ReleaseState
from modelyard.domain.windows import Window, window_of
from modelyard.errors import UnknownReleaseError
from modelyard.serving.frames import prepare_features
from tasks.monitoring import (
    find_due_windows,
    measure_window,
    record_window,
    report_window,
    show_monitoring,
)
from tests.projects import FIRST, MODEL, SECOND, WEEK, load_labels

AS_OF = FIRST + 2 * WEEK


def measure_all(*, told: bool = True) -> list[WindowRecord]:
    """Measure and record what is due; a run that was killed has told nobody."""
    measured = [measure_window.fn(MODEL, w, AS_OF) for w in find_due_windows.fn(MODEL, AS_OF)]
    return [
        record_window.fn(MODEL, record.model_copy(update={"told": told})) for record in measured
    ]


def starts(windows: tuple[Window, ...]) -> list[datetime]:
    return [window.start for window in windows]


def test_windows_are_due_when_they_ended_and_until_they_were_told_of(monitored: Workspace) -> None:
    assert starts(find_due_windows.fn(MODEL, FIRST + WEEK / 2)) == []
    assert starts(find_due_windows.fn(MODEL, FIRST + WEEK)) == [FIRST]
    assert starts(find_due_windows.fn(MODEL, AS_OF)) == [FIRST, FIRST + WEEK]
    measure_all(told=False)
    assert starts(find_due_windows.fn(MODEL, AS_OF)) == [FIRST, FIRST + WEEK]
    measure_all()
    assert find_due_windows.fn(MODEL, AS_OF) == ()
    assert len(monitored.ledger.windows(MODEL)) == 2


def test_without_labels_nothing_is_said_of_performance(monitored: Workspace) -> None:
    quiet, shifted = measure_all()
    for record in (quiet, shifted):
        assert record.performance.outcome is PerformanceOutcome.TOO_FEW_LABELS
        assert (record.drift.outcome, record.quality.outcome) == (
            DriftOutcome.STABLE,
            QualityOutcome.OK,
        )
        assert record.served == {"1.0.0": 168}
        assert record.realized is None


def test_late_labels_open_their_windows_again(monitored: Workspace) -> None:
    before = measure_all()
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    quiet, shifted = measure_all()
    assert [quiet.window, shifted.window] == [record.window for record in before]
    assert quiet.performance.outcome is PerformanceOutcome.OK
    assert shifted.performance.outcome is PerformanceOutcome.DEGRADED
    assert shifted.realized is not None
    assert quiet.realized is not None
    assert shifted.realized > 5 * quiet.realized
    assert find_due_windows.fn(MODEL, AS_OF) == ()
    stored = monitored.ledger.windows(MODEL)
    assert [WindowRecord.model_validate(w.record) for w in stored] == [quiet, shifted]


def test_performance_is_judged_together_with_the_windows_that_lead_up_to_this_one(
    monitored: Workspace,
) -> None:
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    day = timedelta(days=1)

    def together(begin: int, end: int) -> int | None:
        """Measure and record the window of some days, and count what it was judged with."""
        window = window_of(MODEL, FIRST + begin * day, FIRST + end * day)
        record = record_window.fn(MODEL, measure_window.fn(MODEL, window, AS_OF))
        lasting = record.performance.lasting
        return lasting and lasting.windows

    assert together(0, 5) is None
    assert together(0, 5) is None  # a rerun does not count itself
    assert together(5, 10) == 2
    assert together(9, 14) is None
    assert together(8, 13) is None  # the one that begins where the former ends was not measured


def test_what_is_tolerated_follows_from_what_the_gate_measured_of_the_naive_model(
    monitored: Workspace,
) -> None:
    champion, config = monitored.ledger.champion(MODEL), monitored.project.model(MODEL)
    assert champion is not None
    gated = Gated.model_validate(champion.payload(ReleaseState.GATED))
    mae = find_metric("mae", config.task)
    promised, naive = gated.metrics["mae"], gated.naive_metrics["mae"]
    assert naive > 5 * promised.value
    window = find_due_windows.fn(MODEL, FIRST + WEEK)[0]

    def limit(of: ModelConfig) -> float:
        return measure(monitored, of, champion, window, AS_OF).performance.limit

    lenient = config.monitoring.model_copy(update={"performance": PerformanceAlerts(tolerance=0.4)})
    assert limit(config) == pytest.approx(promise_limit(mae, promised, 0.1))
    assert limit(config.model_copy(update={"monitoring": lenient})) == pytest.approx(
        promise_limit(mae, promised, 0.4)
    )


def test_labels_that_come_while_a_window_is_measured_are_not_missed(monitored: Workspace) -> None:
    window, _ = find_due_windows.fn(MODEL, AS_OF)
    record = measure_window.fn(MODEL, window, AS_OF)
    load_labels(monitored, FIRST, FIRST + WEEK)
    record_window.fn(MODEL, record.model_copy(update={"told": True}))
    assert starts(find_due_windows.fn(MODEL, FIRST + WEEK)) == [FIRST]


def test_a_window_that_is_gone_through_in_batches_is_profiled_as_its_rows(
    monitored: Workspace,
) -> None:
    load_labels(monitored, FIRST, FIRST + WEEK / 2)
    release = monitored.ledger.champion(MODEL)
    assert release is not None
    judged = judged_release(monitored, monitored.project.model(MODEL), release)
    contract, reference = judged.contract, judged.reference
    window = find_due_windows.fn(MODEL, AS_OF)[0]
    rows = read_window(monitored, release, window, AS_OF)
    features = prepare_features(rows, contract)
    columns = {name: features[name].to_numpy() for name in contract.names()}
    columns["prediction"] = rows[PREDICTION].to_numpy()
    seen = see_window(monitored, judged, MODEL, window, AS_OF)
    assert seen.profile == profile_window(columns, reference)
    assert all(c.joint for name, c in seen.profile.columns.items() if name != "prediction")
    assert seen.served == {"1.0.0": 168}
    labelled = rows[rows["label"].notna()].reset_index(drop=True)
    assert len(labelled) == 84
    assert seen.labelled[["label", PREDICTION]].equals(labelled[["label", PREDICTION]])


def test_labels_from_after_the_moment_that_counts_as_now_are_not_known(
    monitored: Workspace,
) -> None:
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    window = find_due_windows.fn(MODEL, AS_OF)[1]
    half = measure_window.fn(MODEL, window, FIRST + 1.5 * WEEK)
    assert half.performance.labels == 85  # the label of the last hour is known in that hour


def test_a_model_without_a_release_is_not_monitored(workspace: Workspace) -> None:
    with pytest.raises(UnknownReleaseError, match="Deliver it first"):
        find_due_windows.fn(MODEL, SECOND)
    assert workspace.ledger.windows(MODEL) == ()


def test_the_monitoring_run_in_mlflow_is_made_once(monitored: Workspace) -> None:
    show_monitoring.fn(MODEL)  # nothing was measured: nothing to show
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    measure_all()
    for _ in range(2):
        show_monitoring.fn(MODEL)
    client = monitored.tracking.client
    experiment = client.get_experiment_by_name(MODEL)
    assert experiment is not None
    runs = client.search_runs(
        [experiment.experiment_id], filter_string="tags.`modelyard.delivery` LIKE 'monitoring:%'"
    )
    assert len(runs) == 1
    plots = client.list_artifacts(runs[0].info.run_id, "plots")
    assert plots


def test_drift_of_predictions_is_measured_against_rows_that_the_judged_fit_had_not_learnt(
    monitored: Workspace,
) -> None:
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None
    rows = reference_rows(monitored, champion)
    assert rows[PREDICTION].notna().tolist() == [False] * 168 + [True] * 72
    error = (rows[PREDICTION] - rows["cnt"]).abs().mean()
    gated = Gated.model_validate(champion.payload(ReleaseState.GATED))
    assert error == pytest.approx(gated.metrics["mae"].value)
    profile = reference_profile(monitored, champion)
    assert profile.rows == 240
    present = {name: column.present for name, column in profile.columns.items()}
    assert present == {"temp": 240, "wind": 240, "season": 240, "prediction": 72}
    assert not any(column.nulls for column in profile.columns.values())
    drawn = drawn_rows(rows, champion.delivery.contract)
    assert drawn["cnt"].notna().sum() == 72


@pytest.mark.parametrize("labels", ["none", "all"])
def test_a_report_is_drawn_against_a_reference_of_which_only_the_holdout_has_predictions(
    monitored: Workspace, labels: str
) -> None:
    if labels == "all":
        load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    record = measure_window.fn(MODEL, find_due_windows.fn(MODEL, AS_OF)[0], AS_OF)
    shown = report_window.fn(MODEL, record, AS_OF, always=True)
    assert shown.report is not None
    page = monitored.project.folder("reports", MODEL) / Path(shown.report).name
    assert page.stat().st_size > 100_000


def test_drift_is_held_against_windows_of_the_training_rows_and_the_first_quiet_ones(
    monitored: Workspace,
) -> None:
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None
    config = monitored.project.model(MODEL)
    short = config.monitoring.model_copy(update={"window": timedelta(hours=12), "min_rows": 5})
    halves = config.model_copy(update={"monitoring": short})
    learnt = training_windows(monitored, halves, champion).windows
    assert [w.rows for w in learnt] == [12] * 18
    asked = ["prediction" in w.columns for w in learnt]
    assert asked == [False] * 13 + [True] * 5  # the last one is left out: it may not be whole
    assert all(w.columns["prediction"].nulls == 0 for w in learnt[13:])
    rows = reference_rows(monitored, champion).sort_values("hour")
    colder = rows.iloc[12:24]["temp"] <= np.quantile(rows["temp"], 0.5)
    assert learnt[0].columns["temp"].shares[4] == pytest.approx(colder.mean(), abs=0.1)
    first, second = measure_all()
    assert windows_before(monitored, config, champion, first.window) == ()
    assert windows_before(monitored, config, champion, second.window) == (first.shares,)
    # A window of the past is never held against later ones, when labels open it again.
    assert windows_before(monitored, halves, champion, second.window) == (*learnt, first.shares)


def test_after_few_training_windows_labels_say_which_windows_become_the_yardstick(
    monitored: Workspace,
) -> None:
    """A release that learnt a few days alarms every day; else it would do so for good."""
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None
    config = monitored.project.model(MODEL)
    short = config.monitoring.model_copy(update={"window": timedelta(hours=12), "min_rows": 5})
    halves = config.model_copy(update={"monitoring": short})
    learnt = training_windows(monitored, halves, champion).windows
    assert 0 < len(learnt) < MIN_WINDOWS
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    first, second = measure_all()
    drifted = first.drift.model_copy(update={"outcome": DriftOutcome.DRIFTED})
    record_window.fn(MODEL, first.model_copy(update={"drift": drifted}))
    assert first.performance.outcome is PerformanceOutcome.OK
    assert windows_before(monitored, halves, champion, second.window) == (*learnt, first.shares)


def test_a_window_is_quiet_where_it_is_like_those_before_or_its_labels_say_so(
    monitored: Workspace,
) -> None:
    record = measure_window.fn(MODEL, find_due_windows.fn(MODEL, AS_OF)[0], AS_OF)
    broken = record.quality.model_copy(update={"outcome": QualityOutcome.BROKEN})
    for drift, performance, by_drift, by_labels in (
        (DriftOutcome.STABLE, PerformanceOutcome.TOO_FEW_LABELS, True, True),
        (DriftOutcome.STABLE, PerformanceOutcome.DEGRADED, True, True),
        (DriftOutcome.DRIFTED, PerformanceOutcome.OK, False, True),
        (DriftOutcome.DRIFTED, PerformanceOutcome.TOO_FEW_LABELS, False, False),
        (DriftOutcome.TOO_FEW_ROWS, PerformanceOutcome.TOO_FEW_LABELS, False, False),
    ):
        seen = record.model_copy(
            update={
                "drift": record.drift.model_copy(update={"outcome": drift}),
                "performance": record.performance.model_copy(update={"outcome": performance}),
            }
        )
        assert seen.is_quiet(by_labels=False) is by_drift
        assert seen.is_quiet(by_labels=True) is by_labels
        assert not seen.model_copy(update={"quality": broken}).is_quiet(by_labels=True)


def test_the_rows_of_a_window_are_counted_by_when_they_came(monitored: Workspace) -> None:
    quiet, _ = measure_all()
    assert quiet.arrived == (7,) * 24  # one an hour, and a part is seven hours long


def test_before_labels_come_the_metric_is_estimated_and_then_held_against_them(
    monitored: Workspace,
) -> None:
    before = measure_all()
    for record in before:
        assert record.realized is None
        assert record.likely is not None
        assert record.estimate is not None
        assert record.estimate.error is None
        assert record.likely.low < record.performance.promised.value < record.likely.high
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    quiet, shifted = measure_all()
    for record in (quiet, shifted):
        assert record.estimate is not None
        assert record.likely == (quiet if record is quiet else before[1]).likely
        assert "is estimated to be" in record.reasons(IncidentCause.PERFORMANCE)[-1]
    assert quiet.estimate is not None
    assert quiet.estimate.held is True
    # twice as many rides on the same days: no estimate can see that
    assert shifted.estimate is not None
    assert shifted.estimate.held is False
    assert shifted.estimate.error == pytest.approx(shifted.realized - shifted.estimate.likely.value)


def test_labels_that_come_early_count_from_when_they_are_due(monitored: Workspace) -> None:
    file = monitored.project.root / "configs" / "models" / f"{MODEL}.yaml"
    file.write_text(file.read_text().replace("  time: hour\n", "  time: hour\n  label_delay: 4d\n"))
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    quiet, shifted = measure_all()
    assert quiet.performance.outcome is PerformanceOutcome.OK
    told = shifted.performance  # three of its seven days are four days old
    assert (told.outcome, told.due, told.labels, told.early) == ("too few labels", 73, 73, 95)
    assert "95 more came before they are due" in told.reasons[0]
    assert find_due_windows.fn(MODEL, AS_OF) == ()
    later = AS_OF + timedelta(days=4)
    assert find_due_windows.fn(MODEL, later - timedelta(hours=1)) == ()
    (due,) = find_due_windows.fn(MODEL, later)
    assert due == shifted.window
    again = measure_window.fn(MODEL, due, later)
    assert again.performance.outcome is PerformanceOutcome.DEGRADED
    assert (again.performance.labels, again.performance.early) == (168, 0)
    record_window.fn(MODEL, again.model_copy(update={"told": True}))
    assert find_due_windows.fn(MODEL, later) == ()


def test_each_slice_is_held_against_the_same_slice_of_the_holdout(monitored: Workspace) -> None:
    load_labels(monitored, FIRST, FIRST + 2 * WEEK)
    quiet, shifted = measure_all()
    for record, bad in ((quiet, False), (shifted, True)):
        slices = record.performance.slices
        assert {one.name for one in slices} == {"season = dry", "season = wet"}
        assert {one.degraded for one in slices} == {bad}
        assert record.performance.alarm is bad
    found = seen_in(shifted, IncidentCause.PERFORMANCE)
    assert {s.name for s in found.suspects if s.check == "slice"} == {
        "season = dry",
        "season = wet",
    }
    page = monitoring_page(MODEL, "mae", [quiet, shifted], [], {}, None)
    assert "## Slices, 2024-01-22" in page
    assert "Labels have told of 2 windows that were estimated" in page
    assert "inside its interval in 1 of them" in page


def test_the_table_of_windows_says_in_few_words_what_was_found(monitored: Workspace) -> None:
    load_labels(monitored, FIRST, FIRST + WEEK)
    quiet, shifted = measure_all()
    assert quiet.realized is not None
    assert shifted.likely is not None
    early = shifted.performance.model_copy(update={"early": 42})
    broken = shifted.quality.model_copy(update={"outcome": QualityOutcome.BROKEN})
    drift = shifted.drift.model_copy(update={"outcome": DriftOutcome.TOO_FEW_ROWS})
    wrong = {"performance": early, "quality": broken, "drift": drift}
    bad = shifted.model_copy(update={**wrong, "served": {"1.0.0": 100, "1.0.1": 68}})

    page = monitoring_page(MODEL, "mae", [quiet, bad], [], {}, None)

    rows = [line for line in page.splitlines() if line.startswith("| 2024-01-")]
    assert rows == [
        f"| 2024-01-22 … 01-29 | 1.0.0 + 1 | 168 (0+25%) | ~{shifted.likely.value:,.4g} | "
        "**data**, few rows |",
        f"| 2024-01-15 … 01-22 | 1.0.0 | 168 (100%) | {quiet.realized:,.4g} | ok |",
    ]
    assert f"promised {quiet.performance.promised.value:,.4g} by 1.0.0." in page


def test_a_drift_tells_what_it_is_likely_to_do_to_the_metric(monitored: Workspace) -> None:
    record = measure_window.fn(MODEL, find_due_windows.fn(MODEL, AS_OF)[0], AS_OF)
    assert record.estimate is not None
    moved = {"outcome": DriftOutcome.DRIFTED, "reasons": ("wind moved", "temp moved")}
    drifted = record.model_copy(update={"drift": record.drift.model_copy(update=moved)})
    words = record.estimate.words
    assert "mae is estimated to be" in words
    assert drifted.reasons(IncidentCause.DRIFT) == ("wind moved", words, "temp moved")
    unknown = drifted.model_copy(update={"estimate": None})
    assert unknown.reasons(IncidentCause.DRIFT) == ("wind moved", "temp moved")
    assert record.reasons(IncidentCause.DRIFT) == record.drift.reasons
