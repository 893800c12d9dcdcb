"""Alembic's entry: it runs the migrations on the connection that `schema.connect` gives it."""

from alembic import context

from modelyard.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
