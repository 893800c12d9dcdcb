"""What may a user write into configs/platform.yaml?"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelyard.config.file import load_file
from modelyard.config.section import Section
from modelyard.config.values import AlertPlaces, Cron, EnvStr, PositiveDuration, RegistryName, Size

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
    """Work pool that the deployments run in."""


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

    schedule: Cron | None = "17 * * * *"
    """Cron, UTC; null: only when a delivery or a person asks for it."""


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


def load_platform_config(path: Path) -> PlatformConfig:
    """Read the platform's config. Raises ConfigError naming every problem with its line."""
    return load_file(path, PlatformConfig)
