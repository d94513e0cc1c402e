"""What each query of the dashboards takes on a log of ten million requests, as the role that Grafana reads with.

The log holds seven days: a row of `prediction_log`, `request_ids` and `modality_log` for each request, on four
partitions; summaries of a minute with bins of 4 kB and totals of the worker's size; 30 days of findings, of 25 checks
every five minutes, and of objectives' buckets. The server writes it all itself. Each query runs over its dashboard's
own range and over all seven days, three times; seconds are the first run's, the median's and, for machines that are
shared, the median of the server's CPU. A query that its role's timeout ended says so, and how long it had run.
BENCH_ROWS sets the size.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from demo import servers
from migrations.connect import connect
from migrations.schema.partitions import ensure_partitions
from monitor.dashboards.catalogue import SHIPPED, dashboards
from tests.support.grafana import POSTGRES, expand, grant, queries, read

ROWS = int(os.environ.get("BENCH_ROWS", "10_000_000"))
DAYS = 7
RUNS = 3
QUERY_CANCELED = "57014"  # SQLSTATE of a statement that its timeout ended
TODAY = datetime.now(UTC).date()
END = datetime.combine(TODAY, datetime.min.time(), UTC) + timedelta(days=1)
MODALITIES = ("image", "text")
HOURS = {"h": 1, "d": 24}

_SUMMARY_TOTALS = {
    **{f"latency.{stage}": list(range(20)) for stage in ("queue", "preprocess", "encode", "fuse", "total")},
    "classes.fused": [400, 300, 290],
    "classes.fallback:text": [4, 3, 2],
    "confidence.fused": list(range(50)),
    "agreement": [70, 920],
    "compute_us": [1_000_000],
}
_ONCE = (
    "ALTER TABLE summaries ALTER COLUMN bins SET STORAGE EXTERNAL",  # real bins do not compress
    "INSERT INTO model_versions (version, model, family, checkpoint, manifest_sha256, class_names, modalities,"
    " fingerprints) VALUES ('v1', 'm', 'late', 'c', 's', '{a,b,c}', '{image,text}', '{}')",
    "INSERT INTO model_aliases VALUES ('m', 'champion', 'v1', now())",
    """INSERT INTO findings (model, model_version, detector, modality, window_start, window_end, verdict, value,
      threshold, n_reference, n_current, explanation, details)
    SELECT 'm', 'v1', (ARRAY['embedding_mmd', 'availability', 'class_drift', 'pairing', 'accuracy', 'calibration',
        'cost', 'agreement', 'quality'])[1 + c % 9], (ARRAY['image', 'text', 'fused'])[1 + c / 9],
      at - interval '1 hour', at, (ARRAY['ok', 'ok', 'ok', 'drift'])[1 + (n + c) % 4], 0.1, 0.2, 2000, 500,
      repeat('x', 120), '{"z": [1, 2, 3, 4, 5, 6, 7, 8]}'
    FROM generate_series(0, 30 * 288 - 1) n CROSS JOIN generate_series(0, 24) c
    CROSS JOIN LATERAL (SELECT CAST(:end AS timestamptz) - n * interval '5 minutes') AS t (at)""",
    """INSERT INTO alerts (fingerprint, alertname, severity, modality, state, pending_since, firing_since, resolved_at,
      last_window_end, labels, annotations)
    SELECT n::text, 'EmbeddingDrift', 'ticket', 'image', 'resolved', at, at, at + interval '1 hour', at,
      '{"model": "m"}', '{"summary": "s", "runbook": "r"}'
    FROM generate_series(1, 2000) n
    CROSS JOIN LATERAL (SELECT CAST(:end AS timestamptz) - n * interval '20 minutes') AS t (at)""",
    """INSERT INTO slo_counts SELECT 'm', sli, CAST(:end AS timestamptz) - n * interval '5 minutes', 4900, 5000
    FROM generate_series(1, 30 * 288) n CROSS JOIN unnest(ARRAY['availability.image', 'availability.text', 'agreement',
      'latency.fuse.50', 'latency.total.300', 'dead_letters']) sli""",
    """INSERT INTO slo_status SELECT 'm', sli, sli, CAST(:end AS timestamptz),
      '{"subject": "s", "target": 0.99, "verdict": "ok", "budget_left": 0.5, "text": "t"}'
    FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e', 'f']) sli""",
    """INSERT INTO dead_letters (topic, partition, "offset", error_code, error_detail, recorded_at)
    SELECT 'r', 0, n, 'bad_json', 'd', CAST(:end AS timestamptz) - n * interval '6 seconds'
    FROM generate_series(1, 100000) n""",
)
_DAY = (
    """INSERT INTO request_ids SELECT md5(:day || '-' || n), at FROM generate_series(1, :n) n CROSS JOIN LATERAL
      (SELECT CAST(:day AS timestamptz) + n * interval '1 day' / (:n + 1)) AS t (at)""",
    """INSERT INTO prediction_log (request_id, logged_at, produced_at, topic, partition, "offset", schema_version,
      model_version, route, status, prediction, confidence, probabilities, agreement, degraded, queue_ms, preprocess_ms,
      encode_ms, fuse_ms, total_ms, source)
    SELECT md5(:day || '-' || n), at, at, 'r', n % 4, n, 1, 'v1', 'fused', 'ok', 'a', 0.5 + 0.5 * (n % 97) / 97,
      '{0.5,0.3,0.2}', true, false, 1, 2, 3, 4, 10, 'camera'
    FROM generate_series(1, :n) n CROSS JOIN LATERAL
      (SELECT CAST(:day AS timestamptz) + n * interval '1 day' / (:n + 1)) AS t (at)""",
    """INSERT INTO modality_log (request_id, modality, logged_at, status, digest, key_id)
    SELECT md5(:day || '-' || n), 'image', at, 'present', '\\x00', 'k' FROM generate_series(1, :n) n CROSS JOIN LATERAL
      (SELECT CAST(:day AS timestamptz) + n * interval '1 day' / (:n + 1)) AS t (at)""",
    """INSERT INTO labels (request_id, label, labelled_at, received_at, source)
    SELECT md5(:day || '-' || n), 'a', at, at, 'user' FROM generate_series(1, :n, 100) n CROSS JOIN LATERAL
      (SELECT CAST(:day AS timestamptz) + n * interval '1 day' / (:n + 1)) AS t (at)""",
    """INSERT INTO summaries (slot_start, model_version, modality, topic, partition, first_offset, slot_seconds,
      worker_id, encoder_fingerprint, counts, bins, totals, updated_at)
    SELECT at, 'v1', modality, 'r', partition, 0, 60, 'w', 'f',
      CASE modality WHEN 'fused' THEN CAST(:routes AS jsonb) ELSE CAST(:statuses AS jsonb) END,
      decode(repeat(md5(n::text), 256), 'hex'),
      CASE modality WHEN 'fused' THEN CAST(:totals AS jsonb) ELSE '{}' END, at
    FROM generate_series(0, 1439) n CROSS JOIN generate_series(0, 3) partition
    CROSS JOIN unnest(ARRAY['image', 'text', 'fused']) modality
    CROSS JOIN LATERAL (SELECT CAST(:day AS timestamptz) + n * interval '1 minute') AS t (at)""",
)


