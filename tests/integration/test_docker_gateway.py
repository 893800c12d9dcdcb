"""The gateway splits traffic between fleets as asked, and keeps each fleet's requests answered."""

from __future__ import annotations

import ipaddress
import re
import signal
import socket
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from modelyard.adapters.docker.containers import ModelContainers
from modelyard.domain.values import ReplicaState, Service, ServiceStatus
from modelyard.errors import RefusedError
from tests.docker_yard import CLIENTS, DockerYard
from tests.services import answers, load, wait_for

pytestmark = pytest.mark.xdist_group("docker")

OLD, NEW = "1.0.0", "2.0.0"
ROW = {"instances": [{"x": 5}]}
USERS = [f"user-{number}" for number in range(150)]


@pytest.fixture(scope="module")
def yard(docker_yard: DockerYard) -> DockerYard:
    return docker_yard


def ask(url: str, user: str | None = None, client: httpx.Client | None = None) -> str:
    """Return which release answered, or the status where none did."""
    headers = {"X-User": user} if user else {}
    post = client.post if client else httpx.post
    answer = post(f"{url}/invocations", json=ROW, headers=headers, timeout=20)
    return answer.headers["X-ModelYard-Release"] if answer.is_success else str(answer.status_code)


def releases_of(status: ServiceStatus, users: Sequence[str | None]) -> list[str]:
    """Return which release answered each of these users, asked side by side."""
    with httpx.Client() as client, ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda user: ask(status.url, user, client), users))


def assert_share(status: ServiceStatus, percent: int, requests: int = 400) -> None:
    """Assert that the new release's share is one that chance alone misses once in a million."""
    seen = Counter(releases_of(status, [None] * requests))
    assert seen.total() == seen[OLD] + seen[NEW]
    share = percent / 100
    assert abs(seen[NEW] - requests * share) <= 4.9 * (requests * share * (1 - share)) ** 0.5


def test_traffic_is_split_by_weight_from_the_next_request_on_and_after_a_restart(
    yard: DockerYard,
) -> None:
    status = yard.target.sync(yard.canary(10))
    assert status.weights == {OLD: 90, NEW: 10}
    assert_share(status, 10)
    for new in (100, 0, 60):
        yard.target.set_weights(yard.model, {OLD: 100 - new, NEW: new})
        assert yard.target.get_weights(yard.model) == {OLD: 100 - new, NEW: new}
        assert_share(status, new, 200)
    yard.gateway().restart(timeout=1)
    wait_for(lambda: answers(status))
    assert yard.target.get_weights(yard.model) == {OLD: 40, NEW: 60}
    assert_share(status, 60, 200)


def test_a_user_stays_with_one_release_and_moves_once_to_the_new_one(yard: DockerYard) -> None:
    status = yard.target.sync(yard.canary(20).model_copy(update={"sticky": "X-User"}))
    seen = {20: releases_of(status, USERS)}
    assert releases_of(status, USERS) == seen[20], "asked again, each has the same"
    for percent in (60, 100):
        yard.target.set_weights(yard.model, {OLD: 100 - percent, NEW: percent})
        seen[percent] = releases_of(status, USERS)
    steps = Counter(zip(seen[20], seen[60], seen[100], strict=True))
    assert set(steps) == {(NEW, NEW, NEW), (OLD, NEW, NEW), (OLD, OLD, NEW)}
    assert 10 <= seen[20].count(NEW) <= 55, "about a fifth of them"
    yard.target.set_weights(yard.model, {OLD: 50, NEW: 50})
    assert set(releases_of(status, [None] * 60)) == {OLD, NEW}, "without the header it is chance"
    assert yard.target.sync(yard.canary(0)).weights == {OLD: 100, NEW: 0}


def test_a_canary_that_is_killed_leaves_its_requests_to_the_others(yard: DockerYard) -> None:
    status = yard.target.sync(yard.canary(50))
    canary = next(r for r in status.replicas if r.version == NEW)
    with load(status, CLIENTS) as seen:
        wait_for(lambda: len(seen.answers) > 100)
        yard.engine.containers.get(canary.id).exec_run(
            ["python", "-c", "import os; os.kill(-1, 9)"]
        )

        def back() -> bool:
            now = yard.target.status(yard.model)
            return now is not None and [
                (r.restarts, r.state) for r in now.replicas if r.version == NEW
            ] == [(1, ReplicaState.READY)]

        wait_for(back)
    assert seen.failures == []
    assert {release for release, _ in seen.said} == {OLD, NEW}


