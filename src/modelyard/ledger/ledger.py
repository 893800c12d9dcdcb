"""What happened to every release, and which one is champion?

MLflow keeps no history of aliases and lets the last writer win, so this database is the truth and
MLflow mirrors it. State is derived from append-only events; a champion changes only by
compare-and-swap on its generation.
"""

from __future__ import annotations

import getpass
import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import filelock
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from modelyard.domain.releases import (
    UNFINISHED,
    Delivery,
    Event,
    Registration,
    Release,
    ReleaseState,
    may_follow,
)
from modelyard.domain.values import Value
from modelyard.domain.versioning import Bump, next_version
from modelyard.errors import ConflictError, UnknownReleaseError
from modelyard.ledger.incidents import Incidents
from modelyard.ledger.observations import Observations
from modelyard.ledger.rollouts import Rollouts
from modelyard.ledger.schema import (
    champions,
    connect,
    events,
    lock_key,
    releases,
    reproductions,
)

V = TypeVar("V", bound=Value)

_LOCK_POLL_SECONDS = 0.2


def acting_person() -> str:
    """Return who is acting, for the history: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


class RecordedReproduction(Value):
    """What came of rebuilding a release from its record."""

    release_id: str
    at: datetime
    by: str
    verdict: str
    report: dict[str, Any]


class Ledger(Observations, Incidents, Rollouts):
    """The state database: SQLite by default, PostgreSQL by URL."""

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Connect, and bring the tables up to date.

        Raises ModelYardError where the database does not answer.
        """
        return cls(connect(url))

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def lock(
        self, model: str, *, wait_seconds: float = 0.0, purpose: str = "model"
    ) -> Iterator[None]:
        """Hold the right to change one model's releases; the kernel or the database frees it.

        Another `purpose` is another right, which does not wait for this one.

        Raises ConflictError where another process still holds it after `wait_seconds`.
        """
        taken = ConflictError(
            f"Another delivery or rollback of {model} is under way. See `modelyard status`, and "
            "try again when it has ended."
        )
        if self._engine.dialect.name == "postgresql":
            with self._engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            ) as connection:
                key = lock_key(f"{purpose}:{model}")
                end = time.monotonic() + wait_seconds
                while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
                    if time.monotonic() >= end:
                        raise taken
                    time.sleep(_LOCK_POLL_SECONDS)
                try:
                    yield
                finally:
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))
            return
        database = Path(self._engine.url.database or "ledger.db")
        name = hashlib.sha256(f"{purpose}:{model}".encode()).hexdigest()[:12]
        # Not thread-local: Prefect may run the holder and its tasks in different threads.
        lock = filelock.FileLock(database.with_suffix(f".{name}.lock"), thread_local=False)
        try:
            lock.acquire(timeout=wait_seconds, poll_interval=_LOCK_POLL_SECONDS)
        except filelock.Timeout as err:
            raise taken from err
        try:
            yield
        finally:
            lock.release()

    def unfinished(self, model: str) -> Release | None:
        """Return the delivery of a model that was interrupted, if there is one."""
        return next((r for r in self.releases(model) if r.state in UNFINISHED), None)

    def open_release(self, delivery: Delivery, *, why: str) -> Release:
        """Begin the history of a delivery."""
        with self._engine.begin() as connection:
            connection.execute(releases.insert().values(id=delivery.id, model=delivery.model))
            self._append(connection, delivery.id, ReleaseState.OPENED, why, _json(delivery))
        return self.release_by_id(delivery.id)

    def record(self, release_id: str, state: ReleaseState, payload: Value, *, why: str) -> None:
        """Append the next state of a release. Raises ConflictError for one that cannot follow."""
        with self._engine.begin() as connection:
            self._append(connection, release_id, state, why, _json(payload))

    def once(
        self,
        release_id: str,
        state: ReleaseState,
        kind: type[V],
        do: Callable[[], V],
        *,
        why: str,
    ) -> V:
        """Do a step unless it is recorded as done; return what it gave, then or now."""
        done = self.release_by_id(release_id).payload(state)
        if done is not None:
            return kind.model_validate(done)
        value = do()
        self.record(release_id, state, value, why=why)
        return value

    def number(
        self, release_id: str, bump: Bump | None, register: Callable[[str], Registration]
    ) -> Registration:
        """Give a release the next version and record it as registered, both or neither; once.

        Versions are given one after another, so they are unique and leave no gap however many
        deliveries ask at once. `register` makes the record of a version; `bump` is None where
        there is no champion to compare with.
        """
        with self._engine.begin() as connection:
            model = connection.scalar(
                sa.select(releases.c.model).where(releases.c.id == release_id)
            )
            if self._engine.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
                key = lock_key(f"versions:{model}")
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
            done = connection.scalar(
                sa.select(events.c.payload).where(
                    events.c.release_id == release_id,
                    events.c.state == ReleaseState.REGISTERED.value,
                )
            )
            if done is not None:
                return Registration.model_validate(done)
            taken = connection.scalars(
                sa.select(releases.c.version).where(
                    releases.c.model == model, releases.c.version.is_not(None)
                )
            )
            registration = register(next_version(taken, bump))
            connection.execute(
                releases.update()
                .where(releases.c.id == release_id)
                .values(version=registration.version)
            )
            why = "; ".join(registration.bump_reasons) or "first release"
            self._append(connection, release_id, ReleaseState.REGISTERED, why, _json(registration))
        return registration

    def promote(
        self,
        release_id: str,
        *,
        expected: str | None,
        why: str,
        former: ReleaseState = ReleaseState.RETIRED,
    ) -> None:
        """Make a release champion if `expected` (a release id, or None) still is.

        The former champion becomes `former` in the same transaction. Promoting the champion
        again does nothing. Raises ConflictError where another release became champion meanwhile.
        """
        try:
            with self._engine.begin() as connection:
                self._swap(connection, release_id, expected, why, former)
        except IntegrityError as err:  # two first champions at once
            raise ConflictError(
                "Another first release became champion meanwhile. Deliver again."
            ) from err

    def _swap(
        self,
        connection: sa.Connection,
        release_id: str,
        expected: str | None,
        why: str,
        former: ReleaseState,
    ) -> None:
        model = connection.scalar(sa.select(releases.c.model).where(releases.c.id == release_id))
        now = connection.execute(
            sa.select(champions.c.release_id, champions.c.generation).where(
                champions.c.model == model
            )
        ).one_or_none()
        if now is not None and now.release_id == release_id:
            return
        if (now.release_id if now else None) != expected:
            raise ConflictError(
                f"{model} got another champion while this release was under way, so it was not "
                "promoted. Deliver again to compare with the new one."
            )
        if now is None:
            connection.execute(
                champions.insert().values(model=model, release_id=release_id, generation=1)
            )
        else:
            swapped = connection.execute(
                champions.update()
                .where(champions.c.model == model, champions.c.generation == now.generation)
                .values(release_id=release_id, generation=now.generation + 1)
            )
            if swapped.rowcount != 1:
                raise ConflictError(f"{model} got another champion meanwhile. Deliver again.")
            self._append(connection, now.release_id, former, why, {"by_release": release_id})
        self._append(connection, release_id, ReleaseState.CHAMPION, why, {"former": expected})

    def champion(self, model: str) -> Release | None:
        """Return the release that serves a model's traffic."""
        with self._engine.connect() as connection:
            release_id = connection.scalar(
                sa.select(champions.c.release_id).where(champions.c.model == model)
            )
        return self.release_by_id(release_id) if release_id else None

    def releases(self, model: str) -> tuple[Release, ...]:
        """Return every delivery of a model, oldest first; those kept or aborted have no version."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                sa.select(releases.c.id, releases.c.version).where(releases.c.model == model)
            ).all()
            history = self._history(connection, events.c.model == model)
        versions = {row.id: row.version for row in rows}
        return tuple(_release(i, model, versions[i], e) for i, e in history.items())

    def release(self, model: str, version: str) -> Release:
        """Return one version of a model. Raises UnknownReleaseError, naming those that exist."""
        numbered = {r.version: r for r in self.releases(model) if r.version}
        if version in numbered:
            return numbered[version]
        known = ", ".join(numbered) or "none yet"
        raise UnknownReleaseError(f"{model} has no release {version!r}. Releases: {known}.")

    def release_by_id(self, release_id: str) -> Release:
        """Return one delivery. Raises UnknownReleaseError."""
        with self._engine.connect() as connection:
            row = connection.execute(
                sa.select(releases).where(releases.c.id == release_id)
            ).one_or_none()
            history = self._history(connection, events.c.release_id == release_id)
        if row is None:
            raise UnknownReleaseError(f"The ledger has no delivery {release_id!r}.")
        return _release(release_id, row.model, row.version, history[release_id])

    def models(self) -> tuple[str, ...]:
        """Return the names of all models that ever had a delivery, sorted."""
        with self._engine.connect() as connection:
            return tuple(
                connection.scalars(sa.select(releases.c.model).distinct().order_by("model"))
            )

    def record_reproduction(self, release_id: str, verdict: str, report: dict[str, Any]) -> None:
        """Store what came of rebuilding a release."""
        with self._engine.begin() as connection:
            connection.execute(
                reproductions.insert().values(
                    release_id=release_id,
                    at=datetime.now(UTC),
                    by=acting_person(),
                    verdict=verdict,
                    report=report,
                )
            )

    def reproductions(self, release_id: str) -> tuple[RecordedReproduction, ...]:
        """Return what came of rebuilding a release each time, oldest first."""
        query = sa.select(reproductions).where(reproductions.c.release_id == release_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(reproductions.c.number)).mappings().all()
        return tuple(
            RecordedReproduction.model_validate({k: v for k, v in row.items() if k != "number"})
            for row in rows
        )

    def _append(
        self,
        connection: sa.Connection,
        release_id: str,
        state: ReleaseState,
        why: str,
        payload: dict[str, Any],
    ) -> None:
        model = connection.scalar(
            sa.select(releases.c.model).where(releases.c.id == release_id).with_for_update()
        )
        last = connection.scalar(
            sa.select(events.c.state)
            .where(events.c.release_id == release_id)
            .order_by(events.c.number.desc())
            .limit(1)
        )
        before = ReleaseState(last) if last else None
        if not may_follow(before, state):
            raise ConflictError(
                f"Release {release_id} of {model} is {before} and cannot become {state}."
            )
        connection.execute(
            events.insert().values(
                release_id=release_id,
                model=model,
                state=state.value,
                at=datetime.now(UTC),
                by=acting_person(),
                why=why,
                payload=payload,
            )
        )

    def _history(
        self, connection: sa.Connection, where: sa.ColumnElement[bool]
    ) -> dict[str, list[Event]]:
        history: dict[str, list[Event]] = {}
        for row in connection.execute(sa.select(events).where(where).order_by(events.c.number)):
            event = Event.model_validate(dict(row._mapping))
            history.setdefault(event.release_id, []).append(event)
        return history


def _release(release_id: str, model: str, version: str | None, history: list[Event]) -> Release:
    return Release(
        id=release_id,
        model=model,
        version=version,
        state=history[-1].state,
        opened_at=history[0].at,
        changed_at=history[-1].at,
        events=tuple(history),
    )


def _json(value: Value) -> dict[str, Any]:
    return value.model_dump(mode="json")
