"""How are a project's deployments read from a Prefect server, and changed there?

Only through Prefect's public client. What a person switched off in the UI (a schedule, an
automation, a deployment) stays off when it is updated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from deployments.automations import AutomationSpec, as_automation, describe_automation
from deployments.plan import Found, State
from deployments.specifications import TAG, DeploymentSpec
from deployments.work_pools import MARK, PACKAGES, WorkPoolSpec
from modelyard.adapters.platform.deployments import Change
from modelyard.errors import ConfigError

PROJECT_LABEL = "modelyard.project"
_PAGE = 200
_WORKING_DIRECTORY = "prefect.deployments.steps.set_working_directory"
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
            work_pools={p.name: _found_work_pool(p) for p in self._client.read_work_pools()},
            deployments={n: _found_deployment(d) for n, d in self._deployments.items()},
            automations={
                name: Found(
                    project=_project_of(automation),
                    fields=describe_automation(automation, names, self._block_name),
                )
                for name, automation in self._automations.items()
            },
        )

    def base_job_template(self, kind: str) -> dict[str, Any]:
        """Return Prefect's own job template of a type of work pool."""
        if kind == "process":
            return ProcessWorker.get_default_base_job_template()
        known = self._client.read_worker_metadata()
        return known[PACKAGES[kind]][kind]["default_base_job_configuration"]

    def make(
        self,
        change: Change,
        work_pool: WorkPoolSpec,
        deployments: Sequence[DeploymentSpec],
        automations: Sequence[AutomationSpec],
    ) -> None:
        """Make one planned change."""
        match change.kind, change.action:
            case "work pool", _:
                self._put_work_pool(work_pool, exists=change.action == "update")
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

    def _put_work_pool(self, spec: WorkPoolSpec, *, exists: bool) -> None:
        if exists:
            limit, template = spec.at_once, spec.template
            update = WorkPoolUpdate(concurrency_limit=limit, base_job_template=template)
            self._client.update_work_pool(spec.name, update)
            return
        self._client.create_work_pool(
            WorkPoolCreate(
                name=spec.name,
                description=MARK,
                type=spec.type,
                base_job_template=spec.template,
                concurrency_limit=spec.at_once,
            )
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
        core = as_automation(
            spec,
            enabled=existing.enabled if existing else True,
            tags=[TAG, spec.model, _project_tag(self._project)],
            deployment_id=lambda name: self._client.read_deployment_by_name(name).id,
            block_id=self._block_id,
        )
        if existing:
            self._client.update_automation(existing.id, core)
        else:
            self._client.create_automation(core)

    def _block_id(self, place: str) -> UUID:
        kind, _, name = place.partition("/")
        try:
            return self._client.read_block_document_by_name(name, kind).id
        except ObjectNotFound as err:
            raise ConfigError(
                f"alerts: Prefect has no notification block {place}. Make one on the Blocks page "
                "of its UI, or mend its name in configs/."
            ) from err

    def _block_name(self, block_id: UUID) -> str:
        try:
            block = self._client.read_block_document(block_id)
        except ObjectNotFound:
            return "a block that is gone"
        return f"{block.block_type.slug if block.block_type else '?'}/{block.name}"


def _found_work_pool(pool: WorkPool) -> dict[str, Any]:
    """Describe a work pool in the words of `WorkPoolSpec.fields`; of others' only its type."""
    if pool.description != MARK:
        return {"type": pool.type}
    template = pool.base_job_template
    return {"type": pool.type, "at_once": pool.concurrency_limit, "template": template}


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


def _described(stored: Any) -> dict[str, Any]:
    """Describe a schedule in the words of `ScheduleSpec`."""
    shown = stored.schedule.model_dump(mode="json")
    rule = {key: shown[key] for key in ("cron", "interval", "rrule") if shown.get(key) is not None}
    if "interval" in rule:
        anchor = stored.schedule.anchor_date.astimezone(UTC).isoformat()
        rule = {"interval": stored.schedule.interval.total_seconds(), "anchor_date": anchor}
    return {"rule": rule, "timezone": shown["timezone"], "parameters": stored.parameters}


def _project_of(automation: Automation) -> str | None:
    prefix = _project_tag("")
    projects = [t.removeprefix(prefix) for t in automation.tags if t.startswith(prefix)]
    return next(iter(projects), None)


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
                "schedule": {**spec.schedule.rule, "timezone": spec.schedule.timezone},
                "active": was_active[0] if was_active else True,
                "parameters": spec.schedule.parameters,
                "slug": _RUN_BY_SCHEDULE,
            }
        )
    return schedules
