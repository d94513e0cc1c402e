"""the computing time of every attempt of a job, and the run that a tracker keeps of it

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column(
            "compute_seconds",
            sa.DOUBLE_PRECISION(),
            server_default="0",
            nullable=False,
            comment="of all attempts, each times its processes, up to the last heartbeat",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "tracking", postgresql.JSONB(astext_type=sa.Text()), comment="the run that MLflow keeps of it: where, and id"
        ),
    )
    # what is known of jobs from before: the time that their result tells, else that from start to end
    op.execute(
        "UPDATE jobs SET compute_seconds = greatest(0, coalesce((result #>> '{training,seconds}')::double precision,"
        " extract(epoch FROM coalesce(finished_at, now()) - started_at))) WHERE started_at IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_column("jobs", "tracking")
    op.drop_column("jobs", "compute_seconds")
