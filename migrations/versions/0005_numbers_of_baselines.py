"""numbers of deleted baselines stay used

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Deletions are known by the audit log alone.
COUNTED = """
UPDATE model_versions v SET last_baseline_number = greatest(
  (SELECT coalesce(max(b.number), 0) FROM baselines b WHERE b.model_version = v.version),
  (SELECT coalesce(max(substring(a.subject FROM '[0-9]+$')::integer), 0) FROM audit_log a
   WHERE a.action = 'baseline_deleted'
     AND a.subject = 'baseline ' || v.version || ' ' || substring(a.subject FROM '[0-9]+$'))
)
"""


def upgrade() -> None:
    op.add_column(
        "model_versions",
        sa.Column(
            "last_baseline_number",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="the highest number that one of its baselines ever had",
        ),
    )
    op.execute(COUNTED)


def downgrade() -> None:
    op.drop_column("model_versions", "last_baseline_number")
