"""Which events, or which silence, make Prefect do something for a model by itself?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger
from prefect.events.actions import (
    CancelFlowRun,
    ChangeFlowRunState,
    RunDeployment,
    SendNotification,
)
from prefect.events.schemas.automations import Automation, Posture
from pydantic import Field

from deployments.specifications import FlowName
from modelyard.adapters.platform.parts import HEARTBEAT_SECONDS
from modelyard.adapters.prefect.events import WINDOW_LABEL
from modelyard.config import ModelConfig, PlatformConfig
from modelyard.config.values import ALERT_BLOCK, format_duration
from modelyard.domain.values import Value

EVENTS: dict[Literal["drift", "performance"], str] = {
    "drift": "modelyard.drift.detected",
    "performance": "modelyard.performance.degraded",
}
"""The event that each cause of retraining is told by."""

_RESOURCE = "prefect.resource.id"
_DEPLOYMENT = "prefect.deployment."
"""What the id of a deployment begins with in an event."""
_RUN = "prefect.flow-run."
_HEARTBEAT = f"{_RUN}heartbeat"
_ENDS = tuple(f"{_RUN}{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed"))
_MISSED = 4
"""So many heartbeats may be missing: busy machines are late."""
_ONCE_SECONDS = 3600
"""A window's event that comes again within this time runs nothing; the controller, which remembers
for longer, would say no. A retraining that was missed is found by the reconciliation."""
_WATCHED: tuple[FlowName, ...] = (
    "deliver",
    "rollout",
    "monitor",
    "retrain",
    "rollback",
    "reconcile",
    "reproduce",
    "backtest",
)

Does = Literal["run deployment", "mark as crashed", "cancel", "notify"]


class AutomationSpec(Value):
    """One automation: an event, or that it does not come, leads to an action."""

    name: str
    model: str
    description: str
    after: tuple[str, ...] = ()
    """Where given, what is expected counts only after one of these events."""
    expect: tuple[str, ...]
    """Names of the events that lead to the action; or, where `missing`, keep it from coming."""
    missing: bool = False
    """Whether the action follows when nothing of it came within the time."""
    within_seconds: int = 0
    """Time to wait for a missing event; otherwise for how long the same makes no second action."""
    for_each: tuple[str, ...] = ()
    """Labels of the event's resource: each value of them is one of its own."""
    resource: str
    """Id of what the event is about; `*` at its end stands for anything."""
    runs_of: tuple[str, ...] = ()
    """Names of the deployments whose flow runs the event is about; empty where it is of none."""
    does: Does = "run deployment"
    deployment: str | None = None
    """Name of the one to run."""
    parameters: dict[str, str] = Field(default_factory=dict)
    message: str | None = None
    """Why a flow run is marked, or what people are told."""
    places: tuple[str, ...] = ()
    """Notification blocks of Prefect's that tell people, as type/name."""

    @property
    def fields(self) -> dict[str, Any]:
        """What is compared with Prefect's automation of this name."""
        shown = self.model_dump(mode="json", exclude={"name", "model"})
        return shown | {key: sorted(shown[key]) for key in ("after", "expect", "for_each")}


def automations_of(config: ModelConfig, platform: PlatformConfig) -> list[AutomationSpec]:
    """Return the automations of one model."""
    model = config.name
    blocks = [p for p in (*platform.alerts, *config.alerts) if ALERT_BLOCK.fullmatch(p)]
    places = tuple(dict.fromkeys(str(place) for place in blocks))
    return [
        *(_retrain(model, cause) for cause in EVENTS if cause in config.retraining.on),
        _carry_on(model),
        _silent(model),
        _overdue(model, platform.orchestration.timeout),
        *([_late(model, places)] if places else []),
    ]


def _retrain(model: str, cause: Literal["drift", "performance"]) -> AutomationSpec:
    """Return what retrains a model on an event.

    Each window's event runs the deployment once: waiting, budget and data checks are not the
    trigger's but the retraining controller's, which records its reasons.
    """
    return AutomationSpec(
        name=f"retrain/{model} on {cause}",
        model=model,
        description=f"{EVENTS[cause]} about {model} runs retrain/{model}, once a window.",
        expect=(EVENTS[cause],),
        within_seconds=_ONCE_SECONDS,
        for_each=(_RESOURCE, WINDOW_LABEL),
        resource=f"modelyard.model.{model}",
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
        expect=(f"{_RUN}Crashed",),
        resource=f"{_RUN}*",
        runs_of=tuple(f"{flow}/{model}" for flow in watched),
        deployment=f"reconcile/{model}",
    )


def _silent(model: str) -> AutomationSpec:
    """Return what finds a flow run whose process is gone, or hangs, with nobody left to say so."""
    seconds = _MISSED * HEARTBEAT_SECONDS
    return AutomationSpec(
        name=f"{model}: a flow run is silent",
        model=model,
        description=f"A flow run of {model} without a heartbeat for {seconds} s has crashed.",
        after=(_HEARTBEAT,),
        expect=(_HEARTBEAT, *_ENDS),
        missing=True,
        within_seconds=seconds,
        for_each=(_RESOURCE,),
        resource=f"{_RUN}*",
        runs_of=_runs_of(model),
        does="mark as crashed",
        message=f"No heartbeat came for {seconds} s: its process was killed or hangs.",
    )


