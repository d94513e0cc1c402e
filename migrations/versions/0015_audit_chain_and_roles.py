"""the audit log as a chain of digests, audited reads of embeddings, and the roles of the programs

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ROLES = (
    "fusionwatch_owner",
    "fusionwatch_retention",
    "fusionwatch_writer",
    "fusionwatch_trainer",
    "fusionwatch_monitor",
    "fusionwatch_embeddings",
    "fusionwatch_grafana_ro",
)
# Roles are of the whole cluster: another database may have made them already, or make them at this moment.
MAKE_ROLES = """
DO $$
DECLARE
  wanted text;
  missing text[] := ARRAY(SELECT name FROM unnest(ARRAY[{names}]) name
                          WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name));
BEGIN
  FOREACH wanted IN ARRAY missing LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE EXCEPTION 'the roles % do not exist and % may not make them', array_to_string(missing, ', '), current_user
    USING ERRCODE = 'insufficient_privilege',
      HINT = 'Migrate as a role with CREATEROLE, or have an administrator run CREATE ROLE <name> NOLOGIN for each.';
END $$;
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['fusionwatch_owner', 'fusionwatch_retention'] LOOP
    IF NOT pg_has_role(current_user, wanted, 'USAGE') THEN
      EXECUTE format('GRANT %I TO %I', wanted, current_user);
    END IF;
  END LOOP;
  -- the owner migrates the logs too
  IF NOT pg_has_role('fusionwatch_owner', 'fusionwatch_retention', 'USAGE') THEN
    GRANT fusionwatch_retention TO fusionwatch_owner;
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE EXCEPTION 'the tables are to belong to fusionwatch_owner and fusionwatch_retention, which % is no member of',
    current_user USING ERRCODE = 'insufficient_privilege',
      HINT = 'Have an administrator run GRANT fusionwatch_owner, fusionwatch_retention TO the role that migrates.';
END $$;
"""

DIGEST = """
CREATE FUNCTION audit_digest(previous bytea, VARIADIC fields text[]) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT sha256(previous || string_agg(int4send(octet_length(convert_to(field, 'UTF8'))) || convert_to(field, 'UTF8'),
                                       ''::bytea ORDER BY place))
  FROM unnest(fields) WITH ORDINALITY AS of_row (field, place)
$$;
"""
OF_ROW = """audit_digest({row}.previous, {row}.number::text, (extract(epoch FROM {row}.at) * 1000000)::bigint::text,
    {row}.actor, {row}.action, {row}.subject, {row}.details::text, {row}.login)"""
# As its owner: who may append to the log need not be able to move the head.
LINK = f"""
CREATE FUNCTION audit_link() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  head audit_head;
BEGIN
  SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
  NEW.number := head.number + 1;
  NEW.previous := head.digest;
  NEW.login := session_user;
  NEW.digest := {OF_ROW.format(row="NEW")};
  UPDATE audit_head SET number = NEW.number, digest = NEW.digest;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_link BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_link();
"""
KEEP = """
CREATE FUNCTION audit_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_kept();
"""
LINK_OLD_ROWS = f"""
DO $$
DECLARE
  one audit_log;
  head audit_head;
BEGIN
  SELECT * INTO STRICT head FROM audit_head;
  FOR one IN SELECT * FROM audit_log ORDER BY audit_id LOOP
    one.number := head.number + 1;
    one.previous := head.digest;
    one.login := 'unknown';
    one.digest := {OF_ROW.format(row="one")};
    UPDATE audit_log SET number = one.number, previous = one.previous, login = one.login, digest = one.digest
    WHERE audit_id = one.audit_id;
    head.number := one.number;
    head.digest := one.digest;
  END LOOP;
  UPDATE audit_head SET number = head.number, digest = head.digest;
END $$;
"""
# In two steps, so that a reader who rolls back has read nothing: the second takes only what is committed.
READ = """
CREATE FUNCTION announce_read(
  reader text, reason text, of_version text, of_modality text, since timestamptz, until timestamptz
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  announced bigint;
BEGIN
  IF coalesce(btrim(reader), '') = '' OR coalesce(btrim(reason), '') = '' THEN
    RAISE EXCEPTION 'who reads embeddings, and why, must be given' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO audit_log (actor, action, subject, details)
  VALUES (reader, 'embeddings_read', of_version || ' ' || of_modality,
          jsonb_build_object('reason', reason, 'version', of_version, 'modality', of_modality, 'since', since,
                             'until', until, 'transaction', pg_current_xact_id()::text))
  RETURNING number INTO announced;
  RETURN announced;
END $$;
CREATE FUNCTION read_embeddings(announced bigint)
RETURNS TABLE (slot_start timestamptz, encoder_fingerprint text, bins bytea)
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
  RETURN QUERY SELECT s.slot_start, s.encoder_fingerprint, s.bins FROM summaries s
  WHERE s.model_version = wanted->>'version' AND s.modality = wanted->>'modality'
    AND s.slot_start >= (wanted->>'since')::timestamptz AND s.slot_start < (wanted->>'until')::timestamptz
  ORDER BY s.slot_start, s.topic, s.partition, s.first_offset;
END $$;
REVOKE ALL ON FUNCTION announce_read, read_embeddings FROM PUBLIC;
"""
COMMENTS = {
    "number": "of the row in the chain, from 1",
    "login": "the role whose connection wrote it",
    "previous": "digest of the row before",
    "digest": None,
}
TYPES = {"number": sa.BigInteger, "login": sa.Text, "previous": sa.LargeBinary, "digest": sa.LargeBinary}


def upgrade() -> None:
    op.execute(MAKE_ROLES.format(names=", ".join(f"'{name}'" for name in ROLES)))
    op.create_table(
        "audit_head",
        sa.Column("single", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("single", name=op.f("ck_audit_head_single")),
        sa.PrimaryKeyConstraint("single", name=op.f("pk_audit_head")),
    )
    op.execute("INSERT INTO audit_head (number, digest) VALUES (0, decode(repeat('00', 32), 'hex'))")
    # nobody may append between the rows that are linked here and the trigger
    op.execute("LOCK TABLE audit_log IN SHARE ROW EXCLUSIVE MODE")
    for name, kind in TYPES.items():
        # rows that older programs write need not name them: the trigger fills them in
        default = "0" if name == "number" else ""
        op.add_column(
            "audit_log", sa.Column(name, kind(), server_default=default, nullable=False, comment=COMMENTS[name])
        )
    op.execute(DIGEST)
    op.execute(LINK_OLD_ROWS)
    op.create_index("uq_audit_log_number", "audit_log", ["number"], unique=True)
    op.create_index("ix_audit_log_action", "audit_log", ["action", "at"])
    op.execute(LINK)
    op.execute(KEEP)
    op.execute(READ)


def downgrade() -> None:
    """The roles stay: they are the cluster's, and other databases may use them."""
    op.execute("DROP FUNCTION announce_read, read_embeddings")
    op.execute("DROP TRIGGER audit_kept ON audit_log")
    op.execute("DROP TRIGGER audit_link ON audit_log")
    for index in ("ix_audit_log_action", "uq_audit_log_number"):
        op.drop_index(index, table_name="audit_log")
    for name in TYPES:
        op.drop_column("audit_log", name)
    for name in ("audit_kept", "audit_link", "audit_digest"):
        op.execute(f"DROP FUNCTION {name}")
    op.drop_table("audit_head")
