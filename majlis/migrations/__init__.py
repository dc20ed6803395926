"""The history of the control plane's tables: one linear chain of Alembic revisions.

To change a table: change its model, then add `versions/NNNN_room.py` with `down_revision` naming the last one. There is
no way down: a release of Majlis reads the database of the one before it, and a backup is the way back. A test holds the
models and the migrated tables together, on SQLite and on PostgreSQL.
"""
