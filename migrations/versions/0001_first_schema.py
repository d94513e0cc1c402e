"""first schema

Revision ID: 0001
Revises:
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.schema.partitions import ensure_partitions

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="SHA-256 over alertname and labels"),
        sa.Column("alertname", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("pending_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("firing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "clear_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when the condition no longer holds, while not yet resolved",
        ),
        sa.Column(
            "breached_windows",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="while pending: counted for `for`",
        ),
        sa.Column(
            "clear_windows",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="in a row, while not yet resolved",
        ),
        sa.Column(
            "last_window_end",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="the last window that moved this alert",
        ),
        sa.Column("inhibited_by", sa.Text(), nullable=True, comment="the alert that explains this one, while it does"),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("annotations", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("finding_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("severity IN ('page', 'ticket')", name=op.f("ck_alerts_severity")),
        sa.CheckConstraint("state IN ('pending', 'firing', 'resolved')", name=op.f("ck_alerts_state")),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
    )
    op.create_index("ix_alerts_recent", "alerts", ["pending_since"], unique=False)
    op.create_index(
        "uq_alerts_open", "alerts", ["fingerprint"], unique=True, postgresql_where=sa.text("state <> 'resolved'")
    )
    op.create_table(
        "audit_log",
        sa.Column("audit_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "consumer_offsets",
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("group_id", "topic", "partition", name=op.f("pk_consumer_offsets")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("error_detail", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name=op.f("pk_dead_letters")),
    )
    op.create_index(op.f("ix_dead_letters_recorded_at"), "dead_letters", ["recorded_at"], unique=False)
    op.create_table(
        "findings",
        sa.Column("finding_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("value", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("p_value", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("effect", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("interval_low", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("interval_high", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("threshold", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("n_reference", sa.Integer(), nullable=False),
        sa.Column("n_current", sa.Integer(), nullable=False),
        sa.Column("baseline_id", sa.BigInteger(), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('ok', 'drift', 'insufficient', 'no_data', 'no_baseline')", name=op.f("ck_findings_verdict")
        ),
        sa.PrimaryKeyConstraint("finding_id", name=op.f("pk_findings")),
        sa.UniqueConstraint(
            "window_start", "window_end", "model_version", "detector", "modality", "revision", name="uq_findings_slot"
        ),
    )
    op.create_index("ix_findings_series", "findings", ["detector", "modality", "window_end"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "spec",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="what to train on: base version, labelled rows, limits",
        ),
        sa.Column(
            "progress", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "result",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="champion and candidate measured on held-out rows; gate verdict",
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'trained', 'promoted', 'rejected', 'failed', 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "uq_jobs_active",
        "jobs",
        ["model"],
        unique=True,
        postgresql_where=sa.text("state IN ('queued', 'running', 'trained')"),
    )
    op.create_table(
        "labels",
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("annotator_digest", sa.LargeBinary(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.CheckConstraint("source IN ('human_review', 'ground_truth', 'user')", name=op.f("ck_labels_source")),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_received_at"), "labels", ["received_at"], unique=False)
    op.create_table(
        "modality_log",
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why the status is not present"),
        sa.Column("digest", sa.LargeBinary(), nullable=True, comment="HMAC-SHA-256 of the raw input, 32 bytes"),
        sa.Column("key_id", sa.Text(), nullable=True, comment="the key that made the digest"),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "quality", postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment="quality statistics by name"
        ),
        sa.CheckConstraint(
            "status IN ('present', 'missing', 'corrupt', 'rejected', 'stale')", name=op.f("ck_modality_log_status")
        ),
        sa.PrimaryKeyConstraint("request_id", "modality", "logged_at", name=op.f("pk_modality_log")),
        postgresql_partition_by="RANGE (logged_at)",
    )
    op.create_table(
        "model_versions",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False, comment="the folder that holds it, as the workers see it"),
        sa.Column("manifest_sha256", sa.Text(), nullable=False),
        sa.Column("class_names", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("modalities", postgresql.ARRAY(sa.Text()), nullable=False, comment="what the model expects"),
        sa.Column(
            "fingerprints",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="encoder fingerprint by modality",
        ),
        sa.Column("job_id", sa.BigInteger(), nullable=True, comment="the job that trained it, if one did"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_model_versions")),
    )
    op.create_table(
        "prediction_log",
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("produced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("schema_version", sa.SmallInteger(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "error_code",
            sa.Text(),
            nullable=True,
            comment="why status is error: the model's output is kept out of every statistic",
        ),
        sa.Column("prediction", sa.Text(), nullable=True, comment="the class name; null where status is error"),
        sa.Column("confidence", sa.REAL(), nullable=True),
        sa.Column(
            "probabilities",
            postgresql.ARRAY(sa.REAL()),
            nullable=True,
            comment="in the order of model_versions.class_names",
        ),
        sa.Column(
            "agreement",
            sa.Boolean(),
            nullable=True,
            comment="unimodal heads and fused prediction all agree; null unless fused",
        ),
        sa.Column("degraded", sa.Boolean(), nullable=False),
        sa.Column(
            "quarantine",
            sa.Text(),
            nullable=True,
            comment="why the row is kept out of windows, e.g. the producer's clock",
        ),
        sa.Column("queue_ms", sa.REAL(), nullable=False),
        sa.Column("preprocess_ms", sa.REAL(), nullable=False),
        sa.Column("encode_ms", sa.REAL(), nullable=False),
        sa.Column("fuse_ms", sa.REAL(), nullable=False),
        sa.Column("total_ms", sa.REAL(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('ok', 'error')", name=op.f("ck_prediction_log_status")),
        sa.PrimaryKeyConstraint("request_id", "logged_at", name=op.f("pk_prediction_log")),
        postgresql_partition_by="RANGE (logged_at)",
    )
    op.create_table(
        "request_ids",
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_request_ids")),
    )
    op.create_index(op.f("ix_request_ids_logged_at"), "request_ids", ["logged_at"], unique=False)
    op.create_table(
        "retrain_decisions",
        sa.Column("decision_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("retrain", sa.Boolean(), nullable=False),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_retrain_decisions")),
    )
    op.create_table(
        "summaries",
        sa.Column("slot_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False, comment="a modality's name, or 'fused'"),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("first_offset", sa.BigInteger(), nullable=False),
        sa.Column("slot_seconds", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("encoder_fingerprint", sa.Text(), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="rows by status or route"),
        sa.Column("bins", sa.LargeBinary(), nullable=False, comment="migrations.schema.bins, layout in its metadata"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "slot_start", "model_version", "modality", "topic", "partition", "first_offset", name=op.f("pk_summaries")
        ),
    )
    op.create_table(
        "baselines",
        sa.Column("baseline_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column(
            "facts",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="accuracy, calibration, class prior, names of statistics",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("origin IN ('checkpoint', 'period', 'file')", name=op.f("ck_baselines_origin")),
        sa.ForeignKeyConstraint(["model_version"], ["model_versions.version"], name=op.f("fk_baselines_model_version")),
        sa.PrimaryKeyConstraint("baseline_id", name=op.f("pk_baselines")),
        sa.UniqueConstraint("model_version", name=op.f("uq_baselines_model_version")),
    )
    op.create_table(
        "model_aliases",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["model_versions.version"], name=op.f("fk_model_aliases_version")),
        sa.PrimaryKeyConstraint("model", "alias", name=op.f("pk_model_aliases")),
    )
    op.create_table(
        "notifications",
        sa.Column("notification_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("alert_id", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it was suppressed or failed"),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("event IN ('firing', 'resolved')", name=op.f("ck_notifications_event")),
        sa.CheckConstraint("status IN ('due', 'sent', 'failed', 'suppressed')", name=op.f("ck_notifications_status")),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name=op.f("fk_notifications_alert_id")),
        sa.PrimaryKeyConstraint("notification_id", name=op.f("pk_notifications")),
        sa.UniqueConstraint("alert_id", "event", "receiver", name="uq_notifications_once"),
    )
    op.create_index(
        "ix_notifications_due",
        "notifications",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'due'"),
    )
    op.create_table(
        "baseline_summaries",
        sa.Column("baseline_id", sa.BigInteger(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("encoder_fingerprint", sa.Text(), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("bins", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["baseline_id"],
            ["baselines.baseline_id"],
            name=op.f("fk_baseline_summaries_baseline_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("baseline_id", "modality", name=op.f("pk_baseline_summaries")),
    )
    ensure_partitions(op.get_bind(), datetime.now(UTC).date(), tables=("prediction_log", "modality_log"))


def downgrade() -> None:
    op.drop_table("baseline_summaries")
    op.drop_index("ix_notifications_due", table_name="notifications", postgresql_where=sa.text("status = 'due'"))
    op.drop_table("notifications")
    op.drop_table("model_aliases")
    op.drop_table("baselines")
    op.drop_table("summaries")
    op.drop_table("retrain_decisions")
    op.drop_index(op.f("ix_request_ids_logged_at"), table_name="request_ids")
    op.drop_table("request_ids")
    op.drop_table("prediction_log")
    op.drop_table("model_versions")
    op.drop_table("modality_log")
    op.drop_index(op.f("ix_labels_received_at"), table_name="labels")
    op.drop_table("labels")
    op.drop_index(
        "uq_jobs_active", table_name="jobs", postgresql_where=sa.text("state IN ('queued', 'running', 'trained')")
    )
    op.drop_table("jobs")
    op.drop_index("ix_findings_series", table_name="findings")
    op.drop_table("findings")
    op.drop_index(op.f("ix_dead_letters_recorded_at"), table_name="dead_letters")
    op.drop_table("dead_letters")
    op.drop_table("consumer_offsets")
    op.drop_table("audit_log")
    op.drop_index("uq_alerts_open", table_name="alerts", postgresql_where=sa.text("state <> 'resolved'"))
    op.drop_index("ix_alerts_recent", table_name="alerts")
    op.drop_table("alerts")
