"""Window summaries: what the worker adds up per time slot, and all that the drift detectors read."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from migrations.schema.metadata import TIMESTAMP, metadata, totals

# One row per (slot, model version, modality, partition, accumulator); a worker rewrites its own row with the sum so
# far in the transaction that writes the log rows it sums. `first_offset`, the first offset an accumulator saw, tells
# accumulators of one slot apart: a worker started again continues the slot in a row of its own. It is below zero where
# the log was reset since: a new log has the same offsets again.
summaries = Table(
    "summaries",
    metadata,
    Column("slot_start", TIMESTAMP, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("modality", Text, primary_key=True, comment="a modality's name, or 'fused'"),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("first_offset", BigInteger, primary_key=True),
    Column("slot_seconds", Integer, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("encoder_fingerprint", Text, nullable=False),
    Column("counts", JSONB, nullable=False, comment="rows by status or route"),
    Column("bins", LargeBinary, nullable=False, comment="migrations.schema.bins, layout in its metadata"),
    totals(),
    Column("updated_at", TIMESTAMP, nullable=False),
)
