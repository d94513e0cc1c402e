"""How long each built-in page takes on a log of ten million rows, from the request to the last byte.

The database is filled by SQL alone: a log and request ids of `BENCH_ROWS` rows (ten million) over the last seven days
at an even rate, two partitions' summaries of every minute, a month of findings of every five minutes and twelve series,
labels of every hundredth answer of the last day, 20,000 refused messages, 2000 alerts, jobs and audit rows. Pages are
asked for as a browser does, `BENCH_TIMES` times each after one that warms the cache; median and worst are told in ms.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from demo import servers
from migrations.connect import connect
from migrations.schema.partitions import ensure_partitions
from monitor.api.app import create_app
from monitor.domain.clock import SystemClock

MODEL, VERSION = "fusion", "v1"
ROWS = int(os.environ.get("BENCH_ROWS", "10000000"))
TIMES = int(os.environ.get("BENCH_TIMES", "15"))
AT_ONCE = 500_000
DAYS = 7
PATHS = (
    "/",
    "/modalities",
    "/modalities?minutes=1440",
    "/drift",
    "/drift/image",
    "/series?minutes=600",
    "/series?minutes=10080",
    "/calibration",
    "/alerts",
    "/alerts/1990",
    "/retraining",
    "/rollouts",
    "/findings/100000",
    "/refused",
    "/history",
)

_LOG = """
WITH made AS (
  SELECT 'r-' || lpad(i::text, 12, '0') AS request_id, i, :start + i * (CAST(:span AS interval) / :rows) AS at
  FROM generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) i
), ids AS (INSERT INTO request_ids SELECT request_id, at FROM made)
INSERT INTO prediction_log (request_id, logged_at, produced_at, topic, partition, "offset", schema_version,
  model_version, route, status, prediction, confidence, probabilities, degraded, queue_ms, preprocess_ms, encode_ms,
  fuse_ms, total_ms)
SELECT request_id, at, at, 'fusion.requests', i % 2, i, 1, 'v1', 'fused', 'ok', 'c' || i % 3,
  0.4 + 0.6 * (i % 97) / 97.0, ARRAY[0.4, 0.3, 0.3]::real[], false, 1, 1, 2, 1, 5 + i % 11 FROM made
"""
_SUMMARIES = """
INSERT INTO summaries (slot_start, model_version, modality, topic, partition, first_offset, slot_seconds, worker_id,
  encoder_fingerprint, counts, bins, updated_at)
SELECT at, 'v1', modality, 'fusion.requests', part, 0, 60, 'w', 'f',
  CASE modality WHEN 'fused' THEN '{"rows": 500, "fused": 480, "fallback:text": 20}'::jsonb
    ELSE '{"present": 480, "missing": 20}'::jsonb END, ''::bytea, at + interval '61 s'
FROM generate_series(date_trunc('minute', CAST(:now AS timestamptz)) - interval '7 d', CAST(:now AS timestamptz),
  interval '1 min') at, generate_series(0, 1) part, unnest(ARRAY['image', 'text', 'fused']) modality
"""
_FINDINGS = """
INSERT INTO findings (model, model_version, detector, modality, window_start, window_end, verdict, value, p_value,
  effect, interval_low, interval_high, threshold, n_reference, n_current, baseline_id, explanation, details)
SELECT 'fusion', 'v1', detector, modality, at - interval '1 h', at,
  CASE WHEN extract(minute FROM at) = 30 THEN 'drift' ELSE 'ok' END, 0.02, 0.3, 0.02, 0.01, 0.03, 0.06, 2000, 30000, 1,
  'as in the baseline', '{"moved": [{"statistic": "noise", "effect": 1.4, "baseline": 1, "window": 2, "p_value": 0.1}]}'
FROM generate_series(date_bin('5 min', CAST(:now AS timestamptz), 'epoch') - interval '30 d', CAST(:now AS timestamptz),
  interval '5 min') at,
  (VALUES ('availability', 'image'), ('availability', 'text'), ('embedding_mmd', 'image'), ('embedding_mmd', 'text'),
    ('embedding_mmd', 'fused'), ('quality', 'image'), ('quality', 'text'), ('class_drift', 'fused'),
    ('confidence_drift', 'fused'), ('pairing', 'fused'), ('agreement', 'fused'), ('calibration', 'fused'))
    AS series (detector, modality)
