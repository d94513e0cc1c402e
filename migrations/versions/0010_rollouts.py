"""challengers beside the champion: rollouts, their checks, workers' reports, and the shadow log

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def _now(name: str) -> "sa.Column[object]":
    return sa.Column(name, _TIME, server_default=sa.text("now()"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "rollouts",
        sa.Column("rollout_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False, comment="the challenger"),
        sa.Column("champion", sa.Text(), nullable=False, comment="what it was measured against"),
        sa.Column("job_id", sa.BigInteger(), comment="the job that trained it, if one did"),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False, comment="of batches in shadow, of requests in canary"),
        sa.Column("failed_checks", sa.Integer(), server_default="0", nullable=False, comment="in a row"),
        sa.Column("passed_checks", sa.Integer(), server_default="0", nullable=False, comment="at this step"),
        sa.Column("step_since", _TIME, nullable=False),
        sa.Column(
            "checked_until", _TIME, nullable=False, comment="rows before it were looked at by a check that decided"
        ),
        sa.Column("outcome", sa.Text(), comment="how it ended; null while it is open"),
        sa.Column("reason", sa.Text(), comment="why it ended so"),
        _now("started_at"),
        sa.Column("ended_at", _TIME),
        sa.CheckConstraint("stage IN ('shadow', 'canary')", name=op.f("ck_rollouts_stage")),
        sa.CheckConstraint("outcome IN ('promoted', 'rolled_back')", name=op.f("ck_rollouts_outcome")),
        sa.ForeignKeyConstraint(["version"], ["model_versions.version"], name=op.f("fk_rollouts_version")),
        sa.ForeignKeyConstraint(["champion"], ["model_versions.version"], name=op.f("fk_rollouts_champion")),
        sa.PrimaryKeyConstraint("rollout_id", name=op.f("pk_rollouts")),
    )
    op.create_index(
        "uq_rollouts_open", "rollouts", ["model"], unique=True, postgresql_where=sa.text("outcome IS NULL")
    )
    op.create_table(
        "rollout_checks",
        sa.Column("check_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("rollout_id", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column(
            "reasons",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="each comparison with its outcome and words",
        ),
        _now("checked_at"),
        sa.CheckConstraint("outcome IN ('passed', 'failed', 'inconclusive')", name=op.f("ck_rollout_checks_outcome")),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.rollout_id"], name=op.f("fk_rollout_checks_rollout_id")),
        sa.PrimaryKeyConstraint("check_id", name=op.f("pk_rollout_checks")),
    )
    op.create_index("ix_rollout_checks_rollout", "rollout_checks", ["rollout_id"])
    op.create_table(
        "rollout_reports",
        sa.Column("rollout_id", sa.BigInteger(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("reported_at", _TIME, nullable=False),
        sa.CheckConstraint("state IN ('ready', 'refused', 'failed')", name=op.f("ck_rollout_reports_state")),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.rollout_id"], name=op.f("fk_rollout_reports_rollout_id")),
        sa.PrimaryKeyConstraint("rollout_id", "worker_id", name=op.f("pk_rollout_reports")),
    )
    op.create_table(
        "shadow_log",
        sa.Column("shadow_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("rollout_id", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("logged_at", _TIME, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("prediction", sa.Text(), comment="null where status is error"),
        sa.Column("confidence", sa.REAL()),
        sa.Column("model_ms", sa.REAL(), comment="of the batch"),
        sa.Column("champion_prediction", sa.Text(), nullable=False),
        sa.Column("champion_confidence", sa.REAL(), nullable=False),
        sa.Column("champion_model_ms", sa.REAL(), nullable=False),
        sa.CheckConstraint("status IN ('ok', 'error')", name=op.f("ck_shadow_log_status")),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.rollout_id"], name=op.f("fk_shadow_log_rollout_id")),
        sa.PrimaryKeyConstraint("shadow_id", name=op.f("pk_shadow_log")),
        sa.UniqueConstraint("rollout_id", "request_id", name="uq_shadow_log_request"),
    )


def downgrade() -> None:
    for table in ("shadow_log", "rollout_reports", "rollout_checks", "rollouts"):
        op.drop_table(table)
