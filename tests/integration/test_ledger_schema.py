"""Is the state database brought up to date, whatever wrote it, on SQLite and on PostgreSQL?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import modelyard.ledger
from modelyard.domain.releases import ReleaseState
from modelyard.errors import ModelYardError
from modelyard.ledger import Ledger
from modelyard.ledger.schema import NEWEST, metadata
from tests.ledgers import deliver


def test_the_migrations_lead_to_the_tables_that_the_code_uses(url: str) -> None:
    Ledger.open(url).close()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_newest_migration_is_the_last_one() -> None:
    config = Config()
    folder = Path(modelyard.ledger.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]


def test_a_database_from_before_the_migrations_keeps_its_history(url: str) -> None:
    ledger = Ledger.open(url)
    release = deliver(ledger, ReleaseState.TRAINED)
    ledger.close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))
        for table in ("reproductions", "rollout_events", "deliveries", "notices"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("DROP FUNCTION refuse_changed_events CASCADE"))
        else:
            for verb in ("UPDATE", "DELETE"):
                connection.execute(sa.text(f"DROP TRIGGER events_never_{verb}"))
    engine.dispose()

    again = Ledger.open(url)
    assert again.release_by_id(release.id) == release
    again.record_reproduction(release.id, "bit-equal", {"largest_difference": 0.0})
    (reproduction,) = again.reproductions(release.id)
    assert reproduction.report == {"largest_difference": 0.0}
    again.close()


def test_a_database_of_a_newer_modelyard_is_refused(url: str) -> None:
    Ledger.open(url).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ModelYardError, match="was written by a newer ModelYard"):
        Ledger.open(url)


def test_many_may_open_a_new_database_at_once(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        for ledger in pool.map(Ledger.open, [url] * 8):
            assert ledger.models() == ()
            ledger.close()


@pytest.mark.parametrize("statement", ["UPDATE events SET why = 'x'", "DELETE FROM events"])
def test_the_database_itself_keeps_events_from_being_rewritten(url: str, statement: str) -> None:
    ledger = Ledger.open(url)
    deliver(ledger, ReleaseState.TRAINED)
    engine = sa.create_engine(url)
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
    ledger.close()
