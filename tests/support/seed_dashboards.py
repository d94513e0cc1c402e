"""What the seeded hour lacks for dashboards: totals of summaries, objectives, and findings of every kind they show."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, timedelta
from typing import Any

from sqlalchemy import Engine, insert, select, text

from migrations.schema.monitoring import findings
from migrations.schema.prediction_log import prediction_log
from migrations.schema.totals import LATENCY_EDGES_MS, STAGES, histogram
from monitor import wiring
from monitor.settings import MonitorSettings
from monitor.telemetry import Metrics
from tests.support import seed
from tests.support.seed_scene import CLASSES, SLOT, at


def complete(engine: Engine, url: str) -> None:
    """Add them to a database that was seeded."""
    _totals(engine)
    _findings(engine)
    settings = MonitorSettings(database_url=url, model=seed.MODEL, slot_seconds=SLOT, hop_seconds=30, window_seconds=60)
    wiring.slos(settings, engine, Metrics(), seed.FixedClock()).run()


def _totals(engine: Engine) -> None:
    log = prediction_log.c
    slots: dict[tuple[Any, int], list[Any]] = defaultdict(list)
    with engine.begin() as connection:
        for row in connection.execute(select(prediction_log).where(log.quarantine.is_(None))):
            seconds = int(row.logged_at.timestamp()) // SLOT * SLOT
            slots[seconds, row.partition].append(row)
        values = [
            {"start": start, "partition": partition, "totals": json.dumps(_of(rows))}
            for (start, partition), rows in slots.items()
        ]
        connection.execute(text("CREATE TEMP TABLE given (start bigint, partition int, totals jsonb)"))
        connection.execute(
            text(
                "INSERT INTO given SELECT (each->>'start')::bigint, (each->>'partition')::int, (each->>'totals')::jsonb"
                " FROM jsonb_array_elements(CAST(:values AS jsonb)) each"
            ),
            {"values": json.dumps(values)},
        )
        connection.execute(
            text(
                "UPDATE summaries s SET totals = given.totals FROM given WHERE s.modality = 'fused'"
                " AND s.slot_start = to_timestamp(given.start) AND s.partition = given.partition"
            )
        )


def _of(rows: list[Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {
        f"latency.{stage}": histogram([getattr(row, f"{stage}_ms") for row in rows], LATENCY_EDGES_MS)
        for stage in STAGES
    }
    for route in {row.route for row in rows}:
        answers = [row.prediction for row in rows if row.route == route]
        found[f"classes.{route}"] = [answers.count(name) for name in CLASSES]
    agreed = [row.agreement for row in rows if row.agreement is not None]
    return found | {"agreement": [agreed.count(False), agreed.count(True)]}


def _findings(engine: Engine) -> None:
    """Accuracy, measured and estimated, cost; and a window of embeddings that was judged again."""
    with engine.begin() as connection:
        newest = connection.execute(
            select(findings)
            .where(findings.c.detector == "embedding_mmd", findings.c.modality == "image")
            .order_by(findings.c.window_end.desc())
            .limit(1)
        ).one()
        common = {name: value for name, value in newest._mapping.items() if name not in ("finding_id", "created_at")}
        again = common | {"revision": 1, "value": 0.5, "verdict": "drift"}
        rows = [again]
        for minute in range(20, 31):
            end = at("12:00").astimezone(UTC) + timedelta(minutes=minute)
            moved = common | {"window_start": end - timedelta(minutes=1), "window_end": end, "modality": "fused"}
            few = minute < 22
            rows += [
                moved | {"detector": "accuracy", "value": 0.9, "verdict": "insufficient" if few else "ok"},
                moved | {"detector": "estimated_accuracy", "value": 0.93, "verdict": "ok"},
                moved | {"detector": "cost", "value": 3.0 + minute / 10, "verdict": "ok", "threshold": None},
            ]
        connection.execute(insert(findings), rows)
