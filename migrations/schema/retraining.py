"""What leads to a retrain: people's approvals, and the answers that people are asked to label."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB

from migrations.schema.metadata import TIMESTAMP, created_at, metadata
from migrations.schema.prediction_log import REQUEST_ID

retrain_approvals = Table(
    "retrain_approvals",
    metadata,
    Column("approval_id", BigInteger, Identity(always=True), primary_key=True),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False, comment="the champion that is to be retrained"),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("expires_at", TIMESTAMP, nullable=False),
    Column("job_id", BigInteger, comment="the job it led to; one job uses it up"),
    created_at(),
    Index("ix_retrain_approvals_open", "model", "expires_at"),
)

# A round draws answers of one stretch of time, its frame. Frames of a version do not overlap, so that an answer's
# probability of being asked for is that of its round alone.
label_rounds = Table(
    "label_rounds",
    metadata,
    Column("round_id", BigInteger, Identity(always=True), primary_key=True),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("frame_start", TIMESTAMP, nullable=False, comment="answers logged from then"),
    Column("frame_end", TIMESTAMP, nullable=False, comment="up to, not including, then"),
    Column("seed", BigInteger, nullable=False, comment="the draw can be done again"),
    Column("strata", JSONB, nullable=False, comment="by name: rows of the frame, rows drawn"),
    Column("reasons", JSONB, nullable=False, comment="why labels are needed"),
    created_at(),
    Column("expires_at", TIMESTAMP, nullable=False),
    CheckConstraint("frame_end > frame_start", name="frame"),
    UniqueConstraint("model", "model_version", "frame_end", name="uq_label_rounds_frame"),
)

# An entry is closed by the label of its request, wherever that comes from; nothing is written here then.
label_queue = Table(
    "label_queue",
    metadata,
    Column("request_id", REQUEST_ID, primary_key=True),
    Column("round_id", ForeignKey("label_rounds.round_id", ondelete="CASCADE"), nullable=False),
    Column("place", Integer, nullable=False, comment="in random order: any number of the first are a fair sample too"),
    Column("stratum", Text, nullable=False),
    Column("probability", DOUBLE_PRECISION, nullable=False, comment="with which it was drawn"),
    UniqueConstraint("round_id", "place", name="uq_label_queue_place"),
    CheckConstraint("probability > 0 AND probability <= 1", name="probability"),
)
