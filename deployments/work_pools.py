"""Where do flow runs run, and what is each of them given?"""

from __future__ import annotations

import copy
from typing import Any, Literal

from jsonschema import Draft202012Validator

from modelyard.config.file import closest
from modelyard.config.platform import PlatformConfig
from modelyard.domain.values import Value
from modelyard.errors import ConfigError

MARK = "Made by ModelYard from configs/platform.yaml."
"""Description of a work pool whose job template is ModelYard's; others' are left as they are."""

PACKAGES = {"process": "prefect", "docker": "prefect-docker", "kubernetes": "prefect-kubernetes"}
"""Under what Prefect's collections keep the worker of each type."""

_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
}


class WorkPoolSpec(Value):
    """The work pool as configs/platform.yaml says that it should be."""

    name: str
    type: Literal["process", "docker", "kubernetes"]
    at_once: int | None
    """Most flow runs at a time."""
    template: dict[str, Any]
    """Base job template: what a worker makes of a flow run."""

    @property
    def fields(self) -> dict[str, Any]:
        """What is compared with Prefect's work pool of this name."""
        return self.model_dump(mode="json", exclude={"name"})


def work_pool_of(
    platform: PlatformConfig, base: dict[str, Any], root_variable: str
) -> WorkPoolSpec:
    """Return the work pool; `base` is Prefect's own base job template of its type.

    Raises ConfigError for a variable that the template does not know, or whose value it refuses.
    """
    work = platform.orchestration
    given: dict[str, Any] = {}
    if work.type != "process":
        environment = _ENVIRONMENT | {root_variable: work.folder, "PREFECT_API_URL": work.api_url}
        env = {name: str(value) for name, value in {**environment, **work.env}.items()}
        given = {**work.job, "image": str(work.image), "env": env}
    return WorkPoolSpec(
        name=work.work_pool,
        type=work.type,
        at_once=work.at_once,
        template=job_template(base, given, work.type),
    )


def job_template(base: dict[str, Any], given: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return Prefect's base job template with values given to its variables as their defaults."""
    template = copy.deepcopy(base)
    variables = template["variables"]
    known: dict[str, Any] = variables["properties"]
    for name, value in given.items():
        key = f"orchestration.{name if name in ('image', 'env') else f'job.{name}'}"
        if name not in known:
            raise ConfigError(
                f"configs/platform.yaml: {key}: Prefect's {kind} jobs have no such variable."
                f"{closest(name, known)}"
            )
        schema = {**known[name], "definitions": variables.get("definitions", {})}
        for problem in Draft202012Validator(schema).iter_errors(value):
            raise ConfigError(f"configs/platform.yaml: {key} = {value!r}: {problem.message}.")
        known[name]["default"] = value
    return template


def told_template(template: dict[str, Any]) -> dict[str, Any]:
    """Return what people are shown of a template: the values of its variables, and of environment
    variables the names alone, since they may be secrets."""
    properties = template.get("variables", {}).get("properties", {})
    values = {name: known["default"] for name, known in properties.items() if "default" in known}
    return values | ({"env": sorted(values["env"] or ())} if "env" in values else {})
