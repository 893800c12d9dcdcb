"""What would one policy have done, window by window, with what was known at each moment?

The order of a live service: a window's rows are answered, it is measured when it has ended, with
the labels that were known by then; the windows before it are measured again where labels came or
are due; then the controller is asked, and what it decides is delivered before the next window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile

import numpy as np
import pandas as pd
import pyarrow as pa

from modelyard.adapters.backtest.fits import FitStore
from modelyard.adapters.backtest.history import History
from modelyard.adapters.backtest.policies import Policy
from modelyard.adapters.backtest.releases import PastDelivery, PastRelease, deliver
from modelyard.adapters.baseline import answer_scores, yardstick
from modelyard.adapters.controlling import retraining_policy
from modelyard.adapters.data.inference_log import PREDICTION, PROBABILITY, RELEASE, TIME
from modelyard.adapters.data.labels import LABEL
from modelyard.adapters.data.log_segments import INSTANT
from modelyard.adapters.window_judgement import (
    FORMER,
    judge_window,
    leading_up,
    see_rows,
    seen_columns,
)
from modelyard.domain.causes import drifts_since
from modelyard.domain.learning_rows import change_to_learn_from, restrict_rows
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.policy_runs import PolicyRun, Step
from modelyard.domain.releases import ReleaseState
from modelyard.domain.retraining import (
    RetrainingDecision,
    RetrainingState,
    RetrainingVerdict,
    decide_retraining,
)
from modelyard.domain.values import Contract
from modelyard.domain.windows import Window
from modelyard.errors import DataError, InvalidInputError
from modelyard.serving.frames import predict_frame, prepare_features
from modelyard.serving.predictor import Prediction

REOPENED = 24
"""How many of the last windows are measured again when labels come late."""
_LOOKED_AT = 200
"""Newest windows that the controller looks at."""


@dataclass(frozen=True)
class AnsweredWindow:
    """The rows of one window, as the release that served them answered."""

    window: Window
    release: PastRelease
    rows: pa.Table
    """The inference log's columns that monitoring reads."""
    labels: pa.Array
    known_at: np.ndarray
    """datetime64, NaT where a label never came."""


@dataclass
class Simulation:
    """A service under one policy; nothing of it outlives the call of `run`."""

    history: History
    policy: Policy
    store: FitStore
    release: PastRelease
    """The champion."""
    versions: list[str] = field(default_factory=list)
    records: dict[str, WindowRecord] = field(default_factory=dict)
    """By window, oldest first."""
    answered: deque[AnsweredWindow] = field(default_factory=deque)
    """Those that may be measured again."""
    retrained: list[tuple[datetime, PastDelivery]] = field(default_factory=list)
    """Moment and outcome of each retraining."""
    decided: set[str] = field(default_factory=set)
    fits: dict[str, float] = field(default_factory=dict)
    """Seconds that each fit took, by its key."""

    def run(self, on_window: Callable[[Window, Prediction | None], None]) -> PolicyRun:
        """Go through all windows; `on_window` is told what was answered in each."""
        self.versions.append(self.release.version)
        before, steps = self.history.start, []
        for number, window in enumerate(self.history.windows):
            version = self.release.version
            on_window(window, self._answer(window))
            self._measure(window.end + self.policy.config.monitoring.lateness, since=before)
            self._forget(before)
            decision, done = self._retrain(window, number)
            steps.append(_step(self.records[window.id], version, decision, done))
            before = window.end + self.policy.config.monitoring.lateness
        # What labels told later is part of what the policy saw of a window.
        known = [self.records[window.id] for window in self.history.windows]
        return PolicyRun(
            policy=self.policy.name,
            words=self.policy.words,
            steps=tuple(
                step.model_copy(update={"alarms": tuple(map(str, record.causes))})
                for step, record in zip(steps, known, strict=True)
            ),
            fits=len(self.fits),
            fit_seconds=sum(self.fits.values()),
        )

    def _answer(self, window: Window) -> Prediction | None:
        """Have the champion answer a window's rows; None where there are none."""
        place = self.history.of(window)
        rows = self.history.rows.iloc[place].reset_index(drop=True)
        config, release = self.policy.config, self.release
        said = predict_frame(release.serving_fit.predictor, rows) if len(rows) else None
        target = rows[config.data.target]
        self.answered.append(
            AnsweredWindow(
                window,
                release,
                _as_log(rows, self.history.time, said, release, seen_columns(release.monitored)),
                pa.array(target, from_pandas=True),
                self.history.known_at.iloc[place].dt.tz_localize(None).to_numpy(),
            )
        )
        return said

    def _forget(self, since: datetime) -> None:
        """Drop windows that nothing can come of any more: old ones whose labels are all due."""
        while len(self.answered) > REOPENED:
            due_at = self.records[self.answered[0].window.id].due_at
            if due_at is None or due_at > since:
                return
            self.answered.popleft()

    def _measure(self, now: datetime, since: datetime) -> None:
        """Measure the newest window, after those whose labels came or are due by now."""
        for seen in self.answered:
            old = self.records.get(seen.window.id)
            if old is not None and not _is_new(seen, old, since, now):
                continue
            release, former = seen.release, list(self.records.values())
            former = [r for r in former if r.window.start < seen.window.start]
            known = (seen.known_at <= _naive(now)) & ~np.isnat(seen.known_at)
            labels = pa.array(seen.labels.to_pylist(), seen.labels.type, mask=~known)
            table = seen.rows.append_column(LABEL, labels)
            served = [r for r in former if r.release == release.version]
            self.records[seen.window.id] = judge_window(
                self.policy.config,
                release.monitored,
                seen.window,
                see_rows(table.to_reader(), release.monitored, seen.window, now),
                now,
                before=yardstick(release.training_windows, served),
                former=former[-FORMER:],
                told=leading_up(seen.window, served),
            )

    def _retrain(
        self, window: Window, number: int
    ) -> tuple[RetrainingDecision | None, PastDelivery | None]:
        """Ask the controller at the end of a window, and do what it says."""
        now, config = window.end, self.policy.config
        state = self._state(window, number)
        rules = retraining_policy(config)
        decision = decide_retraining(state, rules, now)
        if decision.cause is None:
            return (decision if decision.verdict is not RetrainingVerdict.WAIT else None), None
        change = change_to_learn_from(state, rules, decision.cause)
        if change is not None and decision.verdict is RetrainingVerdict.RETRAIN:
            rows = self._rows_since(now, change)
            decision = restrict_rows(decision, change, rows, config.data.checks.min_rows)
        if decision.verdict is not RetrainingVerdict.RETRAIN or decision.key is None:
            return decision, None
        done = self._deliver(now, decision.rows_since)
        self.decided.add(decision.key)
        self.retrained.append((now, done))
        return decision, done

    def _state(self, window: Window, number: int) -> RetrainingState:
        config, champion = self.policy.config, self.release
        newest = list(self.records.values())[-_LOOKED_AT:]
        windows = tuple(r.judged() for r in newest if r.release == champion.version)
        times = self.history.labelled_times(config, window.end)
        since = drifts_since(windows)
        kept = takewhile(
            lambda one: one[1].state is not ReleaseState.CHAMPION, reversed(self.retrained)
        )
        return RetrainingState(
            model=config.name,
            windows=windows,
            scheduled=self.policy.is_due(number, window),
            retrainings=tuple(at for at, done in self.retrained if done.fits),
            new_labels=int((times > champion.learnt_until).sum()),
            drift_labels=int((times >= since).sum()) if since else None,
            learnt_since=champion.since,
            kept_in_a_row=sum(done.state is ReleaseState.KEPT_CHAMPION for _, done in kept),
            decided=frozenset(self.decided),
        )

    def _rows_since(self, now: datetime, change: datetime) -> int:
        try:
            selection = self.history.split(self.policy.config, now, change)
        except DataError:  # too few to split
            return 0
        return int(selection.training.sum())

    def _deliver(self, now: datetime, since: datetime | None) -> PastDelivery:
        try:
            done = deliver(
                self.history,
                self.policy.config,
                self.store,
                now=now,
                champion=self.release,
                versions=tuple(self.versions),
                since=since,
            )
        except (DataError, InvalidInputError) as err:
            return PastDelivery(ReleaseState.ABORTED, (str(err),))
        self.fits |= {fit.key: fit.seconds for fit in done.fits}
        if done.release is not None:
            self.release = done.release
            self.versions.append(done.release.version)
        return done


