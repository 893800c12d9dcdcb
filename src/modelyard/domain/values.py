"""What are the things that steps, rules and adapters hand to each other?

All are frozen and JSON-shaped: they cross Prefect task boundaries and are stored in the ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints


def as_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; one without a zone is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(as_utc)]
"""A time in UTC, however it was typed into a form."""

HeaderName = Annotated[
    str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_-]*\z", max_length=64)
]
"""An HTTP token of letters, digits, `-` and `_`: what else a token may hold (RFC 9110, 5.6.2), a
gateway's config may read as something of its own."""


class Value(BaseModel):
    """A frozen, JSON-shaped value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MLTask(StrEnum):
    """What kind of outcome the model predicts."""

    REGRESSION = "regression"
    BINARY = "binary_classification"
    MULTICLASS = "multiclass_classification"

    @property
    def is_classification(self) -> bool:
        return self is not MLTask.REGRESSION


class ColumnKind(StrEnum):
    """How a feature column is read: numbers as float64, categories as str."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


class Runtime(StrEnum):
    """What predicts inside a replica."""

    COMPILED = "compiled"
    """The whole pipeline as one ONNX graph: no scikit-learn, no pandas."""
    SKLEARN = "sklearn"
    """The pipeline as it was fitted."""


class Column(Value):
    """One feature column of a contract."""

    name: str
    kind: ColumnKind
    required: bool = True


class Contract(Value):
    """What a service takes and gives: it must hold within one MAJOR version."""

    task: MLTask
    columns: tuple[Column, ...]
    target: str
    classes: tuple[str, ...] = ()
    """Class labels in the order of the probability columns; empty for regression."""
    positive: str | None = None
    """The class that a binary score is about."""
    id: str | None = None
    time: str | None = None

    def names(self, kind: ColumnKind | None = None) -> tuple[str, ...]:
        """Return the feature names in order, of one kind or of both."""
        return tuple(c.name for c in self.columns if kind is None or c.kind is kind)


class Span(Value):
    """A stretch of event time (or of row order, where a model has no time column)."""

    start: datetime | None = None
    end: datetime | None = None


class ReplicaLimits(Value):
    """What one replica takes on before it refuses."""

    body_bytes: int = 16 * 2**20
    """Of one request; a larger one is told so (413)."""
    rows: int = 50_000
    """Of one request; one with more is told so (413)."""
    seconds: float = 30.0
    """From a whole request to its answer, and for the reading of one; then 504."""
    waiting: int = 1024
    """Requests that were read and not predicted; one more is sent away for a second (429)."""


class Fleet(Value):
    """All serving processes of one release."""

    version: str
    bundle: str
    """Folder that holds the release's files."""
    digest: str
    """Digest of the bundle; a replica refuses a bundle whose files do not hash to it."""
    image: str | None = None
    """Image, where the target runs containers: NAME@sha256:..., or an id of the engine."""
    replicas: int
    limits: ReplicaLimits = ReplicaLimits()
    weight: int = 100
    """Share of the traffic in percent."""


class Service(Value):
    """What a target is asked to make true for one model."""

    model: str
    port: int | None = None
    """Port on the gateway's address; None keeps the one in use, or takes a free one."""
    fleets: tuple[Fleet, ...]
    """The oldest first: when a fleet's share grows, the requests come from those before it."""
    sticky: HeaderName | None = None
    """Request header that names a user, who then stays with one release; None splits at random."""


class ReplicaState(StrEnum):
    """What is true of a replica."""

    STARTING = "starting"
    """The process or container exists; it takes no traffic yet."""
    READY = "ready"
    DRAINING = "draining"
    """It finishes what it took and takes nothing new."""
    DEAD = "dead"


class ReplicaStatus(Value):
    """One replica as its target sees it."""

    id: str
    """Process id, or container id."""
    version: str
    state: ReplicaState
    restarts: int = 0
    """How often this place was filled again after its replica died."""


class ServiceStatus(Value):
    """What is true of one model's service now."""

    model: str
    target: str
    url: str
    replicas: tuple[ReplicaStatus, ...]
    weights: dict[str, int]
    """Share of the traffic in percent, by version."""
    fleet_urls: dict[str, str] = {}
    """Address of each fleet, by version, whatever its share; reachable from this machine only."""
    orphans: tuple[str, ...] = ()
    """Versions of replicas that the sync removed though no fleet, of the last service or of this
    one, asked for them: what a sync that was killed had left."""


class ImageRef(Value):
    """A container image that holds one release."""

    id: str
    """Content id, `sha256:...`: what a fleet runs, whatever its tags come to point at."""
    name: str | None
    """`REGISTRY/NAME@sha256:...`, where it was pushed: what a fleet runs on any engine."""
    tags: tuple[str, ...]
    layers: tuple[str, ...]
    """Digest of each layer's content, the lowest first: the same for every build of a release."""
    size_bytes: int
    labels: dict[str, str]
    sbom: Path
    """Bill of materials, CycloneDX JSON; also in the image."""
