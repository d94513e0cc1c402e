"""silences, acknowledgements, and notifications that are grouped and repeated

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "silences",
        sa.Column("silence_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "matchers",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="label to value; all must be equal",
        ),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "ended_at", sa.DateTime(timezone=True), comment="ended early; it stays as it was otherwise", nullable=True
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('silence', 'maintenance')", name=op.f("ck_silences_kind")),
        sa.CheckConstraint(
            "ends_at > starts_at AND ends_at <= starts_at + interval '30 days'", name=op.f("ck_silences_length")
        ),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_silences")),
    )
    op.create_index("ix_silences_ends", "silences", ["model", "ends_at"])
    op.add_column(
        "alerts",
        sa.Column("silenced_by", sa.BigInteger(), comment="what holds it back, until its end has been told"),
    )
    op.create_foreign_key(op.f("fk_alerts_silenced_by"), "alerts", "silences", ["silenced_by"], ["silence_id"])
    op.add_column(
        "alerts", sa.Column("acknowledged_by", sa.Text(), comment="who looks after it; it is not repeated")
    )
    op.add_column("alerts", sa.Column("acknowledged_at", sa.DateTime(timezone=True)))
    op.add_column(
        "notifications",
        sa.Column(
            "round",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="0, then one more each time it is said again",
        ),
    )
    op.add_column(
        "notifications", sa.Column("group_key", sa.Text(), comment="rows with one key and one time are one message")
    )
    op.alter_column(
        "notifications",
        "reason",
        existing_type=sa.Text(),
        comment="why it is sent, was suppressed or failed",
        existing_comment="why it was suppressed or failed",
    )
    # under its old name, by which a program of the schema before still writes its rows, each in round 0
    op.drop_constraint("uq_notifications_once", "notifications")
    op.create_unique_constraint("uq_notifications_once", "notifications", ["alert_id", "event", "receiver", "round"])
    op.create_index("ix_notifications_group", "notifications", ["receiver", "group_key"])


def downgrade() -> None:
    op.drop_index("ix_notifications_group", table_name="notifications")
    op.drop_constraint("uq_notifications_once", "notifications")
    op.execute("DELETE FROM notifications WHERE round > 0")
    op.create_unique_constraint("uq_notifications_once", "notifications", ["alert_id", "event", "receiver"])
    op.alter_column(
        "notifications",
        "reason",
        existing_type=sa.Text(),
        comment="why it was suppressed or failed",
        existing_comment="why it is sent, was suppressed or failed",
    )
    op.drop_column("notifications", "group_key")
    op.drop_column("notifications", "round")
    op.drop_column("alerts", "acknowledged_at")
    op.drop_column("alerts", "acknowledged_by")
    op.drop_column("alerts", "silenced_by")
    op.drop_table("silences")
