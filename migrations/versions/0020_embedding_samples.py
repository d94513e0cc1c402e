"""a few whole embeddings of every hour, class and route, and their audited reading

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

READ = """
CREATE FUNCTION read_embedding_samples(announced bigint)
RETURNS TABLE (slot_start timestamptz, request_id varchar, encoder_fingerprint text, prediction text, route text,
               embedding bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  wanted jsonb;
BEGIN
  SELECT details INTO wanted FROM audit_log
  WHERE number = announced AND action = 'embeddings_read' AND login = session_user AND at > now() - interval '1 hour'
    AND pg_xact_status((details->>'transaction')::xid8) = 'committed';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no committed announce_read of this login within the last hour has the number %', announced
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN QUERY SELECT r.slot_start, r.request_id, r.encoder_fingerprint, r.prediction, r.route, r.embedding FROM (
    SELECT s.*, row_number() OVER (stratum ORDER BY s.draw, s.request_id) AS place, min(s.kept) OVER stratum AS sure
    FROM embedding_samples s
    WHERE s.model_version = wanted->>'version' AND s.modality = wanted->>'modality'
      AND s.slot_start >= (wanted->>'since')::timestamptz AND s.slot_start < (wanted->>'until')::timestamptz
    WINDOW stratum AS (PARTITION BY s.slot_start, s.prediction, s.route)
  ) r WHERE r.place <= r.sure
  ORDER BY r.slot_start, r.prediction, r.route, r.draw, r.request_id;
END $$;
REVOKE ALL ON FUNCTION read_embedding_samples FROM PUBLIC;
"""


def upgrade() -> None:
    op.create_table(
        "embedding_samples",
        sa.Column(
            "slot_start",
            sa.TIMESTAMP(timezone=True),
            nullable=False,
            comment="the hour that the request was produced in",
        ),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False, comment="a modality's name, or 'fused'"),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("encoder_fingerprint", sa.Text(), nullable=False),
        sa.Column("prediction", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column(
            "draw", sa.Double(), nullable=False, comment="in [0, 1) out of the id; the sample are the smallest"
        ),
        sa.Column(
            "kept",
            sa.SmallInteger(),
            nullable=False,
            comment="so many of an hour, class and route are surely there",
        ),
        sa.Column("embedding", sa.LargeBinary(), nullable=False, comment="float16, little-endian"),
        sa.PrimaryKeyConstraint(
            "slot_start", "model_version", "modality", "request_id", name=op.f("pk_embedding_samples")
        ),
    )
    # float16 does not compress: kept out of line, a look at the other columns does not read it
    op.execute("ALTER TABLE embedding_samples ALTER COLUMN embedding SET STORAGE EXTERNAL")
    op.execute(READ)


def downgrade() -> None:
    op.execute("DROP FUNCTION read_embedding_samples")
    op.drop_table("embedding_samples")
