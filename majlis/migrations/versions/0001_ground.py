"""The audit trail, and what keeps anyone from rewriting it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQLITE = [
    # Appending, not replacing: INSERT OR REPLACE deletes without firing a delete trigger.
    """
    CREATE TRIGGER audit_insert BEFORE INSERT ON audit
    WHEN NEW.seq <> coalesce((SELECT max(seq) FROM audit), (SELECT max(seq) FROM audit_retired), 0) + 1
    BEGIN SELECT RAISE(ABORT, 'audit: a record is appended after the last one'); END
    """,
    """
    CREATE TRIGGER audit_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'audit: records are never changed'); END
    """,
    """
    CREATE TRIGGER audit_delete BEFORE DELETE ON audit
    WHEN OLD.seq > coalesce((SELECT max(seq) FROM audit_retired), 0)
    BEGIN SELECT RAISE(ABORT, 'audit: records are never deleted before they are retired'); END
    """,
    """
    CREATE TRIGGER audit_retired_insert BEFORE INSERT ON audit_retired
    WHEN NEW.seq <= coalesce((SELECT max(seq) FROM audit_retired), 0)
    BEGIN SELECT RAISE(ABORT, 'audit: retirement only moves forward'); END
    """,
    """
    CREATE TRIGGER audit_retired_update BEFORE UPDATE ON audit_retired
    BEGIN SELECT RAISE(ABORT, 'audit: retirements are never changed'); END
    """,
    """
    CREATE TRIGGER audit_retired_delete BEFORE DELETE ON audit_retired
    BEGIN SELECT RAISE(ABORT, 'audit: retirements are never deleted'); END
    """,
]
POSTGRESQL = [
    """
    CREATE FUNCTION audit_append() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.seq <> coalesce((SELECT max(seq) FROM audit), (SELECT max(seq) FROM audit_retired), 0) + 1 THEN
            RAISE EXCEPTION 'audit: a record is appended after the last one';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION audit_delete() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.seq > coalesce((SELECT max(seq) FROM audit_retired), 0) THEN
            RAISE EXCEPTION 'audit: records are never deleted before they are retired';
        END IF;
        RETURN OLD;
    END $$
    """,
    """
    CREATE FUNCTION audit_retire() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.seq <= coalesce((SELECT max(seq) FROM audit_retired), 0) THEN
            RAISE EXCEPTION 'audit: retirement only moves forward';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'audit: % on % is refused; the trail is append-only', TG_OP, TG_TABLE_NAME; END $$
    """,
    "CREATE TRIGGER audit_insert BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_append()",
    "CREATE TRIGGER audit_update BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_delete BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_delete()",
    "CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON audit EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_retired_insert BEFORE INSERT ON audit_retired FOR EACH ROW EXECUTE FUNCTION audit_retire()",
    "CREATE TRIGGER audit_retired_change BEFORE UPDATE OR DELETE ON audit_retired"
    " FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_retired_truncate BEFORE TRUNCATE ON audit_retired EXECUTE FUNCTION audit_refuse()",
]


def upgrade() -> None:
    """Make the two tables, and the triggers that leave only appending."""
    sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite's row id
    op.create_table(
        "audit",
        sa.Column("seq", sequence, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_subject", "audit", ["subject", "seq"])
    op.create_index("ix_audit_principal", "audit", ["principal", "seq"])
    op.create_table(
        "audit_retired",
        sa.Column("seq", sequence, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_retired"),
    )
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)
