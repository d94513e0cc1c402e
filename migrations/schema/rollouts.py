"""A challenger on its way beside the champion: where it is, what was checked, what workers and shadow say."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, REAL

from migrations.schema.metadata import TIMESTAMP, created_at, metadata, one_of
from migrations.schema.prediction_log import REQUEST_ID

SHADOW, CANARY = "shadow", "canary"

# At most one of a model is open. Workers follow the open one; the monitor alone moves it.
rollouts = Table(
    "rollouts",
    metadata,
    Column("rollout_id", BigInteger, Identity(always=True), primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", ForeignKey("model_versions.version"), nullable=False, comment="the challenger"),
    Column("champion", ForeignKey("model_versions.version"), nullable=False, comment="what it was measured against"),
    Column("job_id", BigInteger, comment="the job that trained it, if one did"),
    Column("stage", Text, nullable=False),
    Column("percent", Integer, nullable=False, comment="of batches in shadow, of requests in canary"),
    Column("failed_checks", Integer, nullable=False, server_default="0", comment="in a row"),
    Column("passed_checks", Integer, nullable=False, server_default="0", comment="at this step"),
    Column("step_since", TIMESTAMP, nullable=False),
    Column("checked_until", TIMESTAMP, nullable=False, comment="rows before it were looked at by a check that decided"),
    Column("outcome", Text, comment="how it ended; null while it is open"),
    Column("reason", Text, comment="why it ended so"),
    created_at("started_at"),
    Column("ended_at", TIMESTAMP),
    one_of("stage", SHADOW, CANARY),
    one_of("outcome", "promoted", "rolled_back"),
    Index("uq_rollouts_open", "model", unique=True, postgresql_where=text("outcome IS NULL")),
)

rollout_checks = Table(
    "rollout_checks",
    metadata,
    Column("check_id", BigInteger, Identity(always=True), primary_key=True),
    Column("rollout_id", ForeignKey("rollouts.rollout_id"), nullable=False),
    Column("stage", Text, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reasons", JSONB, nullable=False, comment="each comparison with its outcome and words"),
    created_at("checked_at"),
    one_of("outcome", "passed", "failed", "inconclusive"),
    Index("ix_rollout_checks_rollout", "rollout_id"),
)

# What a worker says of the challenger that it was to load or run.
rollout_reports = Table(
    "rollout_reports",
    metadata,
    Column("rollout_id", ForeignKey("rollouts.rollout_id"), primary_key=True),
    Column("worker_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("reported_at", TIMESTAMP, nullable=False),
    one_of("state", "ready", "refused", "failed"),
)

# What a challenger in shadow says beside the champion's answer. No window, objective or drift test reads it. It is
# partitioned as the log is; no constraint spans partitions: writers see to it that a rollout has a request once.
shadow_log = Table(
    "shadow_log",
    metadata,
    Column("shadow_id", BigInteger, Identity(always=True), nullable=False),
    Column("rollout_id", ForeignKey("rollouts.rollout_id"), nullable=False),
    Column("request_id", REQUEST_ID, nullable=False),
    Column("logged_at", TIMESTAMP, nullable=False),
    Column("status", Text, nullable=False),
    Column("prediction", Text, comment="null where status is error"),
    Column("confidence", REAL),
    Column("model_ms", REAL, comment="of the batch"),
    Column("champion_prediction", Text, nullable=False),
    Column("champion_confidence", REAL, nullable=False),
    Column("champion_model_ms", REAL, nullable=False),
    one_of("status", "ok", "error"),
    PrimaryKeyConstraint("shadow_id", "logged_at"),
    UniqueConstraint("rollout_id", "request_id", "logged_at", name="uq_shadow_log_request"),
    postgresql_partition_by="RANGE (logged_at)",
)