"""
_REST = (
    """INSERT INTO model_versions (version, model, family, checkpoint, manifest_sha256, class_names, modalities,
    fingerprints) VALUES ('v1', 'fusion', 'joint', '/c', '0', '{c0,c1,c2}', '{image,text}', '{}')""",
    "INSERT INTO baselines (model_version, origin, facts) VALUES ('v1', 'checkpoint', '{}')",
    "INSERT INTO model_aliases VALUES ('fusion', 'champion', 'v1', :now)",
    """INSERT INTO labels (request_id, label, labelled_at, received_at, source)
    SELECT request_id, 'c1', :now, logged_at, 'human_review' FROM request_ids
    WHERE logged_at > CAST(:now AS timestamptz) - interval '1 d' AND right(request_id, 2) = '00'""",
    """INSERT INTO dead_letters (topic, partition, "offset", error_code, error_detail, recorded_at)
    SELECT 'fusion.requests', 0, i, 'code_' || i % 20, 'what was wrong', :now - i * interval '4 s'
    FROM generate_series(1, 20000) i""",
    """INSERT INTO alerts (fingerprint, alertname, severity, modality, state, pending_since, firing_since, resolved_at,
    last_window_end, labels, annotations, finding_id) SELECT i::text, 'EmbeddingDrift', 'ticket', 'image',
    CASE WHEN i > 1980 THEN 'firing' ELSE 'resolved' END, :now - (2000 - i) * interval '20 min',
    :now - (2000 - i) * interval '20 min', CASE WHEN i > 1980 THEN NULL ELSE :now - (1999 - i) * interval '20 min' END,
    :now, '{"model": "fusion"}', '{"summary": "image inputs have drifted"}', i * 20 FROM generate_series(1, 2000) i""",
    """INSERT INTO jobs (model, state, spec, deadline, created_at, finished_at, result)
    SELECT 'fusion', 'rejected', '{}', :now, :now - (500 - i) * interval '1 h', :now, '{}'
    FROM generate_series(1, 500) i""",
    """INSERT INTO retrain_decisions (model, model_version, retrain, reasons, evidence, job_id, decided_at)
    SELECT 'fusion', 'v1', true, '[]', jsonb_build_object('findings', jsonb_build_array(i * 100)), i, :now
    FROM generate_series(1, 500) i""",
    """INSERT INTO audit_log (actor, action, subject, details, at)
    SELECT 'monitor', 'rejected', 'v' || i, '{}', :now - i * interval '1 min' FROM generate_series(1, 20000) i""",
)


def run() -> dict[str, Any]:
    """Fill a database and time every page; in ms, bytes, seconds and rows."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-bench-") as folder, servers.postgres(Path(folder)) as server:
        url = server.create("pages")
        servers.migrate(url)
        engine = connect(url, application="bench")
        started = time.perf_counter()
        _fill(engine)
        seconds = time.perf_counter() - started
        app = create_app(engine, model=MODEL, slot_seconds=60, hop_seconds=300, window_seconds=3600)
        client = TestClient(app, headers={"Accept": "text/html"})
        measured = {path: _time(client, path) for path in PATHS}
        engine.dispose()
    slowest = max(each["median_ms"] for each in measured.values())
    return {"rows": ROWS, "fill_s": round(seconds, 1), "slowest_median_ms": slowest, "pages": measured}


def _fill(engine: Engine) -> None:
    now = SystemClock().now()
    with engine.begin() as connection:
        for day in range(DAYS + 1):
            ensure_partitions(connection, now.date().fromordinal(now.date().toordinal() - day), days_ahead=0)
    start = text("SELECT CAST(:now AS timestamptz) - CAST(:span AS interval)")
    span = {"span": f"{DAYS} days", "rows": ROWS}
    with engine.connect() as connection:
        first = connection.scalar(start, {"now": now, "span": span["span"]})
    for low in range(0, ROWS, AT_ONCE):
        with engine.begin() as connection:
            bounds = {"low": low, "high": min(low + AT_ONCE, ROWS) - 1}
            connection.execute(text(_LOG), {"start": first, **span, **bounds})
    with engine.begin() as connection:
        for statement in (_SUMMARIES, _FINDINGS, *_REST):
            connection.execute(text(statement), {"now": now})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _time(client: TestClient, path: str) -> dict[str, float]:
    answer = client.get(path)
    answer.raise_for_status()
    took = []
    for _ in range(TIMES):
        started = time.perf_counter()
        client.get(path)
        took.append(1000 * (time.perf_counter() - started))
    return {
        "median_ms": round(statistics.median(took), 1),
        "worst_ms": round(max(took), 1),
        "bytes": len(answer.content),
    }
