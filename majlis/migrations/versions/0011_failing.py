"""Deployments say what counts when features cannot be fetched."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the policy and the budget of a deployment; without them, the settings' count."""
    op.add_column("deployment", sa.Column("feature_policy", sa.String(16), nullable=True))
    op.add_column("deployment", sa.Column("feature_budget_seconds", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    for name in ("feature_budget_seconds", "feature_policy"):
        op.drop_column("deployment", name)
