"""What a killed replica or supervisor leaves serves on, comes back, or is cleared away."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psutil
import pytest

from modelyard.adapters.data.inference_log import PredictionLog
from modelyard.domain.values import ReplicaState
from tests.local_yard import MODEL, Yard
from tests.services import answers, load, predict, wait_for


def test_a_killed_replica_is_started_again(yard: Yard) -> None:
    status = yard.target.sync(yard.service("1.0.0", replicas=2))
    victim, survivor = status.replicas
    os.kill(int(victim.id), signal.SIGKILL)

    def whole() -> bool:
        now = yard.target.status(MODEL)
        assert now is not None
        return [r.state for r in now.replicas] == [ReplicaState.READY] * 2 and (
            victim.id not in {r.id for r in now.replicas}
        )

    wait_for(whole)
    now = yard.target.status(MODEL)
    assert now is not None
    assert sorted(r.restarts for r in now.replicas) == [0, 1]
    assert survivor in now.replicas
    assert predict(now) == ("1.0.0", 10.0)


@pytest.mark.parametrize("how", ["sync", "status"])
def test_a_killed_supervisor_takes_its_replicas_along_and_comes_back_on_its_port(
    yard: Yard, how: str
) -> None:
    service = yard.service("1.0.0", replicas=2)
    before = yard.target.sync(service)
    replicas = [psutil.Process(int(r.id)) for r in before.replicas]
    yard.supervisor().kill()
    wait_for(lambda: yard.processes() == [])
    assert all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in replicas)
    if how == "sync":
        after = yard.target.sync(service)
        assert [r.state for r in after.replicas] == [ReplicaState.READY] * 2
    else:
        after = yard.target.status(MODEL)
        assert after is not None
    assert after.url == before.url
    wait_for(lambda: answers(after))
    assert predict(after) == ("1.0.0", 10.0)


def test_a_supervisor_that_was_just_killed_is_replaced_at_once(yard: Yard) -> None:
    before = yard.target.sync(yard.service("1.0.0"))
    yard.supervisor().kill()
    after = yard.target.sync(yard.service("2.0.0"))
    assert after.url == before.url
    wait_for(lambda: predict(after) == ("2.0.0", 15.0))


def test_removing_leaves_no_process_also_after_a_kill(yard: Yard) -> None:
    yard.target.remove(MODEL)
    yard.target.sync(yard.service("1.0.0", replicas=2))
    record = json.loads((yard.folder / "run" / MODEL / "supervisor.json").read_text())
    assert Path(record["socket"]).exists()
    yard.supervisor().kill()
    yard.target.remove(MODEL)
    assert yard.processes() == []
    assert not Path(record["socket"]).parent.exists()
    assert yard.target.status(MODEL) is None
    yard.target.remove(MODEL)
    assert yard.target.models() == ()


def test_every_answered_row_is_in_the_log_once_whatever_is_killed_while_it_is_rotated(
    yard: Yard,
) -> None:
    status = yard.target.sync(yard.service("1.0.0", replicas=2))
    log = PredictionLog(yard.log_folder)
    with load(status) as seen:
        for _ in range(2):
            asked = len(seen.answers) + 150
            wait_for(lambda asked=asked: len(seen.answers) > asked)
            now = yard.target.status(MODEL)
            assert now is not None
            for replica in now.replicas:
                os.kill(int(replica.id), signal.SIGKILL)
            log.rotate(now=datetime.now(UTC))
        killed_at = len(seen.answers)
        wait_for(lambda: len(seen.answers) > killed_at + 50)
    logged = yard.logged()
    assert {answer.request_id for answer in seen.answers} <= set(logged["__request_id"])
    yard.target.remove(MODEL)
    log.rotate(now=datetime.now(UTC))
    assert list(yard.log_folder.glob("*.jsonl")) == []
    pd.testing.assert_frame_equal(yard.logged(), logged)
    stored = pd.concat(pd.read_parquet(file) for file in yard.log_folder.glob("*.parquet"))
    # what no reader has made one of two: that no row is there twice
    assert sorted(stored["__id"]) == sorted(logged["__id"])
    assert stored["__id"].is_unique
