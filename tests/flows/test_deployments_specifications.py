"""Which deployments and automations follow from a model's config?"""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.specifications import ENTRYPOINTS, automations_of, deployments_of
from modelyard.config import ModelConfig, PlatformConfig
from modelyard.domain.monitoring import IncidentCause


def _config(**retraining: object) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "name": "alpha",
            "task": "regression",
            "data": {"source": "rows.csv", "target": "y"},
            "training": {"estimator": "sklearn.linear_model.LinearRegression"},
            "evaluation": {"primary_metric": "mae"},
            "monitoring": {"schedule": "0 * * * *"},
            "retraining": retraining,
        }
    )


def test_a_model_has_a_deployment_of_each_real_flow() -> None:
    specs = deployments_of(_config(), PlatformConfig(), root=Path("/project"))
    assert [spec.name for spec in specs] == [
        "deliver/alpha",
        "rollout/alpha",
        "monitor/alpha",
        "retrain/alpha",
        "rollback/alpha",
        "reconcile/alpha",
        "reproduce/alpha",
    ]
    assert {spec.entrypoint for spec in specs} == set(ENTRYPOINTS.values())
    assert all(spec.description and "Args:" not in spec.description for spec in specs)


def test_every_parameter_of_a_run_form_is_described_and_the_model_is_fixed() -> None:
    for spec in deployments_of(_config(), PlatformConfig(), root=Path("/project")):
        properties = spec.parameter_schema["properties"]
        assert properties["model"]["enum"] == ["alpha"]
        undescribed = [name for name, shown in properties.items() if not shown.get("description")]
        assert undescribed == [], spec.name


def test_only_what_the_config_schedules_runs_by_itself() -> None:
    def crons(config: ModelConfig) -> dict[str, str | None]:
        specs = deployments_of(config, PlatformConfig(), root=Path("/project"))
        return {s.flow_name: s.schedule.cron if s.schedule else None for s in specs}

    assert crons(_config()) == {
        "deliver": None,
        "rollout": None,
        "monitor": "0 * * * *",
        "retrain": None,
        "rollback": None,
        "reconcile": "17 * * * *",
        "reproduce": None,
    }
    assert crons(_config(schedule="0 3 * * 0"))["retrain"] == "0 3 * * 0"


def test_a_scheduled_retraining_says_that_the_schedule_is_its_cause() -> None:
    specs = deployments_of(_config(schedule="0 3 * * 0"), PlatformConfig(), root=Path("/project"))
    (retrain,) = [spec for spec in specs if spec.flow_name == "retrain"]
    assert retrain.schedule is not None
    assert retrain.schedule.timezone == "UTC"
    assert retrain.schedule.parameters == {"cause": "schedule"}
    assert retrain.parameter_schema["properties"]["cause"]["default"] == "person"


@pytest.mark.parametrize("on", [["drift"], ["performance"], ["performance", "drift"], []])
def test_a_model_has_an_automation_for_each_cause_that_it_is_retrained_on(on: list[str]) -> None:
    retraining = [a for a in automations_of(_config(on=on)) if a.deployment == "retrain/alpha"]
    assert {automation.parameters["cause"] for automation in retraining} == set(on)
    for automation in retraining:
        assert automation.event == IncidentCause(automation.parameters["cause"]).event
        assert automation.resource == "modelyard.model.alpha"


def test_a_killed_flow_run_is_followed_by_one_that_is_not_watched_itself() -> None:
    (automation,) = automations_of(_config(on=[]))
    assert automation.deployment == "reconcile/alpha"
    assert {"deliver/alpha", "rollout/alpha"} <= set(automation.runs_of)
    assert automation.deployment not in automation.runs_of
