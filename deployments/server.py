"""How are a project's deployments read from a Prefect server, and changed there?

Only through Prefect's public client. What a person switched off in the UI (a schedule, an
automation, a deployment) stays off when it is updated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.automations import AutomationCore, EventTrigger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import Automation
from prefect.workers.process import ProcessWorker

from deployments.plan import Found, State
from deployments.specifications import TAG, AutomationSpec, DeploymentSpec
from modelyard.adapters.platform.deployments import Change

PROJECT_LABEL = "modelyard.project"
_PAGE = 200
_WORKING_DIRECTORY = "prefect.deployments.steps.set_working_directory"
_RESOURCE = "prefect.resource.id"
_DEPLOYMENT = "prefect.deployment."
"""What the id of a deployment begins with in an event."""
_RUN_BY_SCHEDULE = "by-config"
"""Slug of the schedule that configs/ ask for, beside any that a person added in the UI."""


class Server:
    """The deployments, automations and work pools of one project on one Prefect server."""

    def __init__(self, client: SyncPrefectClient, project: str) -> None:
        self._client = client
        self._project = project
        self._deployments = self._read_deployments()
        self._automations = self._read_automations()

    def state(self) -> State:
        """Return what the server had when this was made."""
        names = {deployment.id: name for name, deployment in self._deployments.items()}
        return State(
            work_pools=frozenset(pool.name for pool in self._client.read_work_pools()),
            deployments={n: _found_deployment(d) for n, d in self._deployments.items()},
            automations={n: _found_automation(a, names) for n, a in self._automations.items()},
        )

    def make(
        self,
        change: Change,
        deployments: Sequence[DeploymentSpec],
        automations: Sequence[AutomationSpec],
    ) -> None:
        """Make one planned change."""
        match change.kind, change.action:
            case "work pool", _:
                self._create_work_pool(change.name)
            case "deployment", "delete":
                self._client.delete_deployment(self._deployments[change.name].id)
            case "deployment", _:
                self._put_deployment(next(s for s in deployments if s.name == change.name))
            case "automation", "delete":
                self._client.delete_automation(self._automations[change.name].id)
            case "automation", _:
                self._put_automation(next(s for s in automations if s.name == change.name))

    def _read_deployments(self) -> dict[str, DeploymentResponse]:
        tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
        found: dict[str, DeploymentResponse] = {}
        while page := self._client.read_deployments(
            deployment_filter=tagged, limit=_PAGE, offset=len(found)
        ):
            for deployment in page:
                flow = self._client.read_flow(deployment.flow_id)
                found[f"{flow.name}/{deployment.name}"] = deployment
        return found

    def _read_automations(self) -> dict[str, Automation]:
        found: dict[str, Automation] = {}
        offset = 0
        while page := self._client.read_automations(limit=_PAGE, offset=offset):
            offset += len(page)
            found |= {a.name: a for a in page if TAG in a.tags}
        return found

    def _create_work_pool(self, name: str) -> None:
        template = ProcessWorker.get_default_base_job_template()
        self._client.create_work_pool(
            WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
        )

    def _put_deployment(self, spec: DeploymentSpec) -> None:
        """Create or replace a deployment: Prefect's POST does both, by flow and name."""
        existing = self._deployments.get(spec.name)
        body = {
            "name": spec.model,
            "flow_id": str(self._client.create_flow_from_name(spec.flow_name)),
            "entrypoint": spec.entrypoint,
            "description": spec.description,
            "parameters": spec.fields["parameters"],
            "parameter_openapi_schema": spec.parameter_schema,
            "enforce_parameter_schema": True,
            "tags": spec.fields["tags"],
            "labels": {PROJECT_LABEL: self._project},
            "work_pool_name": spec.work_pool,
            # Without a step Prefect runs a process worker's flow in an empty temporary folder.
            "pull_steps": [{_WORKING_DIRECTORY: {"directory": spec.working_directory}}],
            "concurrency_limit": 1,
            "concurrency_options": {"collision_strategy": "ENQUEUE"},
            "schedules": _schedules(spec, existing),
        }
        self._client.request("POST", "/deployments/", json=body)

    def _put_automation(self, spec: AutomationSpec) -> None:
        existing = self._automations.get(spec.name)
        deployment = self._client.read_deployment_by_name(spec.deployment)
        runs_of = [self._client.read_deployment_by_name(name).id for name in spec.runs_of]
        core = AutomationCore.model_validate(
            {
                "name": spec.name,
                "description": spec.description,
                "enabled": existing.enabled if existing else True,
                "tags": [TAG, spec.model, _project_tag(self._project)],
                "trigger": {
                    "type": "event",
                    "expect": [spec.event],
                    "match": {_RESOURCE: spec.resource},
                    "match_related": {_RESOURCE: [f"{_DEPLOYMENT}{known}" for known in runs_of]}
                    if runs_of
                    else {},
                },
                "actions": [
                    {
                        "type": "run-deployment",
                        "deployment_id": deployment.id,
                        "parameters": spec.parameters,
                    }
                ],
            }
        )
        if existing:
            self._client.update_automation(existing.id, core)
        else:
            self._client.create_automation(core)


