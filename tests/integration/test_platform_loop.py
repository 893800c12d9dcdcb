"""The platform on the real thing: servers, worker, deployments, automations, and their end.

One platform serves the tests of this file, in their order: a start takes tens of seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.specifications import ENTRYPOINTS
from modelyard.adapters.platform import parts as platform
from modelyard.adapters.platform.parts import platform_id, read_platform
from modelyard.adapters.platform.prefect_api import PrefectApi
from modelyard.adapters.platform.processes import family, is_live, marked_processes, stop_processes
from modelyard.errors import ServiceUnavailableError
from modelyard.project import Project
from tests.integration.platform_project import make_project, write_model

pytestmark = pytest.mark.xdist_group("platform")


def _ignore(*_: object) -> None:
    return


def _command(project: Project, *arguments: str, folder: Path | None = None) -> Any:
    """Run `modelyard` in a project, and return its JSON where it was asked for it."""
    code = "from modelyard.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder or project.root,
        env={**os.environ, "MODELYARD_ROOT": str(project.root)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def _recorded(project: Project, flow: str, count: int = 1) -> list[dict[str, Any]]:
    """Return what stand-in flows wrote down, once they wrote `count` lines."""
    file = project.root / f"recorded-{flow}.jsonl"
    _wait_until(lambda: file.exists() and len(file.read_text().splitlines()) >= count)
    return [json.loads(line) for line in file.read_text().splitlines()]


def _wait_until(condition: Callable[[], bool], timeout_seconds: float = 120) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true in {timeout_seconds} s"
        time.sleep(0.1)


def _ask(project: Project, path: str, body: Any = None, method: str | None = None) -> Any:
    url = read_platform(project)["prefect"].url
    assert url is not None
    with PrefectApi(url) as api:
        return api.ask(method or ("GET" if body is None else "POST"), path, body)


def _run(project: Project, name: str, **parameters: Any) -> str:
    """Ask Prefect to run a deployment, as its run form does; return the flow run's id."""
    deployment = _ask(project, f"/deployments/name/{name}")
    body = {"parameters": {"model": name.partition("/")[2], **parameters}}
    return _ask(project, f"/deployments/{deployment['id']}/create_flow_run", body)["id"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with two models whose platform is up."""
    project = make_project(tmp_path_factory.mktemp("platform"), models=("alpha", "beta"))
    started = _command(project, "up", "--json")
    assert {part["name"] for part in started["platform"]} == {"prefect", "mlflow", "worker"}
    yield project
    platform.stop_platform(project, _ignore)
    stop_processes(marked_processes(platform_id(project)), grace_seconds=0)


def test_a_second_up_starts_and_changes_nothing(project: Project) -> None:
    before = read_platform(project)
    again = _command(project, "up", "--json")
    assert again["changes"] == []
    assert read_platform(project) == before


def test_what_was_applied_needs_no_change_and_is_shown_with_its_next_run(project: Project) -> None:
    assert _command(project, "apply").strip() == "Nothing to change."
    _wait_until(lambda: all(m["next_run"] for m in _command(project, "status", "--json")["models"]))
    shown = _command(project, "status", "--json")
    assert [part["answers"] for part in shown["platform"]] == [True, True, True]
    assert [model["name"] for model in shown["models"]] == ["alpha", "beta"]


def test_a_dry_run_tells_and_an_apply_makes_the_change_and_prunes(project: Project) -> None:
    write_model(project.root, "alpha", monitoring="5 * * * *")
    (project.root / "configs" / "models" / "beta.yaml").unlink()
    told = _command(project, "apply", "--dry-run", "--json")["changes"]
    assert [(c["action"], c["name"]) for c in told] == [
        ("update", "monitor/alpha"),
        ("delete", "beta: a flow run is silent"),
        ("delete", "beta: a flow run takes too long"),
        ("delete", "reconcile/beta on a crash"),
        ("delete", "retrain/beta on drift"),
        ("delete", "retrain/beta on performance"),
        *(("delete", f"{flow}/beta") for flow in sorted(ENTRYPOINTS)),
    ]
    assert len(_ask(project, "/deployments/filter", {})) == 2 * len(ENTRYPOINTS)
    assert sorted(_names(_command(project, "apply", "--json"))) == sorted(c["name"] for c in told)
    (schedule,) = _ask(project, "/deployments/name/monitor/alpha")["schedules"]
    assert schedule["schedule"]["cron"] == "5 * * * *"
    assert schedule["schedule"]["timezone"] == "UTC"
    assert len(_ask(project, "/deployments/filter", {})) == len(ENTRYPOINTS)
    assert _command(project, "apply", "--json")["changes"] == []


def _names(applied: dict[str, Any]) -> list[str]:
    return [change["name"] for change in applied["changes"]]


def test_deployments_of_others_and_what_a_person_switched_off_stay(project: Project) -> None:
    flow = _ask(project, "/flows/", {"name": "another"})
    _ask(project, "/deployments/", {"name": "others", "flow_id": flow["id"], "tags": ["modelyard"]})
    monitor = _ask(project, "/deployments/name/monitor/alpha")
    path = f"/deployments/{monitor['id']}/schedules/{monitor['schedules'][0]['id']}"
    _ask(project, path, {"active": False}, "PATCH")
    write_model(project.root, "alpha", monitoring="10 * * * *")
    assert _names(_command(project, "apply", "--json")) == ["monitor/alpha"]
    (schedule,) = _ask(project, "/deployments/name/monitor/alpha")["schedules"]
    assert (schedule["schedule"]["cron"], schedule["active"]) == ("10 * * * *", False)
    assert _ask(project, "/deployments/name/another/others")["name"] == "others"


def test_a_deployment_runs_in_the_project_and_only_for_its_model(
    project: Project, tmp_path: Path
) -> None:
    _command(project, "up", "--json", folder=tmp_path)
    _run(project, "deliver/alpha", reason="a person asked")
    (recorded,) = _recorded(project, "deliver")
    assert recorded["folder"] == str(project.root)
    assert (recorded["model"], recorded["reason"]) == ("alpha", "a person asked")
    with pytest.raises(ServiceUnavailableError, match="409"):
        _run(project, "deliver/alpha", model="beta")


def test_a_drift_event_starts_one_retraining_with_what_the_event_says(project: Project) -> None:
    emit = """
import os, sys
from modelyard.adapters.platform.parts import prefect_environment
from modelyard.project import Project
os.environ.update(prefect_environment(Project.find()))
from modelyard.adapters.prefect.events import emit_event
at = "2026-03-01T00:00:00+00:00"
for _ in range(2):
    payload, labels = {"window_id": "w1", "as_of": at}, {"modelyard.window": "w1"}
    emit_event("modelyard.drift.detected", "alpha", payload, sys.argv[1], labels=labels)
"""
    subprocess.run(
        [sys.executable, "-c", emit, str(uuid.uuid4())], cwd=project.root, check=True, timeout=120
    )
    _recorded(project, "retrain")
    time.sleep(5)  # long enough for a second flow run to be created, which must not happen
    (recorded,) = _recorded(project, "retrain")
    assert recorded["cause"] == "drift"
    assert recorded["window_id"] == "w1"
    assert recorded["as_of"] == "2026-03-01 00:00:00+00:00"
    runs = _ask(project, "/flow_runs/filter", {"flows": {"name": {"any_": ["retrain"]}}})
    creators = [run["created_by"]["type"] for run in runs if run["created_by"]]
    assert creators.count("AUTOMATION") == 1


def test_a_part_that_was_killed_is_started_again_by_up_and_the_others_stay(
    project: Project,
) -> None:
    before = read_platform(project)
    worker = before["worker"].process
    assert worker is not None
    process = worker.process()
    assert process is not None
    process.kill()
    _wait_until(lambda: "worker" not in read_platform(project))
    shown = {p["name"]: p["answers"] for p in _command(project, "status", "--json")["platform"]}
    assert shown == {"prefect": True, "mlflow": True, "worker": False}
    assert "worker" in _command(project, "status")
    _command(project, "up", "--json")
    after = read_platform(project)
    assert after["worker"] != before["worker"]
    assert (after["prefect"], after["mlflow"]) == (before["prefect"], before["mlflow"])


def test_a_prefect_worker_that_ends_is_started_again_by_itself(project: Project) -> None:
    keeper = read_platform(project)["worker"].process
    assert keeper is not None
    process = keeper.process()
    assert process is not None
    (worker,) = process.children()
    worker.kill()

    _wait_until(lambda: any(child != worker for child in process.children()))

    pool = project.platform.orchestration.work_pool
    (known,) = _ask(project, f"/work_pools/{pool}/workers/filter", {})
    heard = known["last_heartbeat_time"]
    _wait_until(
        lambda: (
            _ask(project, f"/work_pools/{pool}/workers/filter", {})[0]["last_heartbeat_time"]
            > heard
        )
    )


def test_a_killed_mlflow_server_comes_back_at_its_address_without_its_former_children(
    project: Project,
) -> None:
    before = read_platform(project)["mlflow"]
    assert before.process is not None
    process = before.process.process()
    assert process is not None
    children = process.children(recursive=True)
    assert children
    process.kill()
    _wait_until(lambda: "mlflow" not in read_platform(project))
    _command(project, "up", "--json")
    assert read_platform(project)["mlflow"].url == before.url
    assert not any(is_live(child) for child in children)


def test_down_ends_flow_runs_with_all_processes_and_the_next_up_runs_the_same_deployment(
    project: Project,
) -> None:
    flow_run = _run(project, "deliver/alpha", reason="sleep")
    _recorded(project, "deliver", 2)
    ours = [
        process
        for part in read_platform(project).values()
        if part.process and (parent := part.process.process())
        for process in family(parent)
    ]
    assert len(ours) >= 4
    _command(project, "down")
    assert not any(is_live(process) for process in ours)
    assert marked_processes(platform_id(project)) == []
    assert read_platform(project) == {}
    assert "Nothing ran here." in _command(project, "down")
    assert _command(project, "status", "--json")["platform"] == []

    _command(project, "up", "--json")
    assert _ask(project, f"/flow_runs/{flow_run}")["state_type"] == "CRASHED"
    _run(project, "deliver/alpha", reason="again")
    assert _recorded(project, "deliver", 3)[-1]["reason"] == "again"


def test_a_killed_flow_run_is_followed_by_one_that_carries_on(project: Project) -> None:
    flow_run = _run(project, "deliver/alpha", reason="sleep")
    _recorded(project, "deliver", 4)
    before = datetime.now(UTC)
    psutil.Process(int(_ask(project, f"/flow_runs/{flow_run}")["infrastructure_pid"])).kill()

    follower = _wait_for_follower(project, before)
    assert follower["parameters"] == {"model": "alpha"}
    assert _ask(project, f"/flow_runs/{flow_run}")["state_type"] == "CRASHED"


@pytest.mark.timeout(600)
def test_a_flow_run_that_hangs_is_found_by_its_silence_and_followed(project: Project) -> None:
    file = project.root / "recorded-deliver.jsonl"
    known = len(file.read_text().splitlines()) if file.exists() else 0
    flow_run = _run(project, "deliver/alpha", reason="sleep")
    _recorded(project, "deliver", known + 1)
    _wait_until(lambda: bool(_heartbeats(project, flow_run)))
    before = datetime.now(UTC)
    process = psutil.Process(int(_ask(project, f"/flow_runs/{flow_run}")["infrastructure_pid"]))
    hanging = [process, *process.children(recursive=True)]
    for each in hanging:
        each.suspend()
    try:
        _wait_until(
            lambda: _ask(project, f"/flow_runs/{flow_run}")["state_type"] == "CRASHED",
            timeout_seconds=400,
        )
        _wait_for_follower(project, before)
        assert "heartbeat" in _ask(project, f"/flow_runs/{flow_run}")["state"]["message"]
    finally:
        stop_processes(hanging, grace_seconds=0)


def _heartbeats(project: Project, flow_run: str) -> list[dict[str, Any]]:
    about = {"id": [f"prefect.flow-run.{flow_run}"]}
    body = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": about}}
    return _ask(project, "/events/filter", body)["events"]


def _wait_for_follower(project: Project, before: datetime) -> dict[str, Any]:
    """Return the first reconciliation that an automation started since, once it has ended.

    A former crash that a stopped server heard of may be followed late, by one more.
    """
    ended: list[dict[str, Any]] = []

    def has_ended() -> bool:
        runs = _ask(project, "/flow_runs/filter", {"flows": {"name": {"any_": ["reconcile"]}}})
        ended.extend(
            run
            for run in runs
            if datetime.fromisoformat(run["created"]) > before
            and (run["created_by"] or {}).get("type") == "AUTOMATION"
            and run["state_type"] == "COMPLETED"
        )
        return bool(ended)

    _wait_until(has_ended, timeout_seconds=120)
    return ended[0]
