"""What the worker writes of every request: log rows, offsets, refusals; and the labels that come later.

No raw input is stored: a modality keeps an HMAC-SHA-256 digest with the id of the key that made it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

from migrations.schema.metadata import TIMESTAMP, created_at, metadata, one_of

REQUEST_ID = String(128)

# Unique over all partitions and workers: the first writer of a request id wins. Pruned with the log.
request_ids = Table(
    "request_ids",
    metadata,
    Column("request_id", REQUEST_ID, primary_key=True),
    Column("logged_at", TIMESTAMP, nullable=False, index=True),
)

# Partitioned by day of `logged_at` (the worker's clock, so that a producer's clock cannot miss a partition).
prediction_log = Table(
    "prediction_log",
    metadata,
    Column("request_id", REQUEST_ID, nullable=False),
    Column("logged_at", TIMESTAMP, nullable=False),
    Column("produced_at", TIMESTAMP, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("schema_version", SmallInteger, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("error_code", Text, comment="why status is error: the model's output is kept out of every statistic"),
    Column("prediction", Text, comment="the class name; null where status is error"),
    Column("confidence", REAL),
    Column("probabilities", ARRAY(REAL), comment="in the order of model_versions.class_names"),
    Column("agreement", Boolean, comment="unimodal heads and fused prediction all agree; null unless fused"),
    Column("degraded", Boolean, nullable=False),
    Column("quarantine", Text, comment="why the row is kept out of windows, e.g. the producer's clock"),
    Column("queue_ms", REAL, nullable=False),
    Column("preprocess_ms", REAL, nullable=False),
    Column("encode_ms", REAL, nullable=False),
    Column("fuse_ms", REAL, nullable=False),
    Column("total_ms", REAL, nullable=False),
    Column("correlation_id", Text),
    Column("source", Text),
    PrimaryKeyConstraint("request_id", "logged_at"),
    one_of("status", "ok", "error"),
    postgresql_partition_by="RANGE (logged_at)",
)

modality_log = Table(
    "modality_log",
    metadata,
    Column("request_id", REQUEST_ID, nullable=False),
    Column("modality", Text, nullable=False),
    Column("logged_at", TIMESTAMP, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, comment="why the status is not present"),
    Column("digest", LargeBinary, comment="HMAC-SHA-256 of the raw input, 32 bytes"),
    Column("key_id", Text, comment="the key that made the digest"),
    Column("captured_at", TIMESTAMP),
    Column("quality", JSONB, comment="quality statistics by name"),
    PrimaryKeyConstraint("request_id", "modality", "logged_at"),
    one_of("status", "present", "missing", "corrupt", "rejected", "stale"),
    postgresql_partition_by="RANGE (logged_at)",
)

# The next offset to read, moved in the transaction that writes the rows: the worker's only source of truth.
consumer_offsets = Table(
    "consumer_offsets",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("updated_at", TIMESTAMP, nullable=False),
    Column("topic_id", Uuid, comment="of the topic that was read; null where its broker gives none"),
)

# Where reading could not go on from the stored offset, recorded in the transaction that moves it. The monitor marks a
# row as it makes a finding of it, so that each is told once, however long the monitor was away.
offset_gaps = Table(
    "offset_gaps",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("detected_at", TIMESTAMP, primary_key=True),
    Column("kind", Text, nullable=False, comment="expired: its messages left the log; reset: the log starts again"),
    Column("stored_offset", BigInteger, nullable=False),
    Column("resumed_offset", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False, comment="offsets skipped; 0 for a reset"),
    Column("worker_id", Text, nullable=False),
    Column("seen_at", TIMESTAMP, comment="when the monitor made a finding of it"),
    Column("stored_topic_id", Uuid, comment="of the topic that was read before"),
    Column("topic_id", Uuid, comment="of the topic that reading goes on in"),
    one_of("kind", "expired", "reset"),
    Index("ix_offset_gaps_unseen", "detected_at", postgresql_where=text("seen_at IS NULL")),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),  # below zero: of a log that was reset since
    Column("error_code", Text, nullable=False),
    Column("error_detail", Text, nullable=False),
    created_at("recorded_at", index=True),
)

# A request id may be unknown (yet): labels come late, out of order and more than once. The newest labelled_at wins.
labels = Table(
    "labels",
    metadata,
    Column("request_id", REQUEST_ID, primary_key=True),
    Column("label", Text, nullable=False),
    Column("labelled_at", TIMESTAMP, nullable=False),
    Column("received_at", TIMESTAMP, nullable=False, index=True),
    Column("source", Text, nullable=False),
    Column("verdict", Text),
    Column("annotator_digest", LargeBinary),
    Column("key_id", Text),
    Column("sampling_probability", REAL, comment="with which the request was chosen to be labelled; null: not known"),
    Column("logged_at", TIMESTAMP, comment="of the request, by a trigger; null: it was not logged when the label came"),
    one_of("source", "human_review", "ground_truth", "user"),
    CheckConstraint("sampling_probability > 0 AND sampling_probability <= 1", name="sampling_probability"),
    Index("ix_labels_logged_at", "logged_at", postgresql_where=text("logged_at IS NOT NULL")),
    Index("ix_labels_early", "received_at", postgresql_where=text("logged_at IS NULL")),
)

LABEL_SLOT_SECONDS = 5

# How often labels of the answers that a version gave in a slot were new or said something new; triggers of `labels`
# count. Labels that came before their answers are not counted: no window was judged without them. Pruned with the log.
label_slots = Table(
    "label_slots",
    metadata,
    Column("slot_start", TIMESTAMP, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("changes", BigInteger, nullable=False),
)
