"""Rollouts: where each one stands, so that a controller that was killed goes on."""

import sqlalchemy as sa
from alembic import op

from majlis.store import Json, Utc

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of rollouts."""
    op.create_table(
        "rollout",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deployment", sa.String(63), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("state", Json, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"], ["deployment.name"], name=op.f("fk_rollout_deployment_deployment")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout")),
    )
    op.create_index(op.f("ix_rollout_deployment"), "rollout", ["deployment"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("rollout")
