"""What is a release, and which states may follow which?"""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from modelyard.domain.records import Record
from modelyard.domain.values import Contract, Runtime, Span, Value


class ReleaseState(StrEnum):
    """Where a release is; each comment says what is true in the world from then on."""

    OPENED = "opened"
    """Its rows are stored as a snapshot; nothing else exists."""
    CHECKED = "checked"
    """Its rows were looked at before training; what was found is recorded."""
    TRAINED = "trained"
    """The fitted candidate and its MLflow run exist."""
    GATED = "gated"
    """The gate said promote."""
    REFITTED = "refitted"
    """Its recipe was fitted once more, with the holdout's rows; this fit is what is released."""
    REGISTERED = "registered"
    """It has a semantic version and an MLflow model version with the alias `challenger`."""
    BUILT = "built"
    """Its bundle, and its image where the target needs one, exist and predict as trained."""
    ROLLING_OUT = "rolling_out"
    """The target was asked to put it in traffic; it may serve already."""
    CHAMPION = "champion"
    """It serves all of the traffic and carries the alias `champion`."""
    RETIRED = "retired"
    """Another release took its place; its bundle is kept."""
    KEPT_CHAMPION = "kept_champion"
    """The gate did not say promote: it never got a version, what served before still serves."""
    ABORTED = "aborted"
    """It was given up before it became champion."""
    ROLLED_BACK = "rolled_back"
    """It was champion, and a former release was put back in its place."""


_NEXT: dict[ReleaseState, frozenset[ReleaseState]] = {
    ReleaseState.OPENED: frozenset(
        {ReleaseState.CHECKED, ReleaseState.TRAINED, ReleaseState.ABORTED}
    ),
    ReleaseState.CHECKED: frozenset({ReleaseState.TRAINED, ReleaseState.ABORTED}),
    ReleaseState.TRAINED: frozenset(
        {ReleaseState.GATED, ReleaseState.KEPT_CHAMPION, ReleaseState.ABORTED}
    ),
    ReleaseState.GATED: frozenset(
        {ReleaseState.REFITTED, ReleaseState.REGISTERED, ReleaseState.ABORTED}
    ),
    ReleaseState.REFITTED: frozenset({ReleaseState.REGISTERED, ReleaseState.ABORTED}),
    ReleaseState.REGISTERED: frozenset({ReleaseState.BUILT, ReleaseState.ABORTED}),
    ReleaseState.BUILT: frozenset({ReleaseState.ROLLING_OUT, ReleaseState.ABORTED}),
    ReleaseState.ROLLING_OUT: frozenset({ReleaseState.CHAMPION, ReleaseState.ABORTED}),
    ReleaseState.CHAMPION: frozenset({ReleaseState.RETIRED, ReleaseState.ROLLED_BACK}),
    ReleaseState.RETIRED: frozenset({ReleaseState.CHAMPION}),
    ReleaseState.ROLLED_BACK: frozenset({ReleaseState.CHAMPION}),
    ReleaseState.KEPT_CHAMPION: frozenset(),
    ReleaseState.ABORTED: frozenset(),
}

UNFINISHED = frozenset(
    {
        ReleaseState.OPENED,
        ReleaseState.CHECKED,
        ReleaseState.TRAINED,
        ReleaseState.GATED,
        ReleaseState.REFITTED,
        ReleaseState.REGISTERED,
        ReleaseState.BUILT,
        ReleaseState.ROLLING_OUT,
    }
)
"""States from which an interrupted delivery goes on."""


def may_follow(state: ReleaseState | None, following: ReleaseState) -> bool:
    """Return whether a release in `state` may enter `following`; None is before its first."""
    if state is None:
        return following is ReleaseState.OPENED
    return following in _NEXT[state]


class SourceFile(Value):
    """A file of a data source, as its storage describes it."""

    name: str
    size_bytes: int | None
    etag: str | None
    """What the storage says changes with the content: an etag, a checksum or a time."""


class Reference(Value):
    """Rows that were too large to copy: where they are and how they were chosen."""

    part: Literal["training", "holdout"]
    config: dict[str, Any]
    """The config by which they were read and split, as written."""
    as_of: datetime | None
    newest: datetime | None
    """Event time of the newest row that there was: later ones are not looked at."""
    since: datetime | None = None
    """Rows with an earlier event time were not looked at; None: all were."""
    files: tuple[SourceFile, ...]
    """Empty for a source that is no file."""
    sample: str
    """sha256 over up to a thousand rows, spread evenly."""


class Change(Value):
    """One thing about recorded rows that is not as it was."""

    name: str
    recorded: str
    found: str


class Snapshot(Value):
    """The rows that a release was trained or judged on: a copy, or a reference to their source."""

    fingerprint: str
    """sha256 over column names, types and cell values in order."""
    path: str | None
    """Parquet file that is named by the fingerprint, relative to the snapshot folder."""
    rows: int
    span: Span
    columns: dict[str, str] = Field(default_factory=dict)
    """Digest of each column's type and values, so that it can be said which one was changed."""
    reference: Reference | None = None
    """Where the rows are, if they were not copied."""


class Delivery(Value):
    """One try to bring a release of a model into traffic: what it was started with."""

    id: str
    model: str
    reason: str
    as_of: datetime | None
    """Only rows and labels known by then were used; None is all."""
    config_digest: str
    contract: Contract
    left_out: dict[str, str]
    """Columns that are no feature, with the reason."""
    training: Snapshot
    holdout: Snapshot
    bump: str | None = None
    """MAJOR, MINOR or PATCH where a person asked for at least that."""
    since: datetime | None = None
    """Only rows from this moment on were taken: the change that a retraining answers; None is all
    that the config says."""
    infinite: dict[str, int] = Field(default_factory=dict)
    """Infinite cells of the source by column, which were read as missing."""
    early: int = 0
    """Rows whose outcome is known sooner than that of others of their age: they wait."""


