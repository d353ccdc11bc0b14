"""Alembic's entry: runs on the connection that the runner hands over."""

from alembic import context
from sqlmodel import SQLModel

from dispatch_common import tables

assert tables is not None  # importing it fills SQLModel.metadata
context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
with context.begin_transaction():
    context.run_migrations()
