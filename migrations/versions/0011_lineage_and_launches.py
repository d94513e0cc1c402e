"""what jobs are trained on, row by row, and the trainers that are sent for them

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column(
            "lineage",
            postgresql.JSONB(astext_type=sa.Text()),
            comment="what it trains with: code, data by digest and counts, stores, settings",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "launched_attempt", sa.Integer(), comment="the attempt that a trainer was last sent for, where one is sent"
        ),
    )
    op.add_column("jobs", sa.Column("launched_at", sa.DateTime(timezone=True)))
    op.add_column(
        "jobs",
        sa.Column(
            "launch",
            postgresql.JSONB(astext_type=sa.Text()),
            comment="launcher, and what it calls what it started; or why it could not",
        ),
    )
    op.create_table(
        "job_rows",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column(
            "origin",
            sa.Text(),
            nullable=False,
            comment="log: labelled traffic; original: what the champion was trained on",
        ),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), comment="why it was left out"),
        sa.Column(
            "digests",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="[key id, HMAC-SHA-256 in hexadecimal] by modality",
        ),
        sa.CheckConstraint("origin IN ('log', 'original')", name=op.f("ck_job_rows_origin")),
        sa.CheckConstraint(
            "part IN ('training', 'calibration', 'measuring', 'left_out')", name=op.f("ck_job_rows_part")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_job_rows_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "place", name=op.f("pk_job_rows")),
    )
    op.create_index("ix_job_rows_request", "job_rows", ["request_id"])


def downgrade() -> None:
    op.drop_table("job_rows")
    for column in ("launch", "launched_at", "launched_attempt", "lineage"):
        op.drop_column("jobs", column)
