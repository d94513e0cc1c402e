"""The seeded hour's requests: log rows, modality rows, labels, and the summaries that add them up."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, text

from migrations.schema import bins
from migrations.schema.prediction_log import labels, modality_log, prediction_log, request_ids
from migrations.schema.summaries import summaries
from tests.support.seed_scene import CLASSES, NOW, RATE, SLOT, VERSION, at, image_gone, new_camera


def write_traffic(connection: Connection, outage: bool) -> None:
    """Everything a worker writes."""
    rng = np.random.default_rng(7)
    rows: dict[str, list[dict[str, Any]]] = {"summaries": [], "ids": [], "log": [], "modalities": [], "labels": []}
    slots = int((NOW - at("11:30")).total_seconds()) // SLOT
    for slot in range(slots):
        start = at("11:30") + timedelta(seconds=slot * SLOT)
        for partition in (0, 1):
            _slot(rows, rng, start, partition, slot, outage)
    for table, name in (
        (summaries, "summaries"),
        (request_ids, "ids"),
        (prediction_log, "log"),
        (modality_log, "modalities"),
        (labels, "labels"),
    ):
        _bulk(connection, table, rows[name])


def _bulk(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert many rows in one statement; the server reads them out of one JSON document."""
    columns = ", ".join(f'"{name}"' for name in rows[0])
    document = json.dumps(
        rows, default=lambda value: value.isoformat() if isinstance(value, datetime) else f"\\x{value.hex()}"
    )
    connection.execute(
        text(
            f"INSERT INTO {table.name} ({columns}) SELECT {columns}"
            f" FROM jsonb_populate_recordset(NULL::{table.name}, CAST(:rows AS jsonb))"
        ),
        {"rows": document},
    )


def _slot(
    rows: dict[str, list[dict[str, Any]]],
    rng: np.random.Generator,
    start: datetime,
    partition: int,
    slot: int,
    outage: bool,
) -> None:
    n = RATE * SLOT // 2
    counts: dict[str, dict[str, int]] = {"image": {}, "text": {}, "fused": {}}
    for i in range(n):
        offset = slot * n + i
        moment = start + timedelta(seconds=SLOT * (i + 0.5) / n)
        quarantine = "clock_future" if (partition, offset) == (1, 900) else None
        statuses = {
            "image": "missing" if image_gone(moment, outage) else ("corrupt" if offset % 199 == 5 else "present"),
            "text": "present" if offset % 331 != 7 else "rejected",
        }
        _request(rows, rng, moment, partition, offset, statuses, quarantine)
        route = rows["log"][-1]["route"]
        if quarantine:
            counts["fused"]["quarantined"] = counts["fused"].get("quarantined", 0) + 1
            continue
        for name, key in (*statuses.items(), ("fused", route), ("fused", "rows")):
            counts[name][key] = counts[name].get(key, 0) + 1
    for name, by in counts.items():
        rows["summaries"].append(
            {
                "slot_start": start,
                "model_version": VERSION,
                "modality": name,
                "topic": "fusion.requests",
                "partition": partition,
                "first_offset": 0,
                "slot_seconds": SLOT,
                "worker_id": f"worker-{partition}",
                "encoder_fingerprint": "5e1f",
                "counts": by,
                "bins": bins.dump(bins.EMPTY),
                "updated_at": start + timedelta(seconds=SLOT, milliseconds=400),
            }
        )


def _request(
    rows: dict[str, list[dict[str, Any]]],
    rng: np.random.Generator,
    moment: datetime,
    partition: int,
    offset: int,
    statuses: dict[str, str],
    quarantine: str | None,
) -> None:
    request_id = f"r-{partition}-{offset}"
    lacking = [name for name, status in statuses.items() if status != "present"]
    route = "fused" if not lacking else f"fallback:{'text' if 'image' in lacking else 'image'}"
    hard = bool(lacking) or new_camera(moment)
    confidence = float(np.clip(rng.beta(5, 1.6) if hard else rng.beta(14, 1.1), 0.34, 0.999))
    truth = CLASSES[int(rng.integers(3))]
    right = rng.random() < (confidence - (0.2 if hard else 0.0))
    prediction = truth if right else CLASSES[(CLASSES.index(truth) + 1) % 3]
    total = float(4 + rng.gamma(2.0, 2.4))
    rows["ids"].append({"request_id": request_id, "logged_at": moment})
    rows["log"].append(
        {
            "request_id": request_id,
            "logged_at": moment,
            "produced_at": moment - timedelta(milliseconds=40),
            "topic": "fusion.requests",
            "partition": partition,
            "offset": offset,
            "schema_version": 1,
            "model_version": VERSION,
            "route": route,
            "status": "ok",
            "prediction": prediction,
            "confidence": confidence,
            "probabilities": [1 / 3, 1 / 3, 1 / 3],
            "agreement": bool(rng.random() < 0.93) if route == "fused" else None,
            "degraded": bool(lacking),
            "quarantine": quarantine,
            "queue_ms": total * 0.3,
            "preprocess_ms": total * 0.2,
            "encode_ms": total * 0.35,
            "fuse_ms": total * 0.15,
            "total_ms": total,
        }
    )
    for name, status in statuses.items():
        rows["modalities"].append(
            {"request_id": request_id, "modality": name, "logged_at": moment, "status": status, "reason": None}
        )
    if at("12:02") <= moment < at("12:15") and offset % 2:
        rows["labels"].append(
            {
                "request_id": request_id,
                "label": truth,
                "labelled_at": at("12:15"),
                "received_at": at("12:15") + timedelta(milliseconds=offset),
                "source": "human_review",
            }
        )
