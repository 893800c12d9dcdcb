"""Which deployments and automations follow from a model's config?"""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.automations import AutomationSpec, automations_of
from deployments.specifications import ENTRYPOINTS, deployments_of
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
        "backtest/alpha",
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
        return {s.flow_name: str(s.schedule.rule["cron"]) if s.schedule else None for s in specs}

    assert crons(_config()) == {
        "deliver": None,
        "rollout": None,
        "monitor": "0 * * * *",
        "retrain": None,
        "rollback": None,
        "reconcile": "17 * * * *",
        "reproduce": None,
        "backtest": None,
    }
    assert crons(_config(schedule="0 3 * * 0"))["retrain"] == "0 3 * * 0"


def test_a_scheduled_retraining_says_that_the_schedule_is_its_cause() -> None:
    specs = deployments_of(_config(schedule="0 3 * * 0"), PlatformConfig(), root=Path("/project"))
    (retrain,) = [spec for spec in specs if spec.flow_name == "retrain"]
    assert retrain.schedule is not None
    assert retrain.schedule.timezone == "UTC"
    assert retrain.schedule.parameters == {"cause": "schedule"}
    assert retrain.parameter_schema["properties"]["cause"]["default"] == "person"


def _schedule(said: object) -> tuple[dict, str]:
    specs = deployments_of(_config(schedule=said), PlatformConfig(), root=Path("/project"))
    (retrain,) = [spec for spec in specs if spec.flow_name == "retrain"]
    assert retrain.schedule is not None
    return retrain.schedule.rule, retrain.schedule.timezone


def test_a_schedule_is_cron_an_interval_or_a_calendar_rule_in_a_time_zone() -> None:
    cron = {"cron": "0 3 * * 0", "timezone": "Europe/Berlin"}
    assert _schedule(cron) == ({"cron": "0 3 * * 0"}, "Europe/Berlin")
    last_friday = "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=3;BYMINUTE=0;BYSECOND=0"
    assert _schedule({"rrule": last_friday}) == ({"rrule": last_friday}, "UTC")
    monday = "1970-01-04T23:00:00+00:00"  # midnight in Berlin
    assert _schedule({"every": "6h", "timezone": "Europe/Berlin"}) == (
        {"interval": 21600.0, "anchor_date": monday},
        "Europe/Berlin",
    )


def _automations(platform: PlatformConfig | None = None, **retraining: object):
    return {a.name: a for a in automations_of(_config(**retraining), platform or PlatformConfig())}


@pytest.mark.parametrize("on", [["drift"], ["performance"], ["performance", "drift"], []])
def test_a_model_has_an_automation_for_each_cause_that_it_is_retrained_on(on: list[str]) -> None:
    retraining = [a for a in _automations(on=on).values() if a.deployment == "retrain/alpha"]
    assert {automation.parameters["cause"] for automation in retraining} == set(on)
    for automation in retraining:
        assert automation.expect == (IncidentCause(automation.parameters["cause"]).event,)
        assert automation.resource == "modelyard.model.alpha"


def test_a_killed_flow_run_is_followed_by_one_that_is_not_watched_itself() -> None:
    automation = _automations(on=[])["reconcile/alpha on a crash"]
    assert automation.deployment == "reconcile/alpha"
    assert {"deliver/alpha", "rollout/alpha"} <= set(automation.runs_of)
    assert automation.deployment not in automation.runs_of


def test_each_window_is_a_cause_of_its_own_for_the_trigger() -> None:
    for cause in ("drift", "performance"):
        automation = _automations()[f"retrain/alpha on {cause}"]
        assert "modelyard.window" in automation.for_each
        assert automation.within_seconds > 0


def test_a_flow_run_is_watched_for_its_heartbeat_and_its_end() -> None:
    found = _automations(PlatformConfig.model_validate({"orchestration": {"timeout": "2h"}}))
    silent, long = found["alpha: a flow run is silent"], found["alpha: a flow run takes too long"]
    assert silent.does == "mark as crashed"
    assert "prefect.flow-run.heartbeat" in (set(silent.after) & set(silent.expect))
    assert (long.does, long.within_seconds) == ("cancel", 7200)
    assert long.missing
    assert silent.missing
    assert {f"{flow}/alpha" for flow in ENTRYPOINTS} == set(silent.runs_of) == set(long.runs_of)


def test_people_are_told_of_late_runs_by_the_server_where_it_has_a_block_for_them() -> None:
    assert "alpha: a flow run is late" not in _automations()
    platform = PlatformConfig.model_validate(
        {"alerts": ["mailto://somebody@example.org", "slack-webhook/team"]}
    )
    late: AutomationSpec = _automations(platform)["alpha: a flow run is late"]
    assert (late.does, late.places) == ("notify", ("slack-webhook/team",))
