"""How does the state database look, and how is it connected to?"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from modelyard.errors import ModelYardError


class _Utc(sa.TypeDecorator[datetime]):
    """Aware datetimes in UTC, also on SQLite, which stores no zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("model", sa.String(200), nullable=False, index=True),
    sa.Column("version", sa.String(50)),
    sa.UniqueConstraint("model", "version"),
)
events = sa.Table(
    "events",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("release_id", sa.ForeignKey("releases.id"), nullable=False, index=True),
    sa.Column("model", sa.String(200), nullable=False, index=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("at", _Utc, nullable=False),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
)
champions = sa.Table(
    "champions",
    metadata,
    sa.Column("model", sa.String(200), primary_key=True),
    sa.Column("release_id", sa.ForeignKey("releases.id"), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
)
decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("model", sa.String(200), nullable=False, index=True),
    sa.Column("at", _Utc, nullable=False),
    sa.Column("verdict", sa.String(20), nullable=False),
    sa.Column("decision", sa.JSON, nullable=False),
    sa.Column("release_id", sa.ForeignKey("releases.id")),
)
incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("model", sa.String(200), nullable=False, index=True),
    sa.Column("cause", sa.String(50), nullable=False),
    sa.Column("opened_at", _Utc, nullable=False),
    sa.Column("updated_at", _Utc, nullable=False),
    sa.Column("resolved_at", _Utc),
    sa.Column("details", sa.JSON, nullable=False),
    # One open incident for each model and cause, whoever writes.
    sa.Index(
        "one_open_incident",
        "model",
        "cause",
        unique=True,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    ),
)
windows = sa.Table(
    "windows",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("model", sa.String(200), nullable=False, index=True),
    sa.Column("start", _Utc, nullable=False),
    sa.Column("end", _Utc, nullable=False),
    sa.Column("measured_at", _Utc, nullable=False),
    sa.Column("record", sa.JSON, nullable=False),
    sa.UniqueConstraint("model", "start"),
)


def connect(url: str) -> sa.Engine:
    """Connect, and create the tables that are missing.

    Raises ModelYardError where the database does not answer.
    """
    arguments = {"timeout": 30} if url.startswith("sqlite") else {}
    engine = sa.create_engine(url, connect_args=arguments, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # two first users would both create
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key("schema"))))
            metadata.create_all(connection)
    except OperationalError as err:
        shown = engine.url.render_as_string(hide_password=True)
        raise ModelYardError(
            f"The state database {shown} does not answer: {err.orig}. Start it, or mend "
            "ledger.url in configs/platform.yaml."
        ) from err
    return engine


def lock_key(name: str) -> int:
    """Map a name to PostgreSQL's signed 64-bit space of advisory locks."""
    return int.from_bytes(hashlib.sha256(f"modelyard:{name}".encode()).digest()[:8], signed=True)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # pysqlite would begin transactions late and break BEGIN IMMEDIATE below.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_immediate(connection: sa.Connection) -> None:
    # Take the write lock first: a reader that turns writer midway is refused without waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
