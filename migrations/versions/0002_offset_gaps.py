"""offset gaps

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "offset_gaps",
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="expired: its messages left the log; reset: the log ends before it",
        ),
        sa.Column("stored_offset", sa.BigInteger(), nullable=False),
        sa.Column("resumed_offset", sa.BigInteger(), nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False, comment="offsets skipped; 0 for a reset"),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column(
            "seen_at", sa.DateTime(timezone=True), nullable=True, comment="when the monitor made a finding of it"
        ),
        sa.CheckConstraint("kind IN ('expired', 'reset')", name=op.f("ck_offset_gaps_kind")),
        sa.PrimaryKeyConstraint("group_id", "topic", "partition", "detected_at", name=op.f("pk_offset_gaps")),
    )
    op.create_index(
        "ix_offset_gaps_unseen",
        "offset_gaps",
        ["detected_at"],
        unique=False,
        postgresql_where=sa.text("seen_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_offset_gaps_unseen", table_name="offset_gaps", postgresql_where=sa.text("seen_at IS NULL"))
    op.drop_table("offset_gaps")
