"""baselines of several kinds, and the state of the sequential monitor

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("uq_baselines_model_version", "baselines")
    for column in (
        sa.Column(
            "number", sa.Integer(), server_default="1", nullable=False, comment="counts a version's baselines from 1"
        ),
        sa.Column("pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "period_start",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="of a baseline made from logged traffic",
        ),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "thresholds",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="effects learnt from the baseline's own windows, by detector and modality",
        ),
        sa.Column("maps", sa.LargeBinary(), nullable=True, comment="the frozen maps, where no checkpoint brings them"),
        sa.Column("created_by", sa.Text(), server_default="worker", nullable=False),
    ):
        op.add_column("baselines", column)
    op.create_unique_constraint("uq_baselines_number", "baselines", ["model_version", "number"])
    op.create_index(
        "uq_baselines_pinned", "baselines", ["model_version"], unique=True, postgresql_where=sa.text("pinned")
    )
    op.add_column(
        "baseline_summaries",
        sa.Column(
            "hour",
            sa.SmallInteger(),
            server_default="-1",
            nullable=False,
            comment="of the day in UTC; -1: the whole day",
        ),
    )
    op.drop_constraint("pk_baseline_summaries", "baseline_summaries")
    op.create_primary_key("pk_baseline_summaries", "baseline_summaries", ["baseline_id", "modality", "hour"])
    op.create_table(
        "sequential_state",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column(
            "baseline_id",
            sa.BigInteger(),
            nullable=True,
            comment="what the series was compared with; another one starts it anew",
        ),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=False, comment="the last window it took in"),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "detector", "modality", name=op.f("pk_sequential_state")),
    )
    op.add_column(
        "labels",
        sa.Column(
            "sampling_probability",
            sa.REAL(),
            nullable=True,
            comment="with which the request was chosen to be labelled; null: not known",
        ),
    )
    op.create_check_constraint(
        op.f("ck_labels_sampling_probability"), "labels", "sampling_probability > 0 AND sampling_probability <= 1"
    )


def downgrade() -> None:
    """One baseline a version is kept: the one that came first."""
    op.drop_column("labels", "sampling_probability")
    op.drop_table("sequential_state")
    op.execute("DELETE FROM baseline_summaries WHERE hour <> -1")
    op.execute("DELETE FROM baselines WHERE number <> 1")
    op.drop_constraint("pk_baseline_summaries", "baseline_summaries")
    op.drop_column("baseline_summaries", "hour")
    op.create_primary_key("pk_baseline_summaries", "baseline_summaries", ["baseline_id", "modality"])
    op.drop_index("uq_baselines_pinned", table_name="baselines")
    op.drop_constraint("uq_baselines_number", "baselines")
    for column in ("created_by", "maps", "thresholds", "period_end", "period_start", "pinned", "number"):
        op.drop_column("baselines", column)
    op.create_unique_constraint("uq_baselines_model_version", "baselines", ["model_version"])
