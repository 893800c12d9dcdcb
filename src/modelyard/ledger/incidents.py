"""What is somebody to look at, and who was told of it?"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from modelyard.domain.alerts import Notice, WaitingNotice
from modelyard.domain.values import Value
from modelyard.ledger.schema import deliveries, incidents, lock_key, notices


class Incident(Value):
    """One model and cause that somebody should look at, from opened to resolved."""

    id: str
    model: str
    cause: str
    opened_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    details: dict[str, Any]


class Description(Value):
    """What an incident says now, and what people are to be told of that."""

    details: dict[str, Any]
    notice: Notice | None = None


Describe = Callable[[Incident | None], Description]
"""Called with the incident that is open, or None where this opens one."""


class Incidents:
    """Incidents of the models, and what people were told of them.

    An incident and its notice are written at once: who is killed before the notice is delivered
    leaves it to the next run, and who is killed before both are written has told nobody.
    """

    _engine: sa.Engine

    def raise_incident(
        self, model: str, cause: str, at: datetime, describe: Describe, *, now: datetime
    ) -> tuple[Incident, bool]:
        """Open an incident, or update the one that is open; return it and whether it is new.

        A window may be measured again after newer ones were: one that a resolved incident was
        about opens no second one, and one that is older than the open incident's last leaves it.
        `at` is the time that it is about, `now` when a notice is written down.
        """
        same = (incidents.c.model == model) & (incidents.c.cause == cause)
        with self._engine.begin() as connection:
            _take_turns(connection, model)
            over = _first(
                connection, same, incidents.c.opened_at <= at, incidents.c.resolved_at > at
            )
            if over is not None:
                return over, False
            former = _first(connection, same, incidents.c.resolved_at.is_(None))
            if former is not None and former.updated_at > at:
                return former, False
            said = describe(former)
            values = {"updated_at": at, "details": said.details}
            if former is None:
                values |= {"opened_at": at, "resolved_at": None}
                raised = Incident.model_validate(
                    {"id": str(uuid.uuid4()), "model": model, "cause": cause, **values}
                )
                connection.execute(incidents.insert().values(**raised.model_dump()))
            else:
                raised = former.model_copy(update=values)
                this = incidents.c.id == former.id
                connection.execute(incidents.update().where(this).values(**values))
            if said.notice is not None:
                _queue(connection, raised, said.notice, now)
        return raised, former is None

    def resolve_incident(
        self,
        model: str,
        cause: str,
        at: datetime,
        notice: Callable[[Incident], Notice] | None = None,
        *,
        now: datetime,
        more: Mapping[str, Any] | None = None,
    ) -> bool:
        """Resolve the open incident of a cause; return whether there was one.

        `more` is added to its details.
        A window that is older than the incident's last one says nothing about it.
        """
        same = (incidents.c.model == model) & (incidents.c.cause == cause)
        with self._engine.begin() as connection:
            _take_turns(connection, model)
            is_open = incidents.c.resolved_at.is_(None)
            incident = _first(connection, same, is_open, incidents.c.updated_at <= at)
            if incident is None:
                return False
            this = incidents.c.id == incident.id
            details = {**incident.details, **(more or {})}
            connection.execute(
                incidents.update().where(this).values(resolved_at=at, details=details)
            )
            if notice is not None:
                _queue(connection, incident, notice(incident), now)
        return True

    def incidents(self, model: str, *, open_only: bool = True) -> tuple[Incident, ...]:
        """Return the incidents of a model, oldest first."""
        query = sa.select(incidents).where(incidents.c.model == model)
        if open_only:
            query = query.where(incidents.c.resolved_at.is_(None))
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(incidents.c.opened_at)).all()
        return tuple(Incident.model_validate(dict(r._mapping)) for r in rows)

    def waiting_notices(self, model: str, place: str) -> tuple[WaitingNotice, ...]:
        """Return what a place was not told yet, oldest first."""
        has = sa.select(deliveries.c.notice_id).where(
            deliveries.c.place == place, deliveries.c.delivered_at.is_not(None)
        )
        query = (
            sa.select(*(notices.c[name] for name in WaitingNotice.model_fields))
            .where(notices.c.model == model, notices.c.closed_at.is_(None))
            .where(notices.c.id.not_in(has))
            .order_by(notices.c.at)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(WaitingNotice.model_validate(dict(r._mapping)) for r in rows)

    def messages_since(self, model: str, place: str, since: datetime) -> int:
        """Return how many messages about a model a place got since a moment."""
        query = (
            sa.select(sa.func.count(sa.distinct(deliveries.c.message_id)))
            .join(notices, notices.c.id == deliveries.c.notice_id)
            .where(notices.c.model == model, deliveries.c.place == place)
            .where(deliveries.c.delivered_at > since)
        )
        with self._engine.connect() as connection:
            return connection.scalar(query) or 0

    def note_delivery(
        self, told: Sequence[str], place: str, at: datetime, *, problem: str | None = None
    ) -> None:
        """Note that one message told a place of these notices, or why it could not."""
        message_id = str(uuid.uuid4())
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        with self._engine.begin() as connection:
            for notice_id in told:
                values = {
                    "tried_at": at,
                    "delivered_at": at if problem is None else None,
                    "message_id": message_id if problem is None else None,
                    "problem": problem,
                }
                statement = dialect.insert(deliveries).values(
                    notice_id=notice_id, place=place, tries=1, **values
                )
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["notice_id", "place"],
                        set_={**values, "tries": deliveries.c.tries + 1},
                    )
                )

    def close_notices(
        self, model: str, places: Sequence[str], at: datetime, *, older_than: datetime
    ) -> int:
        """Close what all places have, and give up what is too old; return how many of the latter.

        A place that is configured later is not told what others heard before.
        """
        with self._engine.begin() as connection:
            query = sa.select(notices.c.id, notices.c.at).where(
                notices.c.model == model, notices.c.closed_at.is_(None)
            )
            given_up = 0
            for notice_id, queued_at in connection.execute(query).all():
                has = connection.scalar(
                    sa.select(sa.func.count())
                    .where(deliveries.c.notice_id == notice_id)
                    .where(deliveries.c.place.in_(places), deliveries.c.delivered_at.is_not(None))
                )
                everybody = has == len(places)
                if everybody or queued_at < older_than:
                    given_up += not everybody
                    this = notices.c.id == notice_id
                    connection.execute(notices.update().where(this).values(closed_at=at))
        return given_up


def _take_turns(connection: sa.Connection, model: str) -> None:
    """Let one writer at a time look and change; SQLite's write lock does so by itself."""
    if connection.dialect.name == "postgresql":
        key = lock_key(f"incidents:{model}")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _first(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> Incident | None:
    row = connection.execute(sa.select(incidents).where(*where).limit(1)).one_or_none()
    return Incident.model_validate(dict(row._mapping)) if row else None


def _queue(connection: sa.Connection, incident: Incident, notice: Notice, now: datetime) -> None:
    connection.execute(
        notices.insert().values(
            id=str(uuid.uuid4()),
            incident_id=incident.id,
            model=incident.model,
            at=now,
            **notice.model_dump(mode="json"),
        )
    )