def test_a_fleet_without_a_share_answers_those_who_name_it_and_nobody_else(
    yard: DockerYard,
) -> None:
    status = yard.target.sync(yard.canary(0))
    assert ask(status.fleet_urls[NEW]) == NEW
    assert ask(status.fleet_urls[OLD]) == OLD
    assert ask(status.fleet_urls[NEW].replace(NEW, "9.9.9")) == "404"
    version = httpx.get(f"{status.fleet_urls[NEW]}/version").raise_for_status()
    assert version.headers["X-ModelYard-Release"] == NEW
    assert ask(f"{status.url}/fleets/{NEW}") == "404", "the public side knows no fleets"
    (old,) = (c for c in yard.containers("replica") if c.labels["modelyard.version"] == OLD)
    (new,) = (c for c in yard.containers("replica") if c.labels["modelyard.version"] == NEW)
    inside = "import urllib.request as u;print(u.urlopen('http://{}:{}/live', timeout=5).status)"
    gateway = next(iter(yard.gateway().attrs["NetworkSettings"]["Networks"].values()))["IPAddress"]
    code, _ = new.exec_run(["python", "-c", inside.format(gateway, 8080)])
    assert code == 0, "the public side"
    code, output = new.exec_run(["python", "-c", inside.format(gateway, 8081)])
    assert code == 1
    assert "/live" not in output.decode()
    old.kill()
    wait_for(lambda: ask(status.url) == "503")
    assert ask(status.fleet_urls[OLD]) == "503", "another fleet does not answer for it"
    assert ask(status.fleet_urls[NEW]) == NEW


def test_fleets_are_named_on_loopback_only_even_where_the_service_is_public(
    yard: DockerYard, tmp_path: Path
) -> None:
    public = DockerYard(yard.engine, yard.releases, tmp_path, host="0.0.0.0")
    try:
        status = public.sync(OLD)
        named = httpx.URL(status.fleet_urls[OLD])
        assert ask(str(named)) == OLD
        bindings = public.gateway().ports
        assert [b["HostIp"] for b in bindings["8081/tcp"]] == ["127.0.0.1"]
        mine = [
            address.address
            for addresses in psutil.net_if_addrs().values()
            for address in addresses
            if address.family == socket.AF_INET
            and not ipaddress.ip_address(address.address).is_loopback
        ]
        for address in mine:
            assert ask(f"http://{address}:{httpx.URL(status.url).port}") == OLD
            with pytest.raises(httpx.ConnectError):
                ask(f"http://{address}:{named.port}")
    finally:
        public.remove()


def test_what_was_counted_says_which_fleet_and_whether_the_gateway_started_again(
    yard: DockerYard,
) -> None:
    status = yard.target.sync(yard.canary(30))
    first = yard.target.traffic(yard.model)
    assert first is not None
    seen = Counter(releases_of(status, [None] * 100))
    for _ in range(7):
        ask(status.fleet_urls[NEW])
    second = yard.target.traffic(yard.model)
    assert second is not None
    change = second.change(first)
    assert change.complete
    assert {v: f.counts.requests for v, f in change.fleets.items()} == dict(seen)
    new = change.fleets[NEW]
    assert (new.besides.requests, new.counts.errors, new.answered_by_others) == (7, 0, 0)
    assert sum(r.counts.requests for r in new.replicas.values()) == seen[NEW]
    yard.gateway().restart(timeout=1)
    wait_for(lambda: answers(status))
    third = yard.target.traffic(yard.model)
    assert third is not None
    assert not third.change(second).complete


def test_how_long_each_release_took_to_answer_is_known_whatever_starts_again(
    yard: DockerYard,
) -> None:
    status = yard.target.sync(yard.canary(30))
    looks = [yard.target.traffic(yard.model)]

    def change() -> dict[str, int]:
        """Return how many answers of each release came since the last look."""
        looks.append(yard.target.traffic(yard.model))
        before, now = looks[-2:]
        assert before is not None
        assert now is not None
        times = now.change(before).answer_times
        for t in times.values():
            assert t.slower_than(10) == (0, t.requests, 10)
        return {version: t.requests for version, t in times.items()}

    seen = Counter(releases_of(status, [None] * 60))
    assert answers(status)
    assert httpx.get(f"{status.url}/metrics").is_success
    assert change() == dict(seen), "neither probes nor looks are among them"
    yard.gateway().restart(timeout=1)
    wait_for(lambda: answers(status))
    seen = Counter(releases_of(status, [None] * 20))
    assert change() == dict(seen)
    (canary,) = (c for c in yard.containers("replica") if c.labels["modelyard.version"] == NEW)
    canary.restart(timeout=1)
    now = yard.target.status(yard.model)
    assert now is not None
    wait_for(lambda: ask(now.fleet_urls[NEW]) == NEW)
    ask(now.fleet_urls[NEW])
    assert change() == {OLD: 0, NEW: 2}


