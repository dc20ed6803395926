"""Alarms: when people's schedules are due."""

import sqlalchemy as sa
from alembic import op

from majlis.store import Utc

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of alarms."""
    op.create_table(
        "alarm",
        sa.Column("principal", sa.String(255), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("due_at", Utc(), nullable=False),
        sa.Column("try_at", Utc(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("refused_at", Utc(), nullable=True),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "name", name=op.f("pk_alarm")),
    )
    op.create_index(op.f("ix_alarm_try_at"), "alarm", ["try_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("alarm")
