"""the shadow log by day, so that its old days can be dropped like the log's

Revision ID: 0013
Revises: 0012
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from migrations.schema.partitions import DAYS_AHEAD, ensure_partitions

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_KEY = ["rollout_id", "request_id"]
_COLUMNS = (
    "shadow_id, rollout_id, request_id, logged_at, status, prediction, confidence, model_ms, champion_prediction, "
    "champion_confidence, champion_model_ms"
)


def _create(*, key: list[str], unique: list[str], **options: Any) -> None:
    op.create_table(
        "shadow_log",
        sa.Column("shadow_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("rollout_id", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("prediction", sa.Text(), comment="null where status is error"),
        sa.Column("confidence", sa.REAL()),
        sa.Column("model_ms", sa.REAL(), comment="of the batch"),
        sa.Column("champion_prediction", sa.Text(), nullable=False),
        sa.Column("champion_confidence", sa.REAL(), nullable=False),
        sa.Column("champion_model_ms", sa.REAL(), nullable=False),
        sa.CheckConstraint("status IN ('ok', 'error')", name=op.f("ck_shadow_log_status")),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.rollout_id"], name=op.f("fk_shadow_log_rollout_id")),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_shadow_log")),
        sa.UniqueConstraint(*unique, name="uq_shadow_log_request"),
        **options,
    )


def _set_aside() -> None:
    """The table under another name; names of constraints are taken for a whole schema."""
    op.rename_table("shadow_log", "former_shadow_log")
    for name in ("uq_shadow_log_request", "pk_shadow_log"):
        op.drop_constraint(name, "former_shadow_log")
    op.execute("ALTER SEQUENCE shadow_log_shadow_id_seq RENAME TO former_shadow_log_shadow_id_seq")


def _take_over() -> None:
    op.execute(
        f"INSERT INTO shadow_log ({_COLUMNS}) OVERRIDING SYSTEM VALUE SELECT {_COLUMNS} FROM former_shadow_log; "
        "SELECT setval('shadow_log_shadow_id_seq', coalesce(max(shadow_id), 0) + 1, false) FROM former_shadow_log"
    )
    op.drop_table("former_shadow_log")


def upgrade() -> None:
    _set_aside()
    _create(
        key=["shadow_id", "logged_at"], unique=[*_KEY, "logged_at"], postgresql_partition_by="RANGE (logged_at)"
    )
    today = datetime.now(UTC).date()
    oldest = op.get_bind().scalar(sa.text("SELECT min((logged_at AT TIME ZONE 'utc')::date) FROM former_shadow_log"))
    first = min(oldest or today, today)
    ensure_partitions(op.get_bind(), first, (today - first).days + DAYS_AHEAD, tables=("shadow_log",))
    _take_over()


def downgrade() -> None:
    _set_aside()
    _create(key=["shadow_id"], unique=_KEY)
    _take_over()
