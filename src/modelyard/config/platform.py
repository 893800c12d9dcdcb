"""What may a user write into configs/platform.yaml?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from modelyard.config.file import ContradictionError, Problem, load_file
from modelyard.config.scheduling import Schedule
from modelyard.config.section import Section
from modelyard.config.values import AlertPlaces, EnvStr, PositiveDuration, RegistryName, Size

METRICS_PORT = 9464
"""Where Prometheus looks for an exporter of OpenTelemetry's; free on most machines."""


class TrackingConfig(Section):
    """MLflow."""

    uri: EnvStr | None = None
    """URL of an MLflow server; null: SQLite in home."""


class LedgerConfig(Section):
    """The state database."""

    url: EnvStr | None = None
    """SQLAlchemy URL; null: SQLite in home."""


class OrchestrationConfig(Section):
    """Prefect."""

    api_url: EnvStr | None = None
    """API URL of a Prefect server; null: the one that `modelyard up` starts."""
    work_pool: str = "modelyard"
    """Work pool that the deployments run in; `modelyard apply` makes it where there is none."""
    type: Literal["process", "docker", "kubernetes"] = "process"
    """Where its workers run flows: in processes beside them, in containers, or in Kubernetes jobs.
    `modelyard up` starts a worker of processes; the others run where their engine or cluster is."""
    at_once: Annotated[int, Field(ge=1)] | None = None
    """Most flow runs of the pool at a time; null: as many as its workers take, and the one that
    `modelyard up` starts takes two for each core. Flow runs of one model and kind always wait for
    each other."""
    image: EnvStr | None = None
    """Image that docker and kubernetes run flows in, with Python, ModelYard and the project."""
    folder: str = "/app"
    """The project's folder in that image."""
    env: dict[str, EnvStr] = Field(default_factory=dict)
    """Environment variables of flow runs in containers and jobs, beside ModelYard's own."""
    job: dict[str, Any] = Field(default_factory=dict)
    """Other variables of Prefect's base job template for the type, like namespace, cpu_request or
    network_mode."""
    timeout: PositiveDuration = timedelta(hours=6)
    """A flow run that runs for longer is cancelled."""


class PortsConfig(Section):
    """Where the local servers listen; the next free port is taken when one is in use."""

    prefect: Annotated[int, Field(ge=1024, le=65535)] = 4200
    mlflow: Annotated[int, Field(ge=1024, le=65535)] = 5000
    metrics: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """Of the Prometheus metrics of monitoring; null: `modelyard up` starts no exporter."""


class GatewayConfig(Section):
    """Where services listen."""

    host: str = "127.0.0.1"
    api_keys: str | None = None
    """File of the keys that callers have to show, one a line, relative to the project. Keys are
    changed by changing the file. Containers see its folder: give it one of its own."""
    open: bool = False
    """Whether an address that others reach may be listened on without api_keys."""


class ReconciliationConfig(Section):
    """How often what the ledger says is made true where it is not."""

    schedule: Schedule | None = Schedule(cron="17 * * * *")
    """Cron in UTC, or cron, every or rrule with a timezone; null: only when a delivery or a person
    asks for it."""


class DockerConfig(Section):
    """Images of the Docker target: what they are made from and where they go."""

    base_image: str = "python:3.11-slim"
    """Gives the Python that replicas run on."""
    whole_base: bool = False
    """Keep all of the base image in a release's, and not only its Python and what that is linked
    to: for models that need other programs or libraries of it."""
    gateway_image: str = "haproxy:lts"
    registry: RegistryName | None = None
    """Where images are pushed to, like registry.example.org/team; null: they stay on the engine.
    Who may push is told to Docker, by `docker login`."""


class SnapshotsConfig(Section):
    """Copies of the rows that releases were trained and judged on."""

    max_size: Size = 2 * 1024**3
    """Rows whose Parquet file would be larger are not copied: a release then refers to them."""


class InferenceLogConfig(Section):
    """What is kept of the predictions that were made, and where."""

    archive: EnvStr | None = None
    """Folder or fsspec URL (s3://bucket/log) of closed segments; null: beside the open ones."""
    keep: PositiveDuration | None = timedelta(days=365)
    """Older predictions are removed; null: never."""
    max_size: Size = 20 * 1024**3
    """Of a model's closed segments: the oldest are removed when they take more."""


class PlatformConfig(Section):
    """Where the parts of the platform are."""

    home: str = ".modelyard"
    """Folder of everything that ModelYard writes, relative to the project."""
    tracking: TrackingConfig = TrackingConfig()
    ledger: LedgerConfig = LedgerConfig()
    orchestration: OrchestrationConfig = OrchestrationConfig()
    ports: PortsConfig = PortsConfig()
    gateway: GatewayConfig = GatewayConfig()
    docker: DockerConfig = DockerConfig()
    reconciliation: ReconciliationConfig = ReconciliationConfig()
    snapshots: SnapshotsConfig = SnapshotsConfig()
    inference_log: InferenceLogConfig = InferenceLogConfig()
    alerts: AlertPlaces = ()
    """Who hears of every model's incidents: Apprise URLs, or notification blocks of Prefect's as
    type/name. A model's own are added to them."""

    @model_validator(mode="after")
    def _reachable_from_jobs(self) -> Self:
        if problems := tuple(_beyond_this_machine(self)):
            raise ContradictionError(problems)
        return self


def _beyond_this_machine(config: PlatformConfig) -> Iterator[Problem]:
    """Yield what a flow run in a container or a job could not reach, or does not need."""
    work = config.orchestration
    if work.type == "process":
        for key in ("image", "env", "job"):
            if key in work.model_fields_set:
                yield Problem(
                    ("orchestration", key),
                    "means nothing for type: process, whose flow runs are processes of the worker; "
                    "remove it, or write type: docker or kubernetes.",
                )
        return
    needs = f"is needed for type: {work.type}, whose flow runs are not on this machine; write"
    if work.image is None:
        yield Problem(("orchestration", "image"), f"{needs} the image that they run in.")
    if work.api_url is None:
        yield Problem(("orchestration", "api_url"), f"{needs} the URL of a Prefect server.")
    if config.ledger.url is None or config.ledger.url.startswith("sqlite"):
        yield Problem(("ledger", "url"), f"{needs} the URL of a PostgreSQL database.")
    if config.tracking.uri is None or not config.tracking.uri.startswith(("http://", "https://")):
        yield Problem(("tracking", "uri"), f"{needs} the URL of an MLflow server.")


def load_platform_config(path: Path) -> PlatformConfig:
    """Read the platform's config. Raises ConfigError naming every problem with its line."""
    return load_file(path, PlatformConfig)
