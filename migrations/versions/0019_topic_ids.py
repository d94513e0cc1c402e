"""topic ids beside stored offsets

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

COLUMNS = (
    ("consumer_offsets", "topic_id", "of the topic that was read; null where its broker gives none"),
    ("offset_gaps", "stored_topic_id", "of the topic that was read before"),
    ("offset_gaps", "topic_id", "of the topic that reading goes on in"),
)
BEFORE = "expired: its messages left the log; reset: the log ends before it"
AFTER = "expired: its messages left the log; reset: the log starts again"


def upgrade() -> None:
    for table, name, comment in COLUMNS:
        op.add_column(table, sa.Column(name, sa.Uuid(), nullable=True, comment=comment))
    op.alter_column("offset_gaps", "kind", existing_type=sa.Text(), comment=AFTER, existing_comment=BEFORE)


def downgrade() -> None:
    op.alter_column("offset_gaps", "kind", existing_type=sa.Text(), comment=BEFORE, existing_comment=AFTER)
    for table, name, _comment in reversed(COLUMNS):
        op.drop_column(table, name)
