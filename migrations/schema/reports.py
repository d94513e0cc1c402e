"""Reports about a period, and their files: in the database, so that every replica of the API has them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from migrations.schema.metadata import TIMESTAMP, created_at, metadata, one_of

# One for each period, however often it is begun: `attempts` tells who began it last, and only that one may end it.
reports = Table(
    "reports",
    metadata,
    Column("report_id", BigInteger, Identity(always=True), primary_key=True),
    Column("model", Text, nullable=False),
    Column("cadence", Text, nullable=False, comment="daily and weekly: by schedule; asked: a person wanted it"),
    Column("period_start", TIMESTAMP, nullable=False),
    Column("period_end", TIMESTAMP, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("started_at", TIMESTAMP, nullable=False),
    Column("finished_at", TIMESTAMP),
    Column("headline", Text, comment="what the period was like, in a sentence"),
    Column("error", Text, comment="why there is none, or what is missing from it"),
    Column(
        "told",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="of the weekly ticket: receiver to what became of it",
    ),
    created_at(),
    one_of("cadence", "daily", "weekly", "asked"),
    one_of("state", "running", "done", "failed"),
    CheckConstraint("period_end > period_start", name="period"),
    UniqueConstraint("model", "cadence", "period_start", "period_end", name="uq_reports_period"),
)

report_files = Table(
    "report_files",
    metadata,
    Column("report_id", ForeignKey("reports.report_id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("sha256", Text, nullable=False, comment="of the file as it is read"),
    Column("size", Integer, nullable=False, comment="bytes of the file as it is read"),
    Column("packed", LargeBinary, nullable=False, comment="the file, compressed by gzip"),
)
