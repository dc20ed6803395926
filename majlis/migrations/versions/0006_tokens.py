"""Tokens: whose no longer count."""

import sqlalchemy as sa
from alembic import op

from majlis.store import Utc

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of withdrawn tokens."""
    op.create_table(
        "token_revocation",
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("before", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_token_revocation")),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("token_revocation")
