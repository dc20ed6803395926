"""The registry: models and versions, checks, reviews, releases, deployments and their keys."""

import sqlalchemy as sa
from alembic import op

from majlis.store import Json, Utc

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the registry's tables."""
    op.create_table(
        "idempotency_key",
        sa.Column("principal", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index(op.f("ix_idempotency_key_at"), "idempotency_key", ["at"], unique=False)
    op.create_table(
        "registered_model",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.Column("versions", sa.Integer(), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("production", sa.Integer(), nullable=True),
        sa.Column("tier", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_registered_model")),
    )
    op.create_index(op.f("ix_registered_model_updated_at"), "registered_model", ["updated_at"], unique=False)
    op.create_table(
        "deployment",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"], ["registered_model.name"], name=op.f("fk_deployment_model_registered_model")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_deployment")),
    )
    op.create_index(op.f("ix_deployment_model"), "deployment", ["model"], unique=False)
    op.create_table(
        "model_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("makers", Json, nullable=False),
        sa.Column("model_uri", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("digests", Json, nullable=False),
        sa.Column("signature", Json, nullable=False),
        sa.Column("flavours", Json, nullable=False),
        sa.Column("facts", Json, nullable=False),
        sa.Column("lineage", Json, nullable=False),
        sa.Column("evaluation", Json, nullable=False),
        sa.Column("claimed", Json, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=True),
        sa.Column("tier_reasons", Json, nullable=False),
        sa.Column("required", Json, nullable=False),
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("evidence", sa.String(length=64), nullable=False),
        sa.Column("formats", Json, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("registered_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.Column("due_at", Utc(), nullable=True),
        sa.Column("escalated_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model"], ["registered_model.name"], name=op.f("fk_model_version_model_registered_model")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_version")),
        sa.UniqueConstraint("model", "version", name=op.f("uq_model_version_model")),
    )
    op.create_index("ix_model_version_state", "model_version", ["state"], unique=False)
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("deployment", sa.String(length=63), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"], ["deployment.name"], name=op.f("fk_api_key_deployment_deployment")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_key_sha256")),
    )
    op.create_index(op.f("ix_api_key_deployment"), "api_key", ["deployment"], unique=False)
    op.create_table(
        "check_result",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("code_digest", sa.String(length=64), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_version.id"], name=op.f("fk_check_result_version_id_model_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_check_result")),
    )
    op.create_index(op.f("ix_check_result_version_id"), "check_result", ["version_id"], unique=False)
    op.create_table(
        "release",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("issued_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("revoked_at", Utc(), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=False),
        sa.Column("revoke_reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_version.id"], name=op.f("fk_release_version_id_model_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release")),
    )
    op.create_index(op.f("ix_release_version_id"), "release", ["version_id"], unique=False)
    op.create_table(
        "review",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("chair", sa.String(length=16), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("evidence", sa.String(length=64), nullable=False),
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("void", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_version.id"], name=op.f("fk_review_version_id_model_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
    )
    op.create_index(op.f("ix_review_version_id"), "review", ["version_id"], unique=False)
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deployment", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("release", sa.String(length=80), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("loaded", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"], ["deployment.name"], name=op.f("fk_revision_deployment_deployment")
        ),
        sa.ForeignKeyConstraint(["release"], ["release.id"], name=op.f("fk_revision_release_release")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revision")),
        sa.UniqueConstraint("deployment", "number", name=op.f("uq_revision_deployment")),
    )
    op.create_index(op.f("ix_revision_release"), "revision", ["release"], unique=False)
