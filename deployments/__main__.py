"""`python -m deployments [--dry-run]`: make Prefect have what configs/ say.

The last line of output is JSON: `{"changes": [...]}`, or `{"error": ..., "message": ...}` where it
could not be done. `modelyard apply` sets the environment, runs this and shows it to people.
"""

from __future__ import annotations

import json
import sys

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from deployments.automations import automations_of
from deployments.plan import plan
from deployments.server import Server
from deployments.specifications import deployments_of
from deployments.work_pools import work_pool_of
from modelyard.adapters.platform.deployments import Change
from modelyard.adapters.platform.parts import platform_id
from modelyard.errors import ModelYardError, ServiceUnavailableError
from modelyard.project import ROOT_VARIABLE, Project


def apply(project: Project, *, dry_run: bool = False) -> list[Change]:
    """Make the differences between configs/ and Prefect; with `dry_run` only return them."""
    platform = project.platform
    configs = [project.model(name) for name in project.model_names()]
    deployments = [
        spec for config in configs for spec in deployments_of(config, platform, root=project.root)
    ]
    automations = [spec for config in configs for spec in automations_of(config, platform)]
    with get_client(sync_client=True) as client:
        server = Server(client, platform_id(project))
        base = server.base_job_template(platform.orchestration.type)
        work_pool = work_pool_of(platform, base, ROOT_VARIABLE)
        changes = plan(server.state(), platform_id(project), work_pool, deployments, automations)
        for change in () if dry_run else changes:
            server.make(change, work_pool, deployments, automations)
    return changes


def main() -> int:
    try:
        changes = apply(Project.find(), dry_run="--dry-run" in sys.argv[1:])
    except ModelYardError as err:
        return _tell(err)
    except (httpx.HTTPError, PrefectHTTPStatusError) as err:
        server = get_current_settings().api.url
        return _tell(ServiceUnavailableError(f"Prefect's server at {server} failed: {err}"))
    print(json.dumps({"changes": [change.model_dump(mode="json") for change in changes]}))
    return 0


def _tell(err: ModelYardError) -> int:
    print(json.dumps({"error": type(err).__name__, "message": str(err)}))
    return err.exit_code


if __name__ == "__main__":
    sys.exit(main())
