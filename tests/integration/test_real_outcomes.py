"""On real streams: what do early labels say that is wrong, and what can an estimate see?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from modelyard.domain.estimation import Estimate, count_groups, estimate, expect, track_record
from modelyard.domain.intervals import metric_interval
from modelyard.domain.learning_rows import due_rows
from modelyard.domain.metrics import METRICS, Interval
from modelyard.domain.performance import (
    PerformanceOutcome,
    PerformancePolicy,
    PerformanceVerdict,
    due_after,
    judge_performance,
)

AUC = METRICS["roc_auc"]
DELIVERED = pd.Timestamp("2016-01-01")
LENGTH = timedelta(days=28)


@dataclass(frozen=True)
class Bookings:
    """Bookings of a hotel with scores, by a model of those that were known at delivery."""

    booked: pd.Series
    known: pd.Series
    cancelled: np.ndarray
    features: pd.DataFrame
    """The model's, and the week of arrival."""
    score: np.ndarray
    due: timedelta
    """Age at which labels are due."""
    promised: Interval

    def window(self, start: pd.Timestamp) -> np.ndarray:
        """Return the places of a window's rows."""
        return np.flatnonzero((self.booked >= start) & (self.booked < start + LENGTH))

    def judge(self, start: pd.Timestamp, as_of: pd.Timestamp, due: timedelta) -> PerformanceVerdict:
        """Judge a window at a moment, with labels due at an age."""
        rows = self.window(start)
        old = (self.booked.iloc[rows] <= as_of - due).to_numpy()
        there = (self.known.iloc[rows] <= as_of).to_numpy()
        counted = rows[old & there]
        return judge_performance(
            AUC,
            self.cancelled[counted],
            self.score[counted],
            rows=len(rows),
            promised=self.promised,
            policy=PerformancePolicy(),
            due=int(old.sum()),
            early=int((there & ~old).sum()),
        )


@pytest.fixture(scope="module")
def bookings(data_folder: Path) -> Bookings:
    """Return hotel_resort in the order of booking."""
    rows = pd.read_csv(
        data_folder / "hotel_resort" / "data.csv.gz", parse_dates=["booking_date", "label_date"]
    )
    features = rows[
        ["lead_time", "adr", "adults", "stays_in_week_nights", "total_of_special_requests"]
    ]
    seasonal = features.assign(week=rows["arrival_date_week_number"])
    booked, known = rows["booking_date"], rows["label_date"]
    cancelled = rows["is_canceled"].to_numpy()
    learnt = np.flatnonzero(known <= DELIVERED)
    taught, held_out = np.split(learnt, [int(0.8 * len(learnt))])
    model = HistGradientBoostingClassifier(random_state=7)
    model.fit(features.iloc[taught], cancelled[taught])
    score = model.predict_proba(features)[:, 1]
    took = (known - booked).iloc[learnt].dt.total_seconds().to_numpy()
    promised = metric_interval(AUC, cancelled[held_out], score[held_out])
    return Bookings(booked, known, cancelled, seasonal, score, due_after(took), promised)


def test_labels_that_are_due_tell_what_all_tell_and_those_that_came_early_do_not(
    bookings: Bookings,
) -> None:
    early, due = [], []
    for start in pd.date_range("2016-01-01", periods=7, freq=LENGTH):
        rows = bookings.window(start)
        truth = AUC(bookings.cancelled[rows], bookings.score[rows])
        naive = bookings.judge(start, start + 2 * LENGTH, timedelta(0))
        judged = bookings.judge(start, start + LENGTH + bookings.due, bookings.due)
        assert naive.realized is not None
        assert judged.realized is not None
        early.append(abs(naive.realized.value - truth))
        due.append(abs(judged.realized.value - truth))
        assert judged.labels / len(rows) > 0.9
        assert judged.realized.low <= truth <= judged.realized.high

    assert np.mean(due) < np.mean(early) / 2


def test_a_window_is_not_judged_by_the_bookings_that_were_cancelled_first(
    bookings: Bookings,
) -> None:
    start = pd.Timestamp("2016-01-01")
    rows = bookings.window(start)
    known = rows[(bookings.known.iloc[rows] <= start + LENGTH).to_numpy()]
    verdict = bookings.judge(start, start + LENGTH, bookings.due)

    assert bookings.cancelled[known].mean() > 1.3 * bookings.cancelled[rows].mean()
    assert verdict.outcome is PerformanceOutcome.TOO_FEW_LABELS
    assert (verdict.labels, verdict.early) == (0, len(known))
    assert timedelta(days=180) < bookings.due < timedelta(days=360)


def test_a_model_that_learns_labels_when_they_are_due_is_better_than_one_that_learns_early_ones(
    bookings: Bookings,
) -> None:
    times, known = bookings.booked.to_numpy(), bookings.known.to_numpy()
    loss = METRICS["log_loss"]
    said: dict[str, list[float]] = {"early": [], "due": []}
    found: dict[str, list[float]] = {"early": [], "due": []}
    came: list[float] = []
    for moment in pd.to_datetime(["2015-12-01", "2016-01-30", "2016-03-30"]).to_numpy():
        after = (times >= moment) & (times < moment + np.timedelta64(LENGTH))
        came.append(float(bookings.cancelled[after].mean()))
        taught = {"early": known <= moment, "due": due_rows(times, known, moment)}
        for rule, rows in taught.items():
            model = HistGradientBoostingClassifier(random_state=7)
            model.fit(bookings.features[rows], bookings.cancelled[rows])
            score = model.predict_proba(bookings.features[after])[:, 1]
            said[rule].append(float(score.mean()))
            found[rule].append(loss(bookings.cancelled[after], score))

    assert np.mean(said["early"]) > 2 * np.mean(came)
    assert np.mean(said["due"]) < 1.5 * np.mean(came)
    assert np.mean(found["due"]) < np.mean(found["early"]) / 2


@pytest.mark.parametrize("in_time", [False, True])
def test_an_estimate_holds_while_nothing_changes_and_is_too_good_where_the_world_does(
    data_folder: Path, in_time: bool
) -> None:
    rows = pd.read_csv(data_folder / "elec2" / "data.csv.gz")
    if not in_time:
        rows = rows.sample(frac=1.0, random_state=7)
    features = rows[["day", "period", "nswdemand", "vicprice", "vicdemand", "transfer"]]
    truth = (rows["class"] == "UP").to_numpy().astype(np.int64)
    model = HistGradientBoostingClassifier(random_state=7)
    model.fit(features[:8_736], truth[:8_736])
    score = model.predict_proba(features)[:, 1]
    held_out = slice(8_736, 10_080)
    promised = metric_interval(AUC, truth[held_out], score[held_out])
    known = expect(AUC, truth[held_out], score[held_out], score[held_out])
    told: list[Estimate] = []
    for start in range(10_080, len(rows) - 1_344, 1_344):
        window = slice(start, start + 1_344)
        found = estimate(AUC, known, count_groups(score[window], known), promised, promised.low)
        told.append(found.confronted(metric_interval(AUC, truth[window], score[window])))
    record = track_record(told)

    assert record is not None
    assert not any(one.beyond for one in told)
    if in_time:  # a market joins: realized falls, and no estimate says so
        assert np.mean([one.error for one in told if one.error is not None]) < -0.03
    else:
        assert record.median_error < 0.015
        assert record.held >= 0.9 * record.windows