class Learnt(Value):
    """The rows that a model was fitted on: the training rows, or the holdout's after them too."""

    training: Snapshot
    holdout: Snapshot | None = None
    """None for a fit that has not learnt it."""

    @property
    def with_holdout(self) -> bool:
        return self.holdout is not None

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """In the order of time."""
        return (self.training,) if self.holdout is None else (self.training, self.holdout)

    @property
    def fingerprint(self) -> str:
        """The training rows' fingerprint, or sha256 over that and the holdout's."""
        if self.holdout is None:
            return self.training.fingerprint
        both = self.training.fingerprint + self.holdout.fingerprint
        return hashlib.sha256(both.encode()).hexdigest()

    @property
    def rows(self) -> int:
        return sum(snapshot.rows for snapshot in self.snapshots)

    @property
    def span(self) -> Span:
        return Span(start=self.snapshots[0].span.start, end=self.snapshots[-1].span.end)

    @property
    def by_reference(self) -> bool:
        """Whether any of them is not copied."""
        return any(snapshot.reference is not None for snapshot in self.snapshots)


class Candidate(Value):
    """A trained model that is not registered yet."""

    mlflow_run_id: str
    mlflow_model_uri: str
    folder: str
    model_file: dict[str, Any]
    """path below `folder`, format and sha256 of the fitted pipeline."""
    recipe: dict[str, Any]
    """What decides how it is trained, apart from the rows."""
    requirements: str
    """Pinned requirements of the model and its replica, one a line."""
    environment: dict[str, str]
    """Python, platform and code revision."""
    fit_seconds: float
    learnt_holdout: bool = False
    """Whether it was fitted on the holdout's rows as well, after the gate had judged."""
    record: Record | None = None
    """What it takes to train it again; None for releases that were made before there were any."""


class ReleaseFacts(Value):
    """What a release was made of: its version and change log are derived from two of these."""

    contract: Contract
    recipe: dict[str, Any]
    requirements: str = ""
    """Pinned requirements, one a line."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Python, platform and code revision."""
    learnt: Learnt | None = None
    since: datetime | None = None
    """The change before which no row was learnt, where monitoring located one."""


class Registration(Value):
    """The name and number of a release that passed the gate."""

    version: str
    bump: str | None
    """MAJOR, MINOR or PATCH against the former champion; None for a first release."""
    bump_reasons: tuple[str, ...]
    changelog: str
    """Markdown in Keep a Changelog's sections."""
    mlflow_version: str | None = None
    """Only in histories from before MLflow's versions were found by the delivery's tag."""


class Build(Value):
    """The files that serve a release."""

    bundle: str
    digest: str
    image: str | None = None
    """What a container is started from: NAME@sha256:... of a registry, or an id of the engine."""
    image_layers: tuple[str, ...] = ()
    """Digest of each layer's content: another build of the release has the same."""
    sbom: str | None = None
    """Bill of materials of the image, CycloneDX JSON, relative to home; in the MLflow run too."""
    runtime: Runtime = Runtime.SKLEARN
    runtime_reason: str = ""
    """What proved the compiled model equal, or why the pipeline itself serves."""


class Event(Value):
    """One entry of the append-only history."""

    number: int
    release_id: str
    model: str
    state: ReleaseState
    at: datetime
    by: str
    why: str
    payload: dict[str, Any]


class Release(Value):
    """A release as its events tell it."""

    id: str
    model: str
    version: str | None
    state: ReleaseState
    opened_at: datetime
    changed_at: datetime
    events: tuple[Event, ...]

    def payload(self, state: ReleaseState) -> dict[str, Any] | None:
        """Return what was recorded when the release entered `state` the last time."""
        for event in reversed(self.events):
            if event.state is state:
                return event.payload
        return None

    @property
    def delivery(self) -> Delivery:
        return Delivery.model_validate(self.payload(ReleaseState.OPENED))

    @property
    def build(self) -> Build:
        return Build.model_validate(self.payload(ReleaseState.BUILT))

    @property
    def judged(self) -> Candidate:
        """The fit that the gate judged, on rows that it had not seen."""
        return Candidate.model_validate(self.payload(ReleaseState.TRAINED))

    @property
    def candidate(self) -> Candidate:
        """The fit that is released: the one with the holdout's rows where there is one."""
        refitted = self.payload(ReleaseState.REFITTED)
        return self.judged if refitted is None else Candidate.model_validate(refitted)

    @property
    def learnt(self) -> Learnt:
        """The rows that the released fit learnt, or, while there is none, those it begins with."""
        with_holdout = self.payload(ReleaseState.REFITTED) is not None
        return rows_learnt(self.delivery, with_holdout=with_holdout)

    @property
    def registration(self) -> Registration:
        return Registration.model_validate(self.payload(ReleaseState.REGISTERED))

    @property
    def facts(self) -> ReleaseFacts:
        return facts_of(self.delivery, self.candidate)


def rows_learnt(delivery: Delivery, *, with_holdout: bool) -> Learnt:
    """Return the rows that a fit of a delivery learns."""
    return Learnt(training=delivery.training, holdout=delivery.holdout if with_holdout else None)


def facts_of(delivery: Delivery, candidate: Candidate) -> ReleaseFacts:
    """Return what a release was made of, or will be."""
    return ReleaseFacts(
        contract=delivery.contract,
        recipe=candidate.recipe,
        requirements=candidate.requirements,
        environment=candidate.environment,
        learnt=rows_learnt(delivery, with_holdout=candidate.learnt_holdout),
        since=delivery.since,
    )
