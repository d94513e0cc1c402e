"""Where the chain of the audit log ends: audit_chain.py."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, Table, true

from migrations.schema.metadata import metadata, one_row

# The number and digest of the newest row: rows removed from the end show by it. One row, locked by whoever appends.
audit_head = Table(
    "audit_head",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=true()),
    Column("number", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    one_row("single"),
)
