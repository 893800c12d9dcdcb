"""What changes in Prefect when configs/ say something else?"""

from __future__ import annotations

import pytest

from deployments.automations import AutomationSpec
from deployments.plan import Found, State, plan
from deployments.specifications import DeploymentSpec, ScheduleSpec
from deployments.work_pools import WorkPoolSpec
from modelyard.errors import ConflictError

OURS = "ours"
POOL = WorkPoolSpec(name="pool", type="process", at_once=None, template={})


def _deployment(model: str = "alpha", cron: str | None = None) -> DeploymentSpec:
    return DeploymentSpec(
        flow_name="monitor",
        model=model,
        entrypoint="flows.model_monitoring.monitor_model",
        description="Watch.",
        parameter_schema={"properties": {}},
        schedule=ScheduleSpec(rule={"cron": cron}, timezone="UTC", parameters={}) if cron else None,
        work_pool="pool",
        working_directory="/project",
    )


def _state(
    deployments: tuple[DeploymentSpec, ...] = (),
    automations: tuple[AutomationSpec, ...] = (),
    project: str = OURS,
) -> State:
    return State(
        work_pools={"pool": POOL.fields},
        deployments={s.name: Found(project, s.fields) for s in deployments},
        automations={s.name: Found(project, s.fields) for s in automations},
    )


DRIFT = AutomationSpec(
    name="retrain/alpha on drift",
    model="alpha",
    description="Retrain.",
    expect=("modelyard.drift.detected",),
    resource="modelyard.model.alpha",
    deployment="retrain/alpha",
    parameters={},
)


def test_an_empty_server_gets_pool_deployments_and_automations_in_that_order() -> None:
    changes = plan(State(), OURS, POOL, [_deployment()], [DRIFT])
    assert [(c.action, c.kind, c.name) for c in changes] == [
        ("create", "work pool", "pool"),
        ("create", "deployment", "monitor/alpha"),
        ("create", "automation", "retrain/alpha on drift"),
    ]


def test_a_server_that_is_as_it_should_be_needs_no_change() -> None:
    spec = _deployment(cron="0 * * * *")
    assert plan(_state((spec,), (DRIFT,)), OURS, POOL, [spec], [DRIFT]) == []


def test_an_update_says_what_becomes_of_each_changed_field_and_of_no_other() -> None:
    state = _state((_deployment(cron="0 * * * *"),))
    (change,) = plan(state, OURS, POOL, [_deployment(cron="5 * * * *")], [])
    assert (change.action, change.name) == ("update", "monitor/alpha")
    assert list(change.fields) == ["schedule"]
    was, becomes = change.fields["schedule"]
    assert (was["rule"]["cron"], becomes["rule"]["cron"]) == ("0 * * * *", "5 * * * *")


def test_what_configs_no_longer_name_is_deleted_automations_first() -> None:
    changes = plan(_state((_deployment(),), (DRIFT,)), OURS, POOL, [], [])
    assert [(c.action, c.kind) for c in changes] == [
        ("delete", "automation"),
        ("delete", "deployment"),
    ]


def test_what_another_project_made_is_left_alone() -> None:
    state = _state((_deployment("beta"),), (DRIFT,), project="theirs")
    changes = plan(state, OURS, POOL, [_deployment("alpha")], [])
    assert [(c.action, c.name) for c in changes] == [("create", "monitor/alpha")]


@pytest.mark.parametrize("project", ["theirs", None])
def test_a_name_that_another_project_has_is_refused_before_anything_changes(
    project: str | None,
) -> None:
    state = State(deployments={"monitor/alpha": Found(project, {})})
    with pytest.raises(ConflictError, match="monitor/alpha"):
        plan(state, OURS, POOL, [_deployment("beta"), _deployment("alpha")], [])


def test_a_work_pool_of_ours_follows_the_config_and_tells_no_secret() -> None:
    def template(token: str, cpu: str) -> dict:
        known = {"env": {"default": {"TOKEN": token}}, "cpu_limit": {"default": cpu}}
        return {"job_configuration": {}, "variables": {"properties": known}}

    wanted = POOL.model_copy(update={"at_once": 4, "template": template("new", "2")})
    had = POOL.model_copy(update={"template": template("old", "1")})
    (change,) = plan(State(work_pools={"pool": had.fields}), OURS, wanted, [], [])
    assert (change.action, change.kind) == ("update", "work pool")
    assert change.fields == {"at_once": (None, 4), "cpu_limit": ("1", "2")}

    secret = POOL.model_copy(update={"template": template("new", "1")})
    (change,) = plan(State(work_pools={"pool": had.fields}), OURS, secret, [], [])
    assert "new" not in str(change.fields)


def test_a_work_pool_that_somebody_else_made_is_used_as_it_is() -> None:
    state = State(work_pools={"pool": {"type": "process"}})
    assert plan(state, OURS, POOL.model_copy(update={"at_once": 4}), [], []) == []


def test_a_work_pool_of_another_type_is_refused_with_what_to_do() -> None:
    state = State(work_pools={"pool": {"type": "docker"}})
    with pytest.raises(ConflictError, match=r"is of type docker and not process.*work_pool"):
        plan(state, OURS, POOL, [], [])


def test_what_is_created_is_told_by_when_it_runs() -> None:
    (change,) = plan(_state(), OURS, POOL, [_deployment(cron="0 * * * *")], [])
    assert change.fields["schedule"][1]["rule"] == {"cron": "0 * * * *"}