def _found_deployment(deployment: DeploymentResponse) -> Found:
    """Describe a deployment in the words of `DeploymentSpec.fields`."""
    limit = deployment.global_concurrency_limit
    options = deployment.concurrency_options
    one_waits = limit and limit.limit == 1 and options and options.collision_strategy == "ENQUEUE"
    steps = deployment.pull_steps or [{}]
    scheduled = [s for s in deployment.schedules if s.slug == _RUN_BY_SCHEDULE]
    return Found(
        project=str(deployment.labels.get(PROJECT_LABEL)),
        fields={
            "entrypoint": deployment.entrypoint,
            "description": deployment.description,
            "parameters": deployment.parameters,
            "parameter_schema": deployment.parameter_openapi_schema,
            "schedule": _described(scheduled[0]) if scheduled else None,
            "work_pool": deployment.work_pool_name,
            "working_directory": steps[0].get(_WORKING_DIRECTORY, {}).get("directory"),
            "tags": sorted(deployment.tags),
            "concurrency": "1 at a time, the others wait" if one_waits else str(limit),
        },
    )


def _described(schedule: Any) -> dict[str, Any]:
    return {
        "cron": getattr(schedule.schedule, "cron", None),
        "timezone": schedule.schedule.timezone,
        "parameters": schedule.parameters,
    }


def _found_automation(automation: Automation, names: dict[Any, str]) -> Found:
    """Describe an automation in the words of `AutomationSpec.fields`."""
    trigger, action = automation.trigger, automation.actions[0]
    event = resource = deployment = parameters = None
    runs_of: list[str] = []
    if isinstance(trigger, EventTrigger):
        shown = trigger.model_dump(mode="json")
        event = ", ".join(sorted(shown["expect"]))
        resource = shown["match"].get(_RESOURCE)
        by_id = {f"{_DEPLOYMENT}{known}": name for known, name in names.items()}
        related: dict[str, list[str]] = shown["match_related"]
        runs_of = [by_id.get(known, known) for known in related.get(_RESOURCE, ())]
    if isinstance(action, RunDeployment):
        deployment = names.get(action.deployment_id)
        parameters = action.parameters
    prefix = _project_tag("")
    projects = [t.removeprefix(prefix) for t in automation.tags if t.startswith(prefix)]
    return Found(
        project=next(iter(projects), None),
        fields={
            "description": automation.description,
            "event": event,
            "resource": resource,
            "runs_of": runs_of,
            "deployment": deployment,
            "parameters": parameters,
        },
    )


def _project_tag(project: str) -> str:
    """Tag of an automation, which has no labels."""
    return f"{PROJECT_LABEL}:{project}"


def _schedules(spec: DeploymentSpec, existing: DeploymentResponse | None) -> list[dict[str, Any]]:
    """Return the schedules to store: the config's, and those that a person added."""
    stored = existing.schedules if existing else []
    schedules = [
        s.model_dump(mode="json", include={"schedule", "active", "parameters", "slug"})
        for s in stored
        if s.slug != _RUN_BY_SCHEDULE
    ]
    if spec.schedule:
        was_active = [s.active for s in stored if s.slug == _RUN_BY_SCHEDULE]
        schedules.append(
            {
                "schedule": {"cron": spec.schedule.cron, "timezone": spec.schedule.timezone},
                "active": was_active[0] if was_active else True,
                "parameters": spec.schedule.parameters,
                "slug": _RUN_BY_SCHEDULE,
            }
        )
    return schedules
