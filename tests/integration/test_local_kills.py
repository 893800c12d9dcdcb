"""What a killed replica or supervisor leaves serves on, comes back, or is cleared away."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pandas as pd
import psutil
import pytest

from modelyard.adapters.data.inference_log import compact
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


def test_what_was_answered_before_a_kill_is_in_the_log(yard: Yard) -> None:
    status = yard.target.sync(yard.service("1.0.0", replicas=2))
    with load(status) as seen:
        wait_for(lambda: len(seen.answers) > 300)
        for replica in status.replicas:
            os.kill(int(replica.id), signal.SIGKILL)
        killed_at = len(seen.answers)
        wait_for(lambda: len(seen.answers) > killed_at + 50)
    logged = yard.logged()
    assert {answer.request_id for answer in seen.answers} <= set(logged["__request_id"])
    compact(yard.log_folder)
    assert len(list(yard.log_folder.glob("*.parquet"))) == 2
    pd.testing.assert_frame_equal(yard.logged(), logged)