def _is_new(seen: AnsweredWindow, old: WindowRecord, since: datetime, now: datetime) -> bool:
    """Whether labels of a window came since it was measured, or count from now on."""
    came = (seen.known_at > _naive(since)) & (seen.known_at <= _naive(now))
    told = old.performance
    waited = told.early > 0 or (told.due is not None and told.due < told.rows)
    return bool(came.any()) or (waited and old.due_at is not None and old.due_at <= now)


def _step(
    record: WindowRecord,
    version: str,
    decision: RetrainingDecision | None,
    done: PastDelivery | None,
) -> Step:
    window = record.window
    if decision is None:
        return Step(start=window.start, end=window.end, release=version)
    against = tuple(reason.words for reason in decision.reasons if not reason.passed)
    reasons = done.reasons if done is not None else against
    return Step(
        start=window.start,
        end=window.end,
        release=version,
        verdict=str(decision.verdict),
        cause=None if decision.cause is None else str(decision.cause),
        outcome=None if done is None else str(done.state),
        reasons=reasons,
    )


def _as_log(
    rows: pd.DataFrame,
    time: str,
    said: Prediction | None,
    release: PastRelease,
    columns: list[str],
) -> pa.Table:
    """Return rows and what was said about them as the inference log has them."""
    contract = release.contract
    features = (
        prepare_features(rows, contract) if len(rows) else rows.reindex(columns=contract.names())
    )
    logged: dict[str, pa.Array] = {
        TIME: pa.array(rows[time], INSTANT),
        RELEASE: pa.array([release.version] * len(rows), pa.string()),
        **_answers(said, contract),
    }
    for name in columns:
        if name not in logged:
            source = features if name in features else rows
            values = source[name] if name in source else pd.Series([None] * len(rows), dtype=object)
            logged[name] = pa.array(values, from_pandas=True)
    return pa.table({name: logged[name] for name in columns})


def _answers(said: Prediction | None, contract: Contract) -> dict[str, pa.Array]:
    kind = pa.string() if contract.task.is_classification else pa.float64()
    several = [] if contract.positive is not None else list(contract.classes)
    if said is None:
        empty = pa.array([], pa.float64())
        names = [PROBABILITY, *(f"{PROBABILITY}_{label}" for label in several)]
        return {PREDICTION: pa.array([], kind), **dict.fromkeys(names, empty)}
    absent = pa.nulls(len(said.predictions), pa.float64())
    scores, probabilities = answer_scores(said, contract), said.probabilities
    return {
        PREDICTION: pa.array(said.predictions, kind),
        PROBABILITY: absent if scores is None else pa.array(scores),
        **{
            f"{PROBABILITY}_{label}": absent
            if probabilities is None
            else pa.array(probabilities[:, place])
            for place, label in enumerate(several)
        },
    }


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None))
