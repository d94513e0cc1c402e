"""What a retrain job was trained and measured on, row by row."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from migrations.schema.metadata import metadata, one_of

# In the order of `place`, which decides the batches: an attempt that takes a job over trains on the very same rows.
job_rows = Table(
    "job_rows",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
    Column("place", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("origin", Text, nullable=False, comment="log: labelled traffic; original: what the champion was trained on"),
    Column("label", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("reason", Text, comment="why it was left out"),
    Column("digests", JSONB, nullable=False, comment="[key id, HMAC-SHA-256 in hexadecimal] by modality"),
    PrimaryKeyConstraint("job_id", "place"),
    Index("ix_job_rows_request", "request_id"),
    one_of("origin", "log", "original"),
    one_of("part", "training", "calibration", "measuring", "left_out"),
)
