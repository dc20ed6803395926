"""Versions keep what MLflow knew about their training: who ran it, its parameters, its metrics."""

import sqlalchemy as sa
from alembic import op

from majlis.store import Json

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of earlier versions nothing is known."""
    op.add_column("model_version", sa.Column("training", Json, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("model_version", "training")
