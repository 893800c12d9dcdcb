"""Which deployments follow from configs/?"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any, Literal

from prefect import Flow
from prefect.utilities.callables import parameter_schema

from modelyard.config import ModelConfig, PlatformConfig
from modelyard.config.scheduling import Schedule
from modelyard.domain.values import Value
from modelyard.errors import ConfigError, ModelYardError

TAG = "modelyard"

FlowName = Literal[
    "deliver",
    "rollout",
    "monitor",
    "retrain",
    "rollback",
    "reconcile",
    "reproduce",
    "backtest",
]

ENTRYPOINTS: dict[FlowName, str] = {
    "deliver": "flows.model_delivery.deliver_model",
    "rollout": "flows.model_rollout.roll_out_model",
    "monitor": "flows.model_monitoring.monitor_model",
    "retrain": "flows.model_retraining.retrain_model",
    "rollback": "flows.model_rollback.roll_back_model",
    "reconcile": "flows.model_reconciliation.reconcile_model",
    "reproduce": "flows.model_reproduction.reproduce_release",
    "backtest": "flows.model_backtest.backtest_model",
}


class ScheduleSpec(Value):
    """When a deployment runs by itself, and what such a run gets and one by hand does not."""

    rule: dict[str, str | float]
    """As Prefect takes it: cron, interval with anchor_date, or rrule."""
    timezone: str
    parameters: dict[str, Any]


class DeploymentSpec(Value):
    """One deployment as configs/ and its flow say that it should be."""

    flow_name: FlowName
    model: str
    entrypoint: str
    description: str
    parameter_schema: dict[str, Any]
    """JSON schema of the flow's parameters: what the run form shows."""
    schedule: ScheduleSpec | None
    """None for a deployment that runs on demand only."""
    work_pool: str
    working_directory: str
    """Project folder where flow runs run: they start in it, wherever the worker was started."""

    @property
    def name(self) -> str:
        return f"{self.flow_name}/{self.model}"

    @property
    def fields(self) -> dict[str, Any]:
        """What is compared with Prefect's deployment of this name."""
        return self.model_dump(mode="json", exclude={"flow_name", "model"}) | {
            "parameters": {"model": self.model},
            "tags": sorted((TAG, self.model)),
            "concurrency": "1 at a time, the others wait",
        }


def deployments_of(
    config: ModelConfig, platform: PlatformConfig, *, root: Path
) -> list[DeploymentSpec]:
    """Return the deployments of one model, one a flow.

    Raises ModelYardError for a flow that cannot be imported, ConfigError for one of another name.
    """
    schedules: dict[FlowName, Schedule | None] = {
        "monitor": config.monitoring.schedule,
        "retrain": config.retraining.schedule,
        "reconcile": platform.reconciliation.schedule,
    }
    work = platform.orchestration
    folder = str(root) if work.type == "process" else work.folder
    return [
        _deployment(name, config.name, schedules.get(name), folder, work.work_pool)
        for name in ENTRYPOINTS
    ]


def _deployment(
    flow_name: FlowName, model: str, schedule: Schedule | None, folder: str, work_pool: str
) -> DeploymentSpec:
    flow = _load(flow_name)
    # by hand the cause is "person", the flow's own default
    scheduled = {"cause": "schedule"} if flow_name == "retrain" else {}
    return DeploymentSpec(
        flow_name=flow_name,
        model=model,
        entrypoint=ENTRYPOINTS[flow_name],
        description=(inspect.getdoc(flow.fn) or "").partition("\nArgs:")[0].strip(),
        parameter_schema=_schema(flow, model),
        schedule=_scheduled(schedule, scheduled) if schedule else None,
        work_pool=work_pool,
        working_directory=folder,
    )


def _scheduled(schedule: Schedule, parameters: dict[str, Any]) -> ScheduleSpec:
    rule: dict[str, str | float]
    if schedule.every is not None:
        rule = {
            "interval": schedule.every.total_seconds(),
            "anchor_date": schedule.anchor.isoformat(),
        }
    else:
        rule = {"cron": schedule.cron} if schedule.cron else {"rrule": str(schedule.rrule)}
    return ScheduleSpec(rule=rule, timezone=schedule.timezone, parameters=parameters)


def _load(flow_name: FlowName) -> Flow[..., Any]:
    module, _, function = ENTRYPOINTS[flow_name].rpartition(".")
    try:
        flow = getattr(importlib.import_module(module), function)
    except Exception as err:  # a flow file is the project's: its import may raise anything
        raise ModelYardError(
            f"The flow {ENTRYPOINTS[flow_name]} cannot be loaded: {type(err).__name__}: {err}. "
            f"`python -c 'import {module}'` in the project's folder shows where."
        ) from err
    if flow.name != flow_name:
        raise ConfigError(
            f"The flow {ENTRYPOINTS[flow_name]} is named {flow.name!r}; deployments and the "
            f"command look for {flow_name!r}. Decorate it with @flow(name={flow_name!r})."
        )
    return flow


def _schema(flow: Flow[..., Any], model: str) -> dict[str, Any]:
    """Return the run form's schema, in which the model is the deployment's and nothing else."""
    schema = parameter_schema(flow.fn).model_dump_for_openapi()
    schema["properties"]["model"] |= {"enum": [model], "default": model}
    return schema
