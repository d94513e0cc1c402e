"""the label queue, people's approvals of a retrain, and what a decision rests on

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _decisions()
    op.create_table(
        "retrain_approvals",
        sa.Column("approval_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False, comment="the champion that is to be retrained"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.BigInteger(), comment="the job it led to; one job uses it up"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("approval_id", name=op.f("pk_retrain_approvals")),
    )
    op.create_index("ix_retrain_approvals_open", "retrain_approvals", ["model", "expires_at"])
    _label_queue()


def _decisions() -> None:
    op.add_column("retrain_decisions", sa.Column("model_version", sa.Text(), comment="the champion it was about"))
    op.add_column(
        "retrain_decisions",
        sa.Column(
            "evidence",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="ids of the findings and alerts it rests on",
        ),
    )
    op.add_column(
        "retrain_decisions",
        sa.Column(
            "confirmed_at",
            sa.DateTime(timezone=True),
            comment="when it was last decided so, with the reasons' words of then",
        ),
    )
    op.create_index(
        "ix_retrain_decisions_job",
        "retrain_decisions",
        ["job_id"],
        postgresql_where=sa.text("job_id IS NOT NULL"),
    )


def _label_queue() -> None:
    op.create_table(
        "label_rounds",
        sa.Column("round_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("frame_start", sa.DateTime(timezone=True), nullable=False, comment="answers logged from then"),
        sa.Column("frame_end", sa.DateTime(timezone=True), nullable=False, comment="up to, not including, then"),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="the draw can be done again"),
        sa.Column(
            "strata",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="by name: rows of the frame, rows drawn",
        ),
        sa.Column(
            "reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="why labels are needed"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("frame_end > frame_start", name=op.f("ck_label_rounds_frame")),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_label_rounds")),
        sa.UniqueConstraint("model", "model_version", "frame_end", name="uq_label_rounds_frame"),
    )
    op.create_table(
        "label_queue",
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "place",
            sa.Integer(),
            nullable=False,
            comment="in random order: any number of the first are a fair sample too",
        ),
        sa.Column("stratum", sa.Text(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False, comment="with which it was drawn"),
        sa.CheckConstraint("probability > 0 AND probability <= 1", name=op.f("ck_label_queue_probability")),
        sa.ForeignKeyConstraint(
            ["round_id"],
            ["label_rounds.round_id"],
            name=op.f("fk_label_queue_round_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_label_queue")),
        sa.UniqueConstraint("round_id", "place", name="uq_label_queue_place"),
    )


def downgrade() -> None:
    op.drop_table("label_queue")
    op.drop_table("label_rounds")
    op.drop_table("retrain_approvals")
    op.drop_index("ix_retrain_decisions_job", table_name="retrain_decisions")
    op.drop_column("retrain_decisions", "confirmed_at")
    op.drop_column("retrain_decisions", "evidence")
    op.drop_column("retrain_decisions", "model_version")
