"""Run the revisions on the connection, and in the transaction, that `majlis.store.migrate` opened."""

from alembic import context

from majlis.store import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
