"""Model versions and baselines; findings, alerts and notifications; retrain decisions and jobs; the audit log."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB

from migrations.schema.metadata import TIMESTAMP, created_at, metadata, one_of, totals


def _id(name: str) -> Column[int]:
    return Column(name, BigInteger, Identity(always=True), primary_key=True)


model_versions = Table(
    "model_versions",
    metadata,
    Column("version", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("checkpoint", Text, nullable=False, comment="the folder that holds it, as the workers see it"),
    Column("manifest_sha256", Text, nullable=False),
    Column("class_names", ARRAY(Text), nullable=False),
    Column("modalities", ARRAY(Text), nullable=False, comment="what the model expects"),
    Column("fingerprints", JSONB, nullable=False, comment="encoder fingerprint by modality"),
    Column("job_id", BigInteger, comment="the job that trained it, if one did"),
    Column(
        "last_baseline_number",
        Integer,
        nullable=False,
        server_default="0",
        comment="the highest number that one of its baselines ever had",
    ),
    created_at(),
)

# `champion` is the version that answers. Promotion is a compare-and-set of this row.
model_aliases = Table(
    "model_aliases",
    metadata,
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", ForeignKey("model_versions.version"), nullable=False),
    Column("updated_at", TIMESTAMP, nullable=False),
)

# A version may have several. The pinned one is compared with; else the first, which came with the version.
baselines = Table(
    "baselines",
    metadata,
    _id("baseline_id"),
    Column("model_version", ForeignKey("model_versions.version"), nullable=False),
    Column("number", Integer, nullable=False, server_default="1", comment="counts a version's baselines from 1"),
    Column("origin", Text, nullable=False),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),
    Column("period_start", TIMESTAMP, comment="of a baseline made from logged traffic"),
    Column("period_end", TIMESTAMP),
    Column("facts", JSONB, nullable=False, comment="accuracy, calibration, class prior, names of statistics"),
    Column(
        "thresholds",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="effects learnt from the baseline's own windows, by detector and modality",
    ),
    Column("maps", LargeBinary, comment="the frozen maps, where no checkpoint brings them"),
    Column("created_by", Text, nullable=False, server_default="worker"),
    created_at(),
    UniqueConstraint("model_version", "number", name="uq_baselines_number"),
    Index("uq_baselines_pinned", "model_version", unique=True, postgresql_where=text("pinned")),
    one_of("origin", "checkpoint", "period", "file"),
)

EVERY_HOUR = -1  # rows of the whole day

baseline_summaries = Table(
    "baseline_summaries",
    metadata,
    Column("baseline_id", ForeignKey("baselines.baseline_id", ondelete="CASCADE"), primary_key=True),
    Column("modality", Text, primary_key=True),
    Column("hour", SmallInteger, primary_key=True, server_default="-1", comment="of the day in UTC; -1: the whole day"),
    Column("encoder_fingerprint", Text, nullable=False),
    Column("counts", JSONB, nullable=False),
    Column("bins", LargeBinary, nullable=False),
    totals(),
)

# Which monitor leads. A new leader raises the epoch; transactions of an older one are refused.
leaders = Table(
    "leaders",
    metadata,
    Column("model", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("since", TIMESTAMP, nullable=False),
)

# What the sequential monitor remembers of one series of findings; bounded, and enough to go on after a restart.
sequential_state = Table(
    "sequential_state",
    metadata,
    Column("model", Text, primary_key=True),
    Column("detector", Text, primary_key=True),
    Column("modality", Text, primary_key=True),
    Column("baseline_id", BigInteger, comment="what the series was compared with; another one starts it anew"),
    Column("window_end", TIMESTAMP, nullable=False, comment="the last window it took in"),
    Column("state", JSONB, nullable=False),
    Column("updated_at", TIMESTAMP, nullable=False),
)

findings = Table(
    "findings",
    metadata,
    _id("finding_id"),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("detector", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("window_start", TIMESTAMP, nullable=False),
    Column("window_end", TIMESTAMP, nullable=False),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("verdict", Text, nullable=False),
    Column("value", DOUBLE_PRECISION),
    Column("p_value", DOUBLE_PRECISION),
    Column("effect", DOUBLE_PRECISION),
    Column("interval_low", DOUBLE_PRECISION),
    Column("interval_high", DOUBLE_PRECISION),
    Column("threshold", DOUBLE_PRECISION),
    Column("n_reference", Integer, nullable=False),
    Column("n_current", Integer, nullable=False),
    Column("baseline_id", BigInteger),
    Column("explanation", Text, nullable=False),
    Column("details", JSONB, nullable=False),
    created_at(),
    UniqueConstraint(
        "window_start",
        "window_end",
        "model_version",
        "detector",
        "modality",
        "revision",
        name="uq_findings_slot",
    ),
    Index("ix_findings_series", "detector", "modality", "window_end"),
    one_of("verdict", "ok", "drift", "insufficient", "no_data", "no_baseline"),
)

# What people hold back: alerts that equal every matcher, from start to end or until someone ends it early.
silences = Table(
    "silences",
    metadata,
    _id("silence_id"),
    Column("model", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("matchers", JSONB, nullable=False, comment="label to value; all must be equal"),
    Column("starts_at", TIMESTAMP, nullable=False),
    Column("ends_at", TIMESTAMP, nullable=False),
    Column("owner", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_at", TIMESTAMP, comment="ended early; it stays as it was otherwise"),
    created_at(),
    one_of("kind", "silence", "maintenance"),
    CheckConstraint("ends_at > starts_at AND ends_at <= starts_at + interval '30 days'", name="length"),
    Index("ix_silences_ends", "model", "ends_at"),
)

alerts = Table(
    "alerts",
    metadata,
    _id("alert_id"),
    Column("fingerprint", Text, nullable=False, comment="SHA-256 over alertname and labels"),
    Column("alertname", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("pending_since", TIMESTAMP, nullable=False),
    Column("firing_since", TIMESTAMP),
    Column("resolved_at", TIMESTAMP),
    Column("clear_since", TIMESTAMP, comment="since when the condition no longer holds, while not yet resolved"),
    Column("breached_windows", Integer, nullable=False, server_default="0", comment="while pending: counted for `for`"),
    Column("clear_windows", Integer, nullable=False, server_default="0", comment="in a row, while not yet resolved"),
    Column("last_window_end", TIMESTAMP, nullable=False, comment="the last window that moved this alert"),
    Column("inhibited_by", Text, comment="the alert that explains this one, while it does"),
    Column("silenced_by", ForeignKey("silences.silence_id"), comment="what holds it back, until its end has been told"),
    Column("acknowledged_by", Text, comment="who looks after it; it is not repeated"),
    Column("acknowledged_at", TIMESTAMP),
    Column("labels", JSONB, nullable=False),
    Column("annotations", JSONB, nullable=False),
    Column("finding_id", BigInteger),
    one_of("severity", "page", "ticket"),
    one_of("state", "pending", "firing", "resolved"),
    Index("uq_alerts_open", "fingerprint", unique=True, postgresql_where=text("state <> 'resolved'")),
    Index("ix_alerts_recent", "pending_since"),
)

# The outbox and the notification log in one: a row is written with the state change that it tells of.
notifications = Table(
    "notifications",
    metadata,
    _id("notification_id"),
    Column("alert_id", ForeignKey("alerts.alert_id"), nullable=False),
    Column("event", Text, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("round", Integer, nullable=False, server_default="0", comment="0, then one more each time it is said again"),
    Column("group_key", Text, comment="rows with one key and one time are one message"),
    Column("status", Text, nullable=False),
    Column("reason", Text, comment="why it is sent, was suppressed or failed"),
    Column("payload", JSONB, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", TIMESTAMP, nullable=False),
    Column("sent_at", TIMESTAMP),
    created_at(),
    UniqueConstraint("alert_id", "event", "receiver", "round", name="uq_notifications_once"),
    Index("ix_notifications_group", "receiver", "group_key"),
    Index("ix_notifications_due", "next_attempt_at", postgresql_where=text("status = 'due'")),
    one_of("event", "firing", "resolved"),
    one_of("status", "due", "sent", "failed", "suppressed"),
)

# Every decision, "no" too, with its reasons. A "no" for the same reasons moves `confirmed_at` instead of adding a row.
retrain_decisions = Table(
    "retrain_decisions",
    metadata,
    _id("decision_id"),
    Column("model", Text, nullable=False),
    Column("model_version", Text, comment="the champion it was about"),
    Column("retrain", Boolean, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column(
        "evidence",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="ids of the findings and alerts it rests on",
    ),
    Column("job_id", BigInteger),
    created_at("decided_at"),
    Column("confirmed_at", TIMESTAMP, comment="when it was last decided so, with the reasons' words of then"),
    Index("ix_retrain_decisions_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
)

jobs = Table(
    "jobs",
    metadata,
    _id("job_id"),
    Column("model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("spec", JSONB, nullable=False, comment="what to train on: base version, labelled rows, limits"),
    Column("progress", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("result", JSONB, comment="champion and candidate measured on held-out rows; gate verdict"),
    Column("error", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("claimed_by", Text),
    Column("lease_until", TIMESTAMP),
    Column("deadline", TIMESTAMP, nullable=False),
    Column("lineage", JSONB, comment="what it trains with: code, data by digest and counts, stores, settings"),
    Column("launched_attempt", Integer, comment="the attempt that a trainer was last sent for, where one is sent"),
    Column("launched_at", TIMESTAMP),
    Column("launch", JSONB, comment="launcher, and what it calls what it started; or why it could not"),
    Column(
        "compute_seconds",
        DOUBLE_PRECISION,
        nullable=False,
        server_default="0",
        comment="of all attempts, each times its processes, up to the last heartbeat",
    ),
    Column("tracking", JSONB, comment="the run that MLflow keeps of it: where, and id"),
    created_at(),
    Column("started_at", TIMESTAMP),
    Column("finished_at", TIMESTAMP),
    one_of("state", "queued", "running", "trained", "promoted", "rejected", "failed", "cancelled"),
    Index(
        "uq_jobs_active",
        "model",
        unique=True,
        postgresql_where=text("state IN ('queued', 'running', 'trained')"),
    ),
)

audit_log = Table(
    "audit_log",
    metadata,
    _id("audit_id"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", JSONB, nullable=False),
    created_at("at"),
    # a trigger fills these in, whatever was given: migrations/schema/audit_chain.py
    Column("number", BigInteger, nullable=False, server_default="0", comment="of the row in the chain, from 1"),
    Column("login", Text, nullable=False, server_default="", comment="the role whose connection wrote it"),
    Column("previous", LargeBinary, nullable=False, server_default="", comment="digest of the row before"),
    Column("digest", LargeBinary, nullable=False, server_default=""),
    Index("uq_audit_log_number", "number", unique=True),
    Index("ix_audit_log_action", "action", "at"),
)
