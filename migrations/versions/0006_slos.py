"""events of objectives over time, and what was last said of each

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slo_counts",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sli", sa.Text(), nullable=False, comment="what is counted, with its limit"),
        sa.Column("bucket_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("good", sa.BigInteger(), nullable=False),
        sa.Column("valid", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("good >= 0 AND good <= valid", name=op.f("ck_slo_counts_good")),
        sa.PrimaryKeyConstraint("model", "sli", "bucket_start", name=op.f("pk_slo_counts")),
    )
    op.create_table(
        "slo_status",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("slo", sa.Text(), nullable=False),
        sa.Column("sli", sa.Text(), nullable=False),
        sa.Column("evaluated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "state",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="verdict, burn rates, budget left",
        ),
        sa.PrimaryKeyConstraint("model", "slo", name=op.f("pk_slo_status")),
    )


def downgrade() -> None:
    op.drop_table("slo_status")
    op.drop_table("slo_counts")
