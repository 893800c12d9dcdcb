"""Is a generated job template what Prefect's own workers take?"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client

from deployments.automations import automations_of
from deployments.plan import plan
from deployments.server import Server
from deployments.specifications import deployments_of
from deployments.work_pools import PACKAGES, WorkPoolSpec, work_pool_of
from modelyard.adapters.platform.deployments import Change
from modelyard.config import ModelConfig, PlatformConfig
from modelyard.errors import ConfigError

_METADATA = "server/api/collections_data/views/aggregate-worker-metadata.json"
PREFECT = json.loads((resources.files("prefect") / _METADATA).read_text())


def base(kind: str) -> dict[str, Any]:
    return PREFECT[PACKAGES[kind]][kind]["default_base_job_configuration"]


def platform(kind: str, **orchestration: Any) -> PlatformConfig:
    return PlatformConfig.model_validate(
        {
            "ledger": {"url": "postgresql+psycopg://ledger.example.org/modelyard"},
            "tracking": {"uri": "https://mlflow.example.org"},
            "orchestration": {
                "api_url": "https://prefect.example.org/api",
                "type": kind,
                "image": "registry.example.org/team/flows:7",
                **orchestration,
            },
        }
    )


def pool(kind: str, **orchestration: Any) -> WorkPoolSpec:
    return work_pool_of(platform(kind, **orchestration), base(kind), "MODELYARD_ROOT")


JOBS = {
    "kubernetes": {"namespace": "ml", "cpu_request": "500m", "service_account_name": "flows"},
    "docker": {"network_mode": "host", "mem_limit": "2g", "auto_remove": True},
}


@pytest.mark.parametrize("kind", list(JOBS))
def test_a_job_gets_the_image_the_project_and_what_the_config_says(kind: str) -> None:
    made = pool(kind, job=JOBS[kind], env={"REGION": "eu"}, folder="/srv/yard")
    known = made.template["variables"]["properties"]
    values = {name: known[name].get("default") for name in known}
    assert values["image"] == "registry.example.org/team/flows:7"
    assert values["env"]["MODELYARD_ROOT"] == "/srv/yard"
    assert values["env"]["PREFECT_API_URL"] == "https://prefect.example.org/api"
    assert values["env"]["REGION"] == "eu"
    assert {name: values[name] for name in JOBS[kind]} == JOBS[kind]
    assert made.template["job_configuration"] == base(kind)["job_configuration"]


@pytest.mark.parametrize(
    ("kind", "job", "says"),
    [
        ("kubernetes", {"namespce": "ml"}, r"job\.namespce.*namespace"),
        ("kubernetes", {"cpu_limit": 2}, r"job\.cpu_limit = 2"),
        ("docker", {"auto_remove": "perhaps"}, r"job\.auto_remove = 'perhaps'"),
        ("kubernetes", {"image_pull_policy": "Sometimes"}, "Sometimes"),
    ],
)
def test_what_a_job_template_does_not_know_is_refused(kind: str, job: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        pool(kind, job=job)


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_prefects_server_takes_the_work_pool_and_gives_it_back_as_it_was(
    kind: str, prefect_server: str
) -> None:
    with get_client(sync_client=True) as client:
        server = Server(client, "project")
        template = server.base_job_template(kind)
        config = (
            platform(kind, work_pool=f"pool-{kind}", at_once=3, job=JOBS[kind])
            if (kind != "process")
            else PlatformConfig.model_validate(
                {"orchestration": {"work_pool": "pool-process", "at_once": 3}}
            )
        )
        spec = work_pool_of(config, template, "MODELYARD_ROOT")
        server.make(Change(action="create", kind="work pool", name=spec.name), spec, (), ())
        assert server.state().work_pools[spec.name] == spec.fields
        more = spec.model_copy(update={"at_once": 5})
        server.make(Change(action="update", kind="work pool", name=spec.name), more, (), ())
        assert server.state().work_pools[spec.name] == more.fields
        client.delete_work_pool(spec.name)


def test_prefects_server_takes_every_automation_and_gives_it_back_as_it_was(
    prefect_server: str,
) -> None:
    """The one about late runs names a notification block, which a person made there."""
    config = ModelConfig.model_validate(
        {
            "name": "alpha",
            "task": "regression",
            "data": {"source": "rows.csv", "target": "y"},
            "training": {"estimator": "sklearn.linear_model.LinearRegression"},
            "evaluation": {"primary_metric": "mae"},
            "retraining": {"schedule": {"every": "6h", "timezone": "Europe/Berlin"}},
        }
    )
    CustomWebhookNotificationBlock(
        name="team", url="https://hooks.example.org/team", json_data={"text": "{{body}}"}
    ).save("late-runs", overwrite=True)
    settings = PlatformConfig.model_validate(
        {"alerts": ["custom-webhook/late-runs"], "orchestration": {"work_pool": "pool-alpha"}}
    )
    deployments = deployments_of(config, settings, root=Path("/project"))
    automations = automations_of(config, settings)
    assert {spec.does for spec in automations} == {
        "run deployment",
        "mark as crashed",
        "cancel",
        "notify",
    }
    with get_client(sync_client=True) as client:
        server = Server(client, "project")
        base_template = server.base_job_template("process")
        wanted = work_pool_of(settings, base_template, "MODELYARD_ROOT")
        for change in plan(server.state(), "project", wanted, deployments, automations):
            server.make(change, wanted, deployments, automations)
        again = Server(client, "project")
        assert plan(again.state(), "project", wanted, deployments, automations) == []
        gone = plan(again.state(), "project", wanted, [], [])
        for change in gone:
            again.make(change, wanted, [], [])
        assert len(gone) == len(deployments) + len(automations)
        client.delete_work_pool("pool-alpha")


def test_a_notification_block_that_nobody_made_is_named(prefect_server: str) -> None:
    with get_client(sync_client=True) as client, pytest.raises(ConfigError, match="Blocks page"):
        Server(client, "project")._block_id("slack-webhook/nobody")
