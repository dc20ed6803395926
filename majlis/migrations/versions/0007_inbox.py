"""The inbox: versions in one state are found in their order, whatever else the registry keeps."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Order the versions of a state by their id."""
    op.drop_index("ix_model_version_state", "model_version")
    op.create_index("ix_model_version_state", "model_version", ["state", "id"])


def downgrade() -> None:
    """Index the state alone."""
    op.drop_index("ix_model_version_state", "model_version")
    op.create_index("ix_model_version_state", "model_version", ["state"])
