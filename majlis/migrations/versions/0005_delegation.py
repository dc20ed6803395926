"""Delegations: who handed a decision to whom, and why."""

import sqlalchemy as sa
from alembic import op

from majlis.store import Utc

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of delegations."""
    op.create_table(
        "delegation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("chair", sa.String(16), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("delegate", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_version.id"], name=op.f("fk_delegation_version_id_model_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delegation")),
    )
    op.create_index(op.f("ix_delegation_version_id"), "delegation", ["version_id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("delegation")
