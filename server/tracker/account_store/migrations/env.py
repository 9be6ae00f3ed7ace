"""Alembic runs this file for each upgrade, within the transaction of tracker.account_store.upgrade."""

from alembic import context

from tracker.account_store.schema import metadata

# `metadata` gives names to the constraints that a migration creates.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
