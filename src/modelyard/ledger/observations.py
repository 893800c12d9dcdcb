"""What did monitoring see, and what did the retraining controller decide?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from modelyard.domain.values import Value
from modelyard.ledger.schema import decisions, windows


class RecordedWindow(Value):
    """What monitoring found in one window, as last measured."""

    id: str
    model: str
    start: datetime
    end: datetime
    measured_at: datetime
    record: dict[str, Any]


class RecordedDecision(Value):
    """What the retraining controller decided once, and the delivery that came of it."""

    key: str
    model: str
    at: datetime
    verdict: str
    decision: dict[str, Any]
    release_id: str | None


class Observations:
    """Windows and decisions of the models."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def record_window(
        self,
        window_id: str,
        model: str,
        start: datetime,
        end: datetime,
        record: dict[str, Any],
        *,
        measured_at: datetime | None = None,
    ) -> None:
        """Store what a window showed; measured again, it replaces its record, never doubles it.

        `measured_at` is the moment before its rows and labels were read; empty means now.
        """
        values = {
            "id": window_id,
            "model": model,
            "start": start,
            "end": end,
            "measured_at": measured_at or datetime.now(UTC),
            "record": record,
        }
        with self._engine.begin() as connection:
            statement = self._insert(windows).values(values)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["id"],
                    set_={"measured_at": values["measured_at"], "record": record},
                )
            )

    def window(self, window_id: str) -> RecordedWindow | None:
        """Return a measured window; None where it was not measured yet."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(windows).where(windows.c.id == window_id)).first()
        return None if row is None else RecordedWindow.model_validate(dict(row._mapping))

    def windows(
        self,
        model: str,
        *,
        last: int | None = None,
        before: datetime | None = None,
        release: str | None = None,
    ) -> tuple[RecordedWindow, ...]:
        """Return the measured windows of a model, oldest first; the `last` ones if given.

        Of those that had ended `before` a time alone, or that a `release` of this version judged.
        """
        query = sa.select(windows).where(windows.c.model == model).order_by(windows.c.start.desc())
        if before is not None:
            query = query.where(windows.c.end <= before)
        if release is not None:
            query = query.where(windows.c.record["release"].as_string() == release)
        with self._engine.connect() as connection:
            rows = connection.execute(query.limit(last) if last else query).all()
        return tuple(RecordedWindow.model_validate(dict(r._mapping)) for r in reversed(rows))

    def decide(
        self, key: str, model: str, verdict: str, decision: dict[str, Any], at: datetime
    ) -> bool:
        """Store a decision under its idempotency key; return False where it was made before."""
        with self._engine.begin() as connection:
            statement = self._insert(decisions).values(
                key=key, model=model, at=at, verdict=verdict, decision=decision
            )
            stored = connection.execute(
                statement.on_conflict_do_nothing(index_elements=["key"]).returning(decisions.c.key)
            ).first()
        return stored is not None

    def decision(self, key: str) -> RecordedDecision | None:
        """Return the decision made under a key."""
        with self._engine.connect() as connection:
            row = connection.execute(
                sa.select(decisions).where(decisions.c.key == key)
            ).one_or_none()
        return RecordedDecision.model_validate(dict(row._mapping)) if row else None

    def decisions(self, model: str) -> tuple[RecordedDecision, ...]:
        """Return the decisions about a model, oldest first."""
        query = sa.select(decisions).where(decisions.c.model == model).order_by(decisions.c.at)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(RecordedDecision.model_validate(dict(r._mapping)) for r in rows)

    def link_decision(self, key: str, release_id: str) -> None:
        """Note which delivery a decision led to."""
        with self._engine.begin() as connection:
            connection.execute(
                decisions.update().where(decisions.c.key == key).values(release_id=release_id)
            )

    def _insert(self, table: sa.Table) -> Any:
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)
