"""What objectives are judged by: events counted over time, and what was last said of each."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from migrations.schema.metadata import TIMESTAMP, metadata

# Added up from summaries and dead letters, so that a month is read without reading a month of those.
slo_counts = Table(
    "slo_counts",
    metadata,
    Column("model", Text, primary_key=True),
    Column("sli", Text, primary_key=True, comment="what is counted, with its limit"),
    Column("bucket_start", TIMESTAMP, primary_key=True),
    Column("good", BigInteger, nullable=False),
    Column("valid", BigInteger, nullable=False),
    CheckConstraint("good >= 0 AND good <= valid", name="good"),
)

slo_status = Table(
    "slo_status",
    metadata,
    Column("model", Text, primary_key=True),
    Column("slo", Text, primary_key=True),
    Column("sli", Text, nullable=False),
    Column("evaluated_at", TIMESTAMP, nullable=False),
    Column("state", JSONB, nullable=False, comment="verdict, burn rates, budget left"),
)
