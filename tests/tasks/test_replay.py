"""Does a replay send every row once, also when it was interrupted or is run twice?"""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import NoReturn

import pytest
from filelock import FileLock

from modelyard.adapters.replay import Replay
from modelyard.adapters.workspace import Workspace
from modelyard.commands.replaying import run_replay
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.monitoring import WindowRecord
from modelyard.errors import ConflictError
from tasks.monitoring import find_due_windows, measure_window, record_window
from tests.projects import FIRST, MODEL, SECOND, WEEK, rides, write_config

NOBODY = "http://127.0.0.1:9"
"""No service answers here: a row that is sent counts as failed."""


def replay_of(workspace: Workspace, source: str | None = None) -> Replay:
    champion = workspace.ledger.champion(MODEL)
    assert champion is not None
    return Replay(workspace, workspace.project.model(MODEL), champion, NOBODY, source=source)


def test_a_replay_goes_on_after_the_rows_that_the_log_has(monitored: Workspace) -> None:
    rows = rides()
    rows.loc[rows.index[-24:], "row_id"] = [f"new-{number}" for number in range(24)]
    rows.to_csv(monitored.project.root / "more.csv", index=False)
    replay = replay_of(monitored, "more.csv")
    assert replay.sent_before == len(replay.rows) - 24
    for window in replay.windows:
        replay.send(window)
    assert (replay.traffic.requests, replay.traffic.failed) == (1, 1)


def test_rows_that_were_sent_before_get_the_labels_that_are_missing(monitored: Workspace) -> None:
    replay = replay_of(monitored)
    assert replay.sent_before == len(replay.rows)
    assert replay.load_labels(SECOND) == len(replay.rows)


def test_two_replays_of_a_model_do_not_run_at_once(monitored: Workspace) -> None:
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None

    def nothing(*_: object, **__: object) -> NoReturn:
        pytest.fail("the flows of a refused replay do not run")

    with (
        FileLock(monitored.project.run_folder() / f"replay-{MODEL}.lock"),
        pytest.raises(ConflictError, match="Another replay of rides"),
    ):
        run_replay(
            monitored,
            champion,
            NOBODY,
            monitor=nothing,
            retrain=nothing,
            source=None,
            start=None,
            end=None,
            speed=None,
            as_json=True,
        )


def test_a_replay_asks_when_the_schedule_does_and_when_a_window_went_bad(
    monitored: Workspace,
) -> None:
    write_config(monitored.project.root, retraining="schedule: 0 0 22 * *")
    champion = monitored.ledger.champion(MODEL)
    assert champion is not None
    asked: list[tuple[RetrainingCause, datetime]] = []

    def monitor(model: str, as_of: datetime) -> list[WindowRecord]:
        due = find_due_windows.fn(model, as_of)
        return [record_window.fn(model, measure_window.fn(model, w, as_of)) for w in due]

    def retrain(model: str, *, cause: RetrainingCause, as_of: datetime) -> SimpleNamespace:
        asked.append((cause, as_of))
        return SimpleNamespace(words="alert only")

    run_replay(
        monitored,
        champion,
        NOBODY,
        monitor=monitor,
        retrain=retrain,
        source=None,
        start=FIRST,
        end=FIRST + 2 * WEEK,
        speed=None,
        as_json=True,
    )

    assert asked == [
        (RetrainingCause.SCHEDULE, FIRST + WEEK),
        (RetrainingCause.PERFORMANCE, FIRST + 2 * WEEK),
    ]
