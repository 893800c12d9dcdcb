"""Rollouts, whose events the database itself refuses to change or delete."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SQLITE = """\
CREATE TRIGGER rollout_events_never_{verb} BEFORE {verb} ON rollout_events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
"""
_POSTGRESQL = """\
CREATE TRIGGER rollout_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rollout_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_changed_events()
"""


def upgrade() -> None:
    op.create_table(
        "rollout_events",
        sa.Column("release_id", sa.String(36), sa.ForeignKey("releases.id"), primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRESQL)
    else:
        for verb in ("UPDATE", "DELETE"):
            op.execute(_SQLITE.format(verb=verb))
