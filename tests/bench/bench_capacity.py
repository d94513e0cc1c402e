"""What a million requests cost: `python -m tests.bench --table capacity`.

A real worker drains a backlog of 20 kB requests into a real database, once with the demo's model and once with none
(`pass_through`, which decodes nothing either). Rows and bytes are what the tables hold afterwards, indexes and TOAST
included; WAL is what the server wrote meanwhile, full pages after a checkpoint too. CPU is in core-seconds.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, text

from tests.bench import checkpoints
from tests.bench.rig import Rig, broker_kind, pictures, rig

TINY = Path("demo/checkpoint")
REQUESTS = {"pass_through": 40_000, "demo_model": 12_000}
SETTINGS = {"DECODE_THREADS": "1", "TORCH_THREADS": "1", "WRITE_ROWS": "1000"}
BY_SLOT = "summaries"  # its rows come with time and partitions, not with requests

# Partitions are counted as their table.
_SIZES = text(
    "SELECT coalesce(i.inhparent, c.oid)::regclass::text AS name, sum(pg_total_relation_size(c.oid))::bigint AS bytes "
    "FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
    "WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY 1"
)


def run() -> dict[str, Any]:
    """Figures of both models, for a million requests."""
    with rig(broker_kind()) as servers:
        return {
            "pass_through": _measured(servers, "pass_through", checkpoints.pass_through(servers.folder / "none")),
            "demo_model": _measured(servers, "demo_model", TINY),
        }


def _measured(servers: Rig, name: str, checkpoint: Path) -> dict[str, Any]:
    count = REQUESTS[name]
    worker = servers.prepare(name, checkpoint, **SETTINGS)
    servers.backlog(worker.topics["requests"], count, pictures(16, 224))
    engine = create_engine(worker.database)
    with engine.connect() as connection:
        before, position = _sizes(connection), connection.scalar(text("SELECT pg_current_wal_lsn()"))
    rate = servers.drain_rate(worker, count)
    servers.wait_written(worker, count)
    with engine.connect() as connection:
        after = _sizes(connection)
        grown = {table: size - before.get(table, 0) for table, size in after.items() if size > before.get(table, 0)}
        rows = {table: connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in grown}
        wal = connection.scalar(text("SELECT pg_current_wal_lsn() - CAST(:then AS pg_lsn)"), {"then": position})
    engine.dispose()
    servers.forget(worker)
    logged = {table for table in grown if rows[table] >= count}
    cpu = {key.removesuffix("_cpu_us"): round(value) for key, value in asdict(rate).items() if key.endswith("_cpu_us")}
    return {
        "requests": count,
        "core_seconds_per_million": cpu,
        "requests_per_second": round(rate.per_second),
        "rows_per_request": {table: rows[table] / count for table in sorted(logged)},
        "bytes_per_request": {table: round(grown[table] / count) for table in sorted(logged)},
        "gigabytes_per_million": round(sum(grown[table] for table in logged) / count / 1e3, 2),
        "wal_gigabytes_per_million": round(float(wal) / count / 1e3, 2),
        "bytes_per_summary_row": round(grown.get(BY_SLOT, 0) / max(1, rows.get(BY_SLOT, 0))),
        "summary_rows": rows.get(BY_SLOT, 0),
    }


def _sizes(connection: Connection) -> dict[str, int]:
    return {row.name: row.bytes for row in connection.execute(_SIZES)}
