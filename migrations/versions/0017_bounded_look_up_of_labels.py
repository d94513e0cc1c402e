"""the view of labelled answers looks each label up by itself, also those whose request is not in the log

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# One row for each label: a query that takes the newest so many looks up so many. `OFFSET 0` keeps each step a look-up of
# its own: the time of the request by its id, then the row in the one day of the log that holds that time.
LABELLED = """
    SELECT l.received_at AS time, p.model, p.model_version, p.confidence, p.prediction = l.label AS correct
    FROM labels l
    LEFT JOIN LATERAL (
      SELECT r.request_id, r.logged_at FROM request_ids r WHERE r.request_id = l.request_id OFFSET 0) r ON true
    LEFT JOIN LATERAL (
      SELECT v.model, p.model_version, p.confidence, p.prediction
      FROM prediction_log p JOIN model_versions v ON v.version = p.model_version
      WHERE p.request_id = r.request_id AND p.logged_at = r.logged_at AND p.status = 'ok' AND p.quarantine IS NULL
        AND p.confidence IS NOT NULL
      OFFSET 0) p ON true"""

BEFORE = """
    SELECT l.received_at AS time, o.model, o.model_version, o.confidence, o.prediction = l.label AS correct
    FROM labels l CROSS JOIN LATERAL (
      SELECT v.model, p.model_version, p.confidence, p.prediction
      FROM request_ids r JOIN prediction_log p ON p.request_id = r.request_id AND p.logged_at = r.logged_at
        JOIN model_versions v ON v.version = p.model_version
      WHERE r.request_id = l.request_id AND p.status = 'ok' AND p.quarantine IS NULL AND p.confidence IS NOT NULL
      OFFSET 0) o"""


def upgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW grafana_labelled AS {LABELLED}")


def downgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW grafana_labelled AS {BEFORE}")
