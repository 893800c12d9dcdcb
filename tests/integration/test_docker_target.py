"""The Docker target keeps its releases serving, whatever is swapped, killed or removed."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from modelyard.adapters.data.inference_log import PredictionLog
from modelyard.domain.values import ReplicaState, Service
from modelyard.errors import RefusedError, RolloutError
from tests.docker_yard import CLIENTS, DockerYard
from tests.services import answers, load, predict, wait_for

# Images are built once, and the engine is not fought over.
pytestmark = pytest.mark.xdist_group("docker")

READY = ReplicaState.READY


@pytest.fixture(scope="module")
def yard(docker_yard: DockerYard) -> DockerYard:
    return docker_yard


def test_releases_are_swapped_under_load_without_a_failed_request(yard: DockerYard) -> None:
    first = yard.sync("1.0.0", replicas=2)
    with load(first, CLIENTS) as seen:
        status = yard.sync("2.0.0", replicas=2)
        assert status.url == first.url
        assert predict(status) == ("2.0.0", 15.0)
        wait_for(lambda: len(seen.answers) >= 5000, seconds=120)
    assert seen.failures == []
    assert seen.said == {("1.0.0", 10.0), ("2.0.0", 15.0)}
    assert [(r.version, r.state) for r in status.replicas] == [("2.0.0", READY)] * 2
    assert {r.id for r in status.replicas}.isdisjoint({r.id for r in first.replicas})
    assert len(yard.containers()) == 3, "nothing of the swapped fleets is left"


def test_syncing_what_runs_does_nothing(yard: DockerYard) -> None:
    first = yard.sync("1.0.0", replicas=2)
    before = {c.id for c in yard.containers()}
    assert yard.sync("1.0.0", replicas=2) == first
    assert {c.id for c in yard.containers()} == before
    assert yard.target.status(yard.model) == first
    assert yard.target.get_weights(yard.model) == {"1.0.0": 100}
    assert yard.target.models() == (yard.model,)


def test_a_fleet_grows_and_shrinks_around_the_replicas_that_it_has(yard: DockerYard) -> None:
    (one,) = yard.sync("1.0.0", replicas=1).replicas
    two = yard.sync("1.0.0", replicas=2).replicas
    assert len(two) == 2
    assert one in two
    assert len(yard.sync("1.0.0", replicas=1).replicas) == 1


def test_a_replica_that_dies_is_restarted_and_its_requests_go_to_another(
    yard: DockerYard,
) -> None:
    status = yard.sync("1.0.0", replicas=2)
    victim = yard.engine.containers.get(status.replicas[0].id)
    with load(status, CLIENTS) as seen:
        wait_for(lambda: len(seen.answers) > 100)
        victim.exec_run(["python", "-c", "import os; os.kill(-1, 9)"])

        def whole() -> bool:
            now = yard.target.status(yard.model)
            return now is not None and sorted((r.restarts, r.state) for r in now.replicas) == [
                (0, READY),
                (1, READY),
            ]

        wait_for(whole)
    assert seen.failures == []
    assert seen.said == {("1.0.0", 10.0)}


def test_a_replica_that_was_removed_by_hand_is_put_back_at_the_next_sync(yard: DockerYard) -> None:
    before = yard.sync("1.0.0", replicas=2)
    gone, kept = before.replicas
    yard.engine.containers.get(gone.id).remove(force=True)
    after = yard.sync("1.0.0", replicas=2)
    assert kept in after.replicas
    assert [r.state for r in after.replicas] == [READY] * 2
    assert after.url == before.url


def test_a_gateway_that_was_killed_or_removed_comes_back_with_its_servers_and_port(
    yard: DockerYard,
) -> None:
    before = yard.sync("2.0.0")
    (gateway,) = yard.containers("gateway")
    gateway.restart(timeout=1)
    wait_for(lambda: answers(before))
    assert predict(before) == ("2.0.0", 15.0)
    gateway.remove(force=True)
    after = yard.sync("2.0.0")
    assert after.model_copy(update={"fleet_urls": before.fleet_urls}) == before
    assert predict(after) == ("2.0.0", 15.0)


@pytest.mark.parametrize(
    "weights", [{"1.0.0": 60, "2.0.0": 60}, {"1.0.0": 100}, {"1.0.0": 50, "3.0.0": 50}]
)
def test_weights_that_do_not_fit_what_runs_are_refused(
    yard: DockerYard, weights: dict[str, int]
) -> None:
    yard.target.sync(yard.canary(10))
    with pytest.raises(RefusedError):
        yard.target.set_weights(yard.model, weights)
    assert yard.target.get_weights(yard.model) == {"1.0.0": 90, "2.0.0": 10}


def test_a_release_that_does_not_start_leaves_the_old_one_serving(yard: DockerYard) -> None:
    before = yard.sync("1.0.0", replicas=2)
    dockerfile = (
        f"FROM {yard.releases.images['2.0.0'].id}\n"
        'CMD ["python", "-c", "raise SystemExit(\'no memory for this model\')"]\n'
    )
    image, _ = yard.engine.images.build(fileobj=BytesIO(dockerfile.encode()), rm=True)
    broken = yard.releases.fleet("2.0.0").model_copy(update={"image": image.id})
    with pytest.raises(RolloutError, match="no memory for this model"):
        yard.target.sync(Service(model=yard.model, fleets=(broken,)))
    assert yard.target.status(yard.model) == before
    assert predict(before) == ("1.0.0", 10.0)
    assert len(yard.containers()) == 3


def test_an_image_that_is_missing_or_holds_another_bundle_is_refused(yard: DockerYard) -> None:
    before = yard.sync("1.0.0")
    fleet = yard.releases.fleet("2.0.0")
    missing = fleet.model_copy(update={"image": f"sha256:{'0' * 64}"})
    unbuilt = fleet.model_copy(update={"image": None})
    other = fleet.model_copy(update={"digest": "0" * 64})
    for wrong, said in ((missing, "not on this engine"), (unbuilt, "none"), (other, "holds the")):
        with pytest.raises(RolloutError, match=said):
            yard.target.sync(Service(model=yard.model, fleets=(wrong,)))
    assert yard.target.status(yard.model) == before


def test_replicas_are_kept_in_and_only_the_gateway_is_published(yard: DockerYard) -> None:
    status = yard.sync("1.0.0")
    (replica,), (gateway,) = yard.containers("replica"), yard.containers("gateway")
    for container in (replica, gateway):
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["PidsLimit"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["LogConfig"]["Config"]["max-size"]
        assert not container.attrs["Config"]["User"].startswith("0")
    assert replica.attrs["HostConfig"]["Memory"] == 2**30
    assert replica.ports == {"8080/tcp": None}
    assert gateway.ports["8080/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": status.url.rpartition(":")[2]}
    ]
    code, _ = replica.exec_run(["python", "-c", "open('/opt/modelyard/x', 'w')"])
    assert code == 1


def test_predictions_are_in_the_inference_log_on_this_machine(yard: DockerYard) -> None:
    status = yard.sync("2.0.0")
    rows = [{"id": f"row-{n}", "x": n} for n in range(3)]
    answer = httpx.post(f"{status.url}/invocations", json={"dataframe_records": rows}, timeout=20)
    assert answer.json() == {"predictions": pytest.approx([0.0, 3.0, 6.0])}
    now = datetime.now(UTC)
    logged = PredictionLog(yard.log_folder).read(
        now - timedelta(minutes=10), now + timedelta(hours=1)
    )
    mine = logged[logged["__id"].isin([row["id"] for row in rows])]
    assert sorted(mine["__prediction"]) == pytest.approx([0.0, 3.0, 6.0])


def test_two_platforms_with_the_same_model_do_not_touch_each_other(
    yard: DockerYard, tmp_path: Path
) -> None:
    mine = yard.sync("1.0.0")
    other = DockerYard(yard.engine, yard.releases, tmp_path)
    try:
        theirs = other.sync("2.0.0")
        assert theirs.url != mine.url
        assert (predict(mine)[0], predict(theirs)[0]) == ("1.0.0", "2.0.0")
    finally:
        other.remove()
    assert yard.target.status(yard.model) == mine
    assert predict(mine) == ("1.0.0", 10.0)


def test_a_service_that_was_stopped_stays_stopped_until_it_is_resumed(yard: DockerYard) -> None:
    before = yard.sync("1.0.0")
    yard.target.stop(yard.model)
    assert yard.containers() == []
    assert yard.networks() == []
    stopped = yard.target.status(yard.model)
    assert stopped is not None
    assert (stopped.url, stopped.replicas) == (before.url, ())
    assert yard.target.models() == (yard.model,)
    resumed = yard.target.resume(yard.model)
    assert resumed is not None
    assert resumed.url == before.url
    assert predict(resumed) == ("1.0.0", 10.0)


def test_removing_leaves_nothing_and_may_be_done_twice(yard: DockerYard) -> None:
    yard.sync("1.0.0")
    yard.target.remove(yard.model)
    yard.target.remove(yard.model)
    assert yard.containers() == []
    assert yard.networks() == []
    assert yard.target.models() == ()
    assert yard.target.status(yard.model) is None
    assert yard.target.get_weights(yard.model) == {}


def test_a_port_that_is_taken_is_named_and_nothing_is_left(
    yard: DockerYard, tmp_path: Path
) -> None:
    other = DockerYard(yard.engine, yard.releases, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RolloutError, match=f"Port {port} on 127.0.0.1 is taken"):
            other.target.sync(other.releases.service("1.0.0", port=port))
    assert other.containers() == []
    assert other.networks() == []
    assert other.target.status(other.model) is None
