"""API keys can be withdrawn."""

import sqlalchemy as sa
from alembic import op

from majlis.store import Utc

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when, by whom and why a key was withdrawn."""
    op.add_column("api_key", sa.Column("withdrawn_at", Utc(), nullable=True))
    for name in ("withdrawn_by", "withdraw_reason"):
        op.add_column("api_key", sa.Column(name, sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop them."""
    for name in ("withdraw_reason", "withdrawn_by", "withdrawn_at"):
        op.drop_column("api_key", name)
