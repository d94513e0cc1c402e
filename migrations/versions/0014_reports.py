"""reports about a period, and their files

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("report_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column(
            "cadence", sa.Text(), nullable=False, comment="daily and weekly: by schedule; asked: a person wanted it"
        ),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("headline", sa.Text(), comment="what the period was like, in a sentence"),
        sa.Column("error", sa.Text(), comment="why there is none, or what is missing from it"),
        sa.Column(
            "told",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="of the weekly ticket: receiver to what became of it",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("cadence IN ('daily', 'weekly', 'asked')", name=op.f("ck_reports_cadence")),
        sa.CheckConstraint("state IN ('running', 'done', 'failed')", name=op.f("ck_reports_state")),
        sa.CheckConstraint("period_end > period_start", name=op.f("ck_reports_period")),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_reports")),
        sa.UniqueConstraint("model", "cadence", "period_start", "period_end", name="uq_reports_period"),
    )
    op.create_table(
        "report_files",
        sa.Column("report_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the file as it is read"),
        sa.Column("size", sa.Integer(), nullable=False, comment="bytes of the file as it is read"),
        sa.Column("packed", sa.LargeBinary(), nullable=False, comment="the file, compressed by gzip"),
        sa.ForeignKeyConstraint(
            ["report_id"], ["reports.report_id"], name=op.f("fk_report_files_report_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("report_id", "name", name=op.f("pk_report_files")),
    )


def downgrade() -> None:
    op.drop_table("report_files")
    op.drop_table("reports")