def run() -> dict[str, Any]:
    """Seconds by dashboard, range and panel; the slowest first."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        url = server.create("bench")
        servers.migrate(url)
        engine = connect(url, application="bench")
        started = time.perf_counter()
        _seed(engine)
        grant(url)
        seeded = round(time.perf_counter() - started)
        with engine.connect() as connection:
            rows = connection.scalar(text("SELECT count(*) FROM prediction_log"))
        found = sorted(_measured(engine), key=lambda each: -each["first"])
        engine.dispose()
    ended = [each for each in found if each["timed_out"]]
    return {"rows": rows, "seeding_seconds": seeded, "slowest": found[0], "timed_out": len(ended), "seconds": found}


def _days() -> Iterator[date]:
    yield from (TODAY - timedelta(days=back) for back in range(DAYS - 1, -1, -1))


def _seed(engine: Engine) -> None:
    routes = json.dumps({"rows": 990, "fused": 980, "fallback:text": 10})
    statuses = json.dumps({"present": 980, "missing": 8, "corrupt": 2})
    given = {"n": ROWS // DAYS, "routes": routes, "statuses": statuses, "totals": json.dumps(_SUMMARY_TOTALS)}
    with engine.begin() as connection:
        for statement in _ONCE:
            connection.execute(text(statement), {"end": END} if ":end" in statement else {})
    for day in _days():
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            ensure_partitions(connection, day, days_ahead=0)
            for statement in _DAY:
                values = {name: value for name, value in given.items() if f":{name}" in statement}
                connection.execute(text(statement), {**values, "day": day.isoformat()})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _measured(engine: Engine) -> Iterator[dict[str, Any]]:
    with engine.connect() as connection:
        reference = connection.scalar(text("SELECT reference FROM grafana_references ORDER BY time DESC LIMIT 1"))
    variables = {"model": "m", "version": ["v1"], "modality": [*MODALITIES, "fused"], "request": str(reference)}
    for slug, dashboard in dashboards(SHIPPED).items():
        since = dashboard["time"]["from"].removeprefix("now-")
        own = timedelta(hours=int(since[:-1]) * HOURS[since[-1]])
        for span in dict.fromkeys((own, timedelta(days=DAYS))):
            interval = max(60, int(span.total_seconds()) // 1000 // 60 * 60)
            for query in queries(dashboard, POSTGRES):
                values = {**variables, "modality": "image"} if query.repeated else variables
                sql = expand(query.text, END - span, END, interval_seconds=interval, variables=values)
                yield {"dashboard": slug, "range": str(span), "query": query.title, **_timed(engine, sql)}


def _timed(engine: Engine, sql: str) -> dict[str, float]:
    seconds, cpu = [], []
    rows = timed_out = 0
    for _ in range(RUNS):
        with engine.connect() as connection:
            server = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()")))
            spent, started = sum(server.cpu_times()[:2]), time.perf_counter()
            try:
                rows = len(read(connection, sql))
            except OperationalError as error:
                if getattr(error.orig, "pgcode", None) != QUERY_CANCELED:
                    raise
                timed_out += 1
            seconds.append(time.perf_counter() - started)
            cpu.append(sum(server.cpu_times()[:2]) - spent)
    middle = statistics.median
    return {
        "first": round(seconds[0], 4),
        "median": round(middle(seconds), 4),
        "cpu": round(middle(cpu), 2),
        "rows": rows,
        "timed_out": timed_out,
    }
