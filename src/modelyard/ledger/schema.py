"""How does the state database look, and how is it connected to?"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from modelyard.errors import ConfigError, ModelYardError

_BROKEN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


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
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("incident_id", sa.ForeignKey("incidents.id"), nullable=False, index=True),
    sa.Column("model", sa.String(200), nullable=False, index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("at", _Utc, nullable=False),
    # Everybody was told, or nobody could be for too long.
    sa.Column("closed_at", _Utc),
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("notice_id", sa.ForeignKey("notices.id"), primary_key=True),
    # As it may be shown: without what is secret.
    sa.Column("place", sa.String(200), primary_key=True),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("tried_at", _Utc, nullable=False),
    sa.Column("delivered_at", _Utc),
    # A summary is one message of many notices.
    sa.Column("message_id", sa.String(36)),
    sa.Column("problem", sa.Text),
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

reproductions = sa.Table(
    "reproductions",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("release_id", sa.ForeignKey("releases.id"), nullable=False, index=True),
    sa.Column("at", _Utc, nullable=False),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("verdict", sa.String(20), nullable=False),
    sa.Column("report", sa.JSON, nullable=False),
)

rollout_events = sa.Table(
    "rollout_events",
    metadata,
    sa.Column("release_id", sa.ForeignKey("releases.id"), primary_key=True),
    # Who writes at a place that another has taken meanwhile knows too little to write.
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("at", _Utc, nullable=False),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
)

_one_alembic = threading.Lock()
"""Alembic keeps what it migrates in module variables."""

NEWEST = "0004"
"""The last migration: a database that says so is not looked at any further when it is opened."""


def connect(url: str) -> sa.Engine:
    """Connect, and bring the schema up to date; a new database gets all of it.

    Raises ConfigError where the URL names no database that can be used here, ModelYardError where
    the database does not answer or was written by a newer ModelYard; a broken SQLite file is a
    ModelYardError now and later.
    """
    engine = _engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        event.listen(engine, "handle_error", _explain_broken_file)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # two first users would both create
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key("schema"))))
            _migrate(connection)
    except OperationalError as err:
        engine.dispose()
        raise ModelYardError(
            f"The state database {_shown(engine.url)} does not answer: {err.orig}. Start it, or "
            "mend ledger.url in configs/platform.yaml."
        ) from err
    except ModelYardError:
        engine.dispose()
        raise
    except DBAPIError as err:  # it answers, and refuses
        engine.dispose()
        raise ModelYardError(
            f"The state database {_shown(engine.url)} cannot be used: "
            f"{str(err.orig).splitlines()[0]}. Give its user "
            "the right to make tables in an empty database, or mend ledger.url in "
            "configs/platform.yaml."
        ) from err
    return engine


def lock_key(name: str) -> int:
    """Map a name to PostgreSQL's signed 64-bit space of advisory locks."""
    return int.from_bytes(hashlib.sha256(f"modelyard:{name}".encode()).digest()[:8], signed=True)


def _migrate(connection: sa.Connection) -> None:
    tables = set(sa.inspect(connection).get_table_names())
    version = None
    if "alembic_version" in tables:
        version = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if version == NEWEST:
        return
    from alembic import command  # only where there is something to do
    from alembic.config import Config

    if version is not None and version > NEWEST:
        raise ModelYardError(
            f"The state database {_shown(connection.engine.url)} was written by a newer ModelYard "
            f"(its schema is {version}, this one knows {NEWEST}). Install that version or a later "
            "one."
        )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    with _one_alembic:
        if version is None and "releases" in tables:  # it is older than the migrations
            command.stamp(config, "0001")
        command.upgrade(config, "head")


def _engine(url: str) -> sa.Engine:
    where = "ledger.url in configs/platform.yaml"
    like = "postgresql+psycopg://user:password@host/database, or leave it out for a SQLite file"
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        # Neither the text nor the vendor's error is shown: a password may stand in them.
        raise ConfigError(f"{where}: is no database URL; write one like {like}.") from None
    arguments = {"timeout": 30} if parsed.get_backend_name() == "sqlite" else {}
    try:
        return sa.create_engine(parsed, connect_args=arguments, pool_pre_ping=True)
    except (ArgumentError, ImportError) as err:
        raise ConfigError(
            f"{where}: no driver for {parsed.drivername}:// is installed; write a URL like {like}."
        ) from err


def _shown(url: sa.URL) -> str:
    # A password may also stand among the driver's arguments, where SQLAlchemy does not hide it.
    return url.set(query={}).render_as_string(hide_password=True)


def _explain_broken_file(context: ExceptionContext) -> None:
    """Give an operator words for what SQLite says of a damaged file, at any statement."""
    code = getattr(context.original_exception, "sqlite_errorcode", 0)
    if code & 0xFF in _BROKEN and context.engine is not None:
        raise ModelYardError(
            f"The state database {_shown(context.engine.url)} is damaged: "
            f"{context.original_exception}. Restore it from a backup."
        ) from context.original_exception


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # pysqlite would begin transactions late and break BEGIN IMMEDIATE below.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_immediate(connection: sa.Connection) -> None:
    # Take the write lock first: a reader that turns writer midway is refused without waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