def test_a_replica_that_hangs_is_not_waited_for_and_the_others_are_heard(
    yard: DockerYard,
) -> None:
    status = yard.target.sync(yard.canary(30))
    (canary,) = (c for c in yard.containers("replica") if c.labels["modelyard.version"] == NEW)
    signalled = "import os, signal; os.kill(-1, signal.{})"
    canary.exec_run(["python", "-c", signalled.format("SIGSTOP")])
    try:
        hanging = yard.target.traffic(yard.model)
    finally:
        canary.exec_run(["python", "-c", signalled.format("SIGCONT")])
    assert hanging is not None
    assert list(hanging.answer_times[NEW].values()) == [None]
    assert all(hanging.answer_times[OLD].values())
    wait_for(lambda: ask(status.fleet_urls[NEW]) == NEW)
    after = yard.target.traffic(yard.model)
    assert after is not None
    assert all(after.answer_times[NEW].values())
    assert set(after.change(hanging).answer_times) == {OLD}, "what it counted before is not known"


def test_one_fleet_grows_and_shrinks_while_the_other_serves(yard: DockerYard) -> None:
    status = yard.target.sync(yard.canary(10))
    (canary,) = (r for r in status.replicas if r.version == NEW)
    with load(status, CLIENTS) as seen:
        for replicas in (2, 1):
            fleets = (
                yard.releases.fleet(OLD, weight=90, replicas=replicas),
                yard.releases.fleet(NEW, weight=10),
            )
            now = yard.target.sync(Service(model=yard.model, fleets=fleets))
            assert Counter(r.version for r in now.replicas) == {OLD: replicas, NEW: 1}
            assert canary in now.replicas
            assert now.weights == {OLD: 90, NEW: 10}
    assert seen.failures == []


def test_weights_that_are_set_during_a_sync_hold_after_it(yard: DockerYard) -> None:
    status = yard.sync(OLD)
    elsewhere = yard.sync_elsewhere(yard.canary(10))
    wait_for(lambda: len(yard.containers("replica")) == 2)
    yard.target.set_weights(yard.model, {OLD: 30, NEW: 70})
    elsewhere.join()
    assert elsewhere.exitcode == 0
    assert yard.target.get_weights(yard.model) == {OLD: 30, NEW: 70}
    assert_share(status, 70, 200)


def test_whatever_a_killed_sync_left_the_next_one_heals_and_no_request_is_lost(
    yard: DockerYard,
) -> None:
    status = yard.sync(OLD)
    with load(status) as seen:
        for killed_before, then, orphans in (
            ((r"POST \S+/containers/\w+/start",), OLD, (NEW,)),
            (("write haproxy.cfg",), NEW, ()),
            (("write split.map", "POST"), OLD, ()),
            ((r"POST \S+/containers/\w+/kill",), NEW, (OLD,)),
        ):
            asked = NEW if orphans == (NEW,) else then
            elsewhere = yard.sync_elsewhere(yard.releases.service(asked), *killed_before)
            elsewhere.join()
            assert elsewhere.exitcode == -signal.SIGKILL
            healed = yard.sync(then)
            assert [(r.version, r.state) for r in healed.replicas] == [(then, ReplicaState.READY)]
            assert healed.orphans == orphans
            assert len(yard.containers("replica")) == 1
            assert servers_on_disk(yard) == servers_running(yard)
            assert set(releases_of(healed, [None] * 20)) == {then}
    assert seen.failures == []


def servers_running(yard: DockerYard) -> set[str]:
    containers = ModelContainers(yard.engine, platform_id=yard.platform_id, model=yard.model)
    return set(containers.runtime_api().servers())


def servers_on_disk(yard: DockerYard) -> set[str]:
    """Return the servers that the gateway would have if it started again."""
    config = (yard.folder / "run" / "docker" / yard.model / "haproxy.cfg").read_text()
    backends = re.findall(r"^backend (\w+)\n((?: .*\n)*)", config, re.MULTILINE)
    return {
        f"{backend}/{name}"
        for backend, lines in backends
        for name in re.findall(r"^    server (\w+) [\d.]+:8080$", lines, re.MULTILINE)
    }


def test_more_fleets_than_there_are_slots_for_are_refused(yard: DockerYard) -> None:
    fleets = tuple(
        yard.releases.fleet(OLD, weight=25).model_copy(update={"version": f"1.{n}.0"})
        for n in range(4)
    )
    with pytest.raises(RefusedError, match="up to 3 releases"):
        yard.target.sync(Service(model=yard.model, fleets=fleets))
