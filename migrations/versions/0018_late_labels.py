"""when a label's request was logged, and how often labels changed what is known of a slot's answers

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

AS_OWNER = "SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp"
# As its owner: whoever writes labels need not be able to read the log.
PLACE = f"""
CREATE FUNCTION label_placed() RETURNS trigger LANGUAGE plpgsql {AS_OWNER} AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.logged_at IS NULL THEN
    NEW.logged_at := OLD.logged_at;
  END IF;
  IF NEW.logged_at IS NULL THEN
    SELECT r.logged_at INTO NEW.logged_at FROM request_ids r WHERE r.request_id = NEW.request_id;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER label_placed BEFORE INSERT OR UPDATE ON labels FOR EACH ROW EXECUTE FUNCTION label_placed();
"""
# Writers take turns, from before they lock a label, so that none waits for another in a circle.
TAKE_TURNS = """
CREATE FUNCTION label_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('fusionwatch.labels'));
  RETURN NULL;
END $$;
CREATE TRIGGER label_turn BEFORE INSERT OR UPDATE ON labels FOR EACH STATEMENT EXECUTE FUNCTION label_turn();
"""
# Each answer is looked up by itself: the planner must not read the whole log. Answers are those that detectors take.
COUNT = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql {as_owner} AS $$
BEGIN
  INSERT INTO label_slots AS known (slot_start, model_version, changes)
  SELECT date_bin('5 seconds', n.logged_at, 'epoch'), o.model_version, count(*)
  FROM {changed} CROSS JOIN LATERAL (
    SELECT p.model_version FROM prediction_log p
    WHERE p.request_id = n.request_id AND p.logged_at = n.logged_at
      AND p.status = 'ok' AND p.confidence IS NOT NULL AND p.quarantine IS NULL
    OFFSET 0) o
  WHERE {condition}
  GROUP BY 1, 2
  ON CONFLICT (slot_start, model_version) DO UPDATE SET changes = known.changes + excluded.changes;
  RETURN NULL;
END $$;
CREATE TRIGGER {name} AFTER {event} ON labels {transition} FOR EACH STATEMENT EXECUTE FUNCTION {name}();
"""
ADDED = COUNT.format(
    name="label_added",
    as_owner=AS_OWNER,
    changed="fresh n",
    condition="n.logged_at IS NOT NULL",
    event="INSERT",
    transition="REFERENCING NEW TABLE AS fresh",
)
SAID = "({0}.label, {0}.source, {0}.verdict, {0}.sampling_probability)"
CORRECTED = COUNT.format(
    name="label_corrected",
    as_owner=AS_OWNER,
    changed="fresh n JOIN former b ON b.request_id = n.request_id",
    condition=f"{SAID.format('n')} IS DISTINCT FROM {SAID.format('b')}",
    event="UPDATE",
    transition="REFERENCING OLD TABLE AS former NEW TABLE AS fresh",
)
INDEXES = {
    "ix_labels_logged_at": ("logged_at", "logged_at IS NOT NULL"),
    "ix_labels_early": ("received_at", "logged_at IS NULL"),
}


def upgrade() -> None:
    # first what may find no lock, so that it can be run again: what came of an index that was given up is in the way
    with op.get_context().autocommit_block():
        op.execute(
            "ALTER TABLE labels ADD COLUMN IF NOT EXISTS logged_at timestamptz; COMMENT ON COLUMN labels.logged_at IS "
            "'of the request, by a trigger; null: it was not logged when the label came'"
        )
        for name, (column, where) in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.create_index(name, "labels", [column], postgresql_where=sa.text(where), postgresql_concurrently=True)
    op.create_table(
        "label_slots",
        sa.Column("slot_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot_start", "model_version", name=op.f("pk_label_slots")),
    )
    for function in (TAKE_TURNS, PLACE, ADDED, CORRECTED):
        op.execute(function)


def downgrade() -> None:
    for name in ("label_turn", "label_placed", "label_added", "label_corrected"):
        op.execute(f"DROP TRIGGER {name} ON labels")
        op.execute(f"DROP FUNCTION {name}")
    for name in INDEXES:
        op.drop_index(name, table_name="labels")
    op.drop_column("labels", "logged_at")
    op.drop_table("label_slots")
