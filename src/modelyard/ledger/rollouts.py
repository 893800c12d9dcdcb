"""What happened in each rollout?"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from modelyard.domain.rollout import RolloutEvent
from modelyard.errors import ConflictError
from modelyard.ledger.schema import releases, rollout_events


class Rollouts:
    """The histories of rollouts. Nothing is changed in them, and of two writers one is second."""

    _engine: sa.Engine

    def rollout(self, release_id: str) -> tuple[RolloutEvent, ...]:
        """Return what happened in the rollout of a release, in order; empty where it has none."""
        query = sa.select(rollout_events).where(rollout_events.c.release_id == release_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(rollout_events.c.place)).mappings().all()
        return tuple(
            RolloutEvent.model_validate({name: row[name] for name in RolloutEvent.model_fields})
            for row in rows
        )

    def rollout_length(self, release_id: str) -> int:
        """Return how many events the rollout of a release has."""
        query = sa.select(sa.func.count()).where(rollout_events.c.release_id == release_id)
        with self._engine.connect() as connection:
            return connection.scalar(query) or 0

    def open_rollout(self, model: str) -> str | None:
        """Return the id of the release whose rollout began last and has not ended, if any."""
        ended = sa.select(rollout_events.c.release_id).where(rollout_events.c.kind == "ended")
        query = (
            sa.select(rollout_events.c.release_id)
            .join(releases, releases.c.id == rollout_events.c.release_id)
            .where(
                releases.c.model == model,
                rollout_events.c.place == 0,
                rollout_events.c.release_id.not_in(ended),
            )
            .order_by(rollout_events.c.at.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            return connection.scalar(query)

    def record_rollout(self, release_id: str, event: RolloutEvent, *, place: int) -> None:
        """Append an event at a place of the history, counted from 0.

        Raises ConflictError where another event has that place: look at the history again.
        """
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    rollout_events.insert().values(
                        release_id=release_id,
                        place=place,
                        **event.model_dump(mode="json") | {"at": event.at},
                    )
                )
        except IntegrityError as err:
            raise ConflictError(
                "The rollout was changed by somebody else at the same moment. Try again."
            ) from err
