"""What changes in Prefect when configs/ say something else?"""

from __future__ import annotations

import pytest

from deployments.plan import Found, State, plan
from deployments.specifications import AutomationSpec, DeploymentSpec, Schedule
from modelyard.errors import ConflictError

OURS = "ours"


def _deployment(model: str = "alpha", cron: str | None = None) -> DeploymentSpec:
    return DeploymentSpec(
        flow_name="monitor",
        model=model,
        entrypoint="flows.model_monitoring.monitor_model",
        description="Watch.",
        parameter_schema={"properties": {}},
        schedule=Schedule(cron=cron, parameters={}) if cron else None,
        work_pool="pool",
        working_directory="/project",
    )


def _state(
    deployments: tuple[DeploymentSpec, ...] = (),
    automations: tuple[AutomationSpec, ...] = (),
    project: str = OURS,
) -> State:
    return State(
        work_pools=frozenset({"pool"}),
        deployments={s.name: Found(project, s.fields) for s in deployments},
        automations={s.name: Found(project, s.fields) for s in automations},
    )


DRIFT = AutomationSpec(
    name="retrain/alpha on drift",
    model="alpha",
    description="Retrain.",
    event="modelyard.drift.detected",
    resource="modelyard.model.alpha",
    runs_of=(),
    deployment="retrain/alpha",
    parameters={},
)


def test_an_empty_server_gets_pool_deployments_and_automations_in_that_order() -> None:
    changes = plan(State(), OURS, "pool", [_deployment()], [DRIFT])
    assert [(c.action, c.kind, c.name) for c in changes] == [
        ("create", "work pool", "pool"),
        ("create", "deployment", "monitor/alpha"),
        ("create", "automation", "retrain/alpha on drift"),
    ]


def test_a_server_that_is_as_it_should_be_needs_no_change() -> None:
    spec = _deployment(cron="0 * * * *")
    assert plan(_state((spec,), (DRIFT,)), OURS, "pool", [spec], [DRIFT]) == []


def test_an_update_says_what_becomes_of_each_changed_field_and_of_no_other() -> None:
    state = _state((_deployment(cron="0 * * * *"),))
    (change,) = plan(state, OURS, "pool", [_deployment(cron="5 * * * *")], [])
    assert (change.action, change.name) == ("update", "monitor/alpha")
    assert list(change.fields) == ["schedule"]
    was, becomes = change.fields["schedule"]
    assert (was["cron"], becomes["cron"]) == ("0 * * * *", "5 * * * *")


def test_what_configs_no_longer_name_is_deleted_automations_first() -> None:
    changes = plan(_state((_deployment(),), (DRIFT,)), OURS, "pool", [], [])
    assert [(c.action, c.kind) for c in changes] == [
        ("delete", "automation"),
        ("delete", "deployment"),
    ]


def test_what_another_project_made_is_left_alone() -> None:
    state = _state((_deployment("beta"),), (DRIFT,), project="theirs")
    changes = plan(state, OURS, "pool", [_deployment("alpha")], [])
    assert [(c.action, c.name) for c in changes] == [("create", "monitor/alpha")]


@pytest.mark.parametrize("project", ["theirs", None])
def test_a_name_that_another_project_has_is_refused_before_anything_changes(
    project: str | None,
) -> None:
    state = State(deployments={"monitor/alpha": Found(project, {})})
    with pytest.raises(ConflictError, match="monitor/alpha"):
        plan(state, OURS, "pool", [_deployment("beta"), _deployment("alpha")], [])