def _overdue(model: str, timeout: timedelta) -> AutomationSpec:
    """Return what ends a flow run that is alive and does not come to an end."""
    return AutomationSpec(
        name=f"{model}: a flow run takes too long",
        model=model,
        description=f"A flow run of {model} that runs for {format_duration(timeout)} is cancelled.",
        after=(f"{_RUN}Running",),
        expect=_ENDS,
        missing=True,
        within_seconds=int(timeout.total_seconds()),
        for_each=(_RESOURCE,),
        resource=f"{_RUN}*",
        runs_of=_runs_of(model),
        does="cancel",
    )


def _late(model: str, places: tuple[str, ...]) -> AutomationSpec:
    """Return who is told of a scheduled flow run that nothing starts.

    Prefect's server tells them itself: where no worker lives, no flow could.
    """
    return AutomationSpec(
        name=f"{model}: a flow run is late",
        model=model,
        description=f"A scheduled flow run of {model} that did not start is told of.",
        expect=(f"{_RUN}Late",),
        within_seconds=_ONCE_SECONDS,
        for_each=(),
        resource=f"{_RUN}*",
        runs_of=_runs_of(model),
        does="notify",
        message=f"{model}: a scheduled flow run did not start. Does a worker run? `modelyard "
        "status` shows what does not answer, `modelyard up` starts what is missing.",
        places=places,
    )


def _runs_of(model: str) -> tuple[str, ...]:
    return tuple(f"{flow}/{model}" for flow in _WATCHED)


def as_automation(
    spec: AutomationSpec,
    *,
    enabled: bool,
    tags: list[str],
    deployment_id: Callable[[str], UUID],
    block_id: Callable[[str], UUID],
) -> AutomationCore:
    """Return a specification as Prefect takes it; the last two find what it names."""
    runs_of = [f"{_DEPLOYMENT}{deployment_id(name)}" for name in spec.runs_of]
    trigger = EventTrigger.model_validate(
        {
            "after": spec.after,
            "expect": spec.expect,
            "match": {_RESOURCE: spec.resource},
            "match_related": {_RESOURCE: runs_of} if runs_of else {},
            "for_each": spec.for_each,
            "posture": Posture.Proactive if spec.missing else Posture.Reactive,
            "threshold": 1,
            "within": timedelta(seconds=spec.within_seconds),
        }
    )
    return AutomationCore(
        name=spec.name,
        description=spec.description,
        enabled=enabled,
        tags=tags,
        trigger=trigger,
        actions=_actions(spec, deployment_id, block_id),
    )


def _actions(
    spec: AutomationSpec,
    deployment_id: Callable[[str], UUID],
    block_id: Callable[[str], UUID],
) -> list[Any]:
    match spec.does:
        case "run deployment":
            run = {"deployment_id": deployment_id(spec.deployment or "")}
            return [RunDeployment.model_validate({**run, "parameters": spec.parameters})]
        case "mark as crashed":
            crashed = {"state": "CRASHED", "message": spec.message}
            return [ChangeFlowRunState.model_validate(crashed)]
        case "cancel":
            return [CancelFlowRun()]
        case "notify":
            return [
                SendNotification(
                    block_document_id=block_id(place),
                    subject=spec.name,
                    body=spec.message or "",
                )
                for place in spec.places
            ]


def describe_automation(
    automation: Automation, deployments: Mapping[UUID, str], blocks: Callable[[UUID], str]
) -> dict[str, Any]:
    """Describe an automation of Prefect's in the words of `AutomationSpec.fields`."""
    fields: dict[str, Any] = {"description": automation.description}
    trigger = automation.trigger
    if isinstance(trigger, EventTrigger):
        shown = trigger.model_dump(mode="json")
        by_id = {f"{_DEPLOYMENT}{known}": name for known, name in deployments.items()}
        related: list[str] = shown["match_related"].get(_RESOURCE, [])
        fields |= {
            "after": sorted(shown["after"]),
            "expect": sorted(shown["expect"]),
            "missing": trigger.posture is Posture.Proactive,
            "within_seconds": int(trigger.within.total_seconds()),
            "for_each": sorted(shown["for_each"]),
            "resource": shown["match"].get(_RESOURCE),
            "runs_of": [by_id.get(known, known) for known in related],
        }
    return fields | _describe_actions(automation.actions, deployments, blocks)


def _describe_actions(
    actions: list[Any], deployments: Mapping[UUID, str], blocks: Callable[[UUID], str]
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "does": None,
        "deployment": None,
        "parameters": {},
        "message": None,
        "places": [],
    }
    for action in actions:
        match action:
            case RunDeployment():
                name = deployments.get(action.deployment_id) if action.deployment_id else None
                told |= {"does": "run deployment", "deployment": name}
                told["parameters"] = action.parameters or {}
            case ChangeFlowRunState():
                told |= {"does": "mark as crashed", "message": action.message}
            case CancelFlowRun():
                told |= {"does": "cancel"}
            case SendNotification():
                told |= {"does": "notify", "message": action.body}
                told["places"] = [*told["places"], blocks(action.block_document_id)]
            case _:
                told |= {"does": action.type}
    return told
