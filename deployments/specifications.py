"""Which deployments and automations follow from configs/?"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any, Literal

from prefect import Flow
from prefect.utilities.callables import parameter_schema

from modelyard.config import ModelConfig, PlatformConfig
from modelyard.domain.values import Value
from modelyard.errors import ConfigError, ModelYardError

TAG = "modelyard"

FlowName = Literal["deliver", "rollout", "monitor", "retrain", "rollback", "reconcile", "reproduce"]

ENTRYPOINTS: dict[FlowName, str] = {
    "deliver": "flows.model_delivery.deliver_model",
    "rollout": "flows.model_rollout.roll_out_model",
    "monitor": "flows.model_monitoring.monitor_model",
    "retrain": "flows.model_retraining.retrain_model",
    "rollback": "flows.model_rollback.roll_back_model",
    "reconcile": "flows.model_reconciliation.reconcile_model",
    "reproduce": "flows.model_reproduction.reproduce_release",
}

EVENTS: dict[Literal["drift", "performance"], str] = {
    "drift": "modelyard.drift.detected",
    "performance": "modelyard.performance.degraded",
}
"""The event that each cause of retraining is told by."""


class Schedule(Value):
    """When a deployment runs by itself, and what such a run gets and one by hand does not."""

    cron: str
    timezone: str = "UTC"
    parameters: dict[str, Any]


class DeploymentSpec(Value):
    """One deployment as configs/ and its flow say that it should be."""

    flow_name: FlowName
    model: str
    entrypoint: str
    description: str
    parameter_schema: dict[str, Any]
    """JSON schema of the flow's parameters: what the run form shows."""
    schedule: Schedule | None
    """None for a deployment that runs on demand only."""
    work_pool: str
    working_directory: str
    """Project folder: flow runs start in it, wherever the worker was started."""

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


class AutomationSpec(Value):
    """One automation: an event runs a deployment."""

    name: str
    model: str
    description: str
    event: str
    resource: str
    """Id of what the event is about; `*` at its end stands for anything."""
    runs_of: tuple[str, ...]
    """Names of the deployments whose flow runs the event is about; empty where it is of none."""
    deployment: str
    """Name of the one to run."""
    parameters: dict[str, str]

    @property
    def fields(self) -> dict[str, Any]:
        """What is compared with Prefect's automation of this name."""
        return self.model_dump(mode="json", exclude={"name", "model"})


def deployments_of(
    config: ModelConfig, platform: PlatformConfig, *, root: Path
) -> list[DeploymentSpec]:
    """Return the deployments of one model, one a flow.

    Raises ModelYardError for a flow that cannot be imported, ConfigError for one of another name.
    """
    crons: dict[FlowName, str | None] = {
        "monitor": config.monitoring.schedule,
        "retrain": config.retraining.schedule,
        "reconcile": platform.reconciliation.schedule,
    }
    work_pool = platform.orchestration.work_pool
    return [
        _deployment(name, config.name, crons.get(name), root, work_pool) for name in ENTRYPOINTS
    ]


def automations_of(config: ModelConfig) -> list[AutomationSpec]:
    """Return the automations of one model."""
    on = [_retrain(config.name, cause) for cause in EVENTS if cause in config.retraining.on]
    return [*on, _carry_on(config.name)]


def _retrain(model: str, cause: Literal["drift", "performance"]) -> AutomationSpec:
    """Return what retrains a model on an event.

    Each event runs the deployment once: waiting, budget and data checks are not the trigger's but
    the retraining controller's, which records its reasons.
    """
    return AutomationSpec(
        name=f"retrain/{model} on {cause}",
        model=model,
        description=f"{EVENTS[cause]} about {model} runs retrain/{model}.",
        event=EVENTS[cause],
        resource=f"modelyard.model.{model}",
        runs_of=(),
        deployment=f"retrain/{model}",
        parameters={
            "cause": cause,
            "window_id": "{{ event.payload.window_id }}",
            "as_of": "{{ event.payload.as_of }}",
        },
    )


def _carry_on(model: str) -> AutomationSpec:
    """Return what carries on a rollout whose flow run was killed, and does not wait for an hour.

    A killed process cannot say so: its worker does, or the one that `modelyard up` starts after it.
    What carries on is not watched itself, so that what kills every flow run is not started forever.
    """
    watched: tuple[FlowName, ...] = ("deliver", "rollout", "retrain", "rollback")
    return AutomationSpec(
        name=f"reconcile/{model} on a crash",
        model=model,
        description=f"A flow run of {model} that was killed is followed by reconcile/{model}.",
        event="prefect.flow-run.Crashed",
        resource="prefect.flow-run.*",
        runs_of=tuple(f"{flow}/{model}" for flow in watched),
        deployment=f"reconcile/{model}",
        parameters={},
    )


def _deployment(
    flow_name: FlowName, model: str, cron: str | None, root: Path, work_pool: str
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
        schedule=Schedule(cron=cron, parameters=scheduled) if cron else None,
        work_pool=work_pool,
        working_directory=str(root),
    )


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
