"""How are the project's Prefect deployments made what configs/ say?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from modelyard import errors
from modelyard.domain.values import Value
from modelyard.errors import ModelYardError
from modelyard.project import Project


class Change(Value):
    """One difference between what configs/ say and what Prefect has."""

    action: Literal["create", "update", "delete"]
    kind: Literal["work pool", "deployment", "automation"]
    name: str
    fields: dict[str, tuple[Any, Any]] = Field(default_factory=dict)
    """What becomes different: from what to what, by field name; from nothing where it is new."""


def apply_deployments(
    project: Project, environment: Mapping[str, str], *, dry_run: bool = False
) -> list[Change]:
    """Make Prefect's deployments and automations what configs/ say; return the changes.

    Runs the project's own `deployments` package in a process of its own, since that imports the
    flows; `environment` tells it where Prefect is. With `dry_run` nothing is changed. Raises what
    it reports: ConflictError, ConfigError, ServiceUnavailableError.
    """
    done = subprocess.run(
        [sys.executable, "-m", "deployments", *(["--dry-run"] if dry_run else [])],
        cwd=project.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    try:
        report = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise ModelYardError(
            f"The deployments of {project.root} could not be applied: `python -m deployments` "
            f"ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}"
        ) from None
    if "error" in report:
        raise getattr(errors, report["error"])(report["message"])
    return [Change.model_validate(change) for change in report["changes"]]
