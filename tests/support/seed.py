"""A deterministic hour of a model's life in the database: what people look at, without running the programs.

Image and text at 4 requests a second, summaries every 10 s on two partitions, findings every 30 s. Image is gone from
11:58 to 12:03 (alert resolved); from 12:12 on a new camera moves image and fused embeddings and costs accuracy; labels
came at 12:15; a retrain is running. `outage=True` takes image away again from 12:27 on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Table, insert, text

from migrations.schema import bins
from migrations.schema.monitoring import (
    alerts,
    audit_log,
    baselines,
    findings,
    jobs,
    model_aliases,
    model_versions,
)
from migrations.schema.partitions import ensure_partitions
from migrations.schema.prediction_log import dead_letters, labels, modality_log, prediction_log, request_ids
from migrations.schema.summaries import summaries

DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 12, 30, 7, tzinfo=UTC)
MODEL, VERSION, OLD_VERSION = "fusion", "fusion-2026.03.02-7f3c", "fusion-2026.02.11-a01b"
CLASSES = ["consistent", "contradictory", "misleading"]
SLOT = 10
RATE = 4
TIMING: dict[str, Any] = {
    "slot_seconds": SLOT,
    "hop_seconds": 30,
    "window_seconds": 60,
    "availability_window_seconds": 30,
    "grace_seconds": 2,
}


def at(clock: str) -> datetime:
    """A time of the seeded day, `12:03` or `12:03:20`, in UTC."""
    return datetime.combine(DAY, datetime.min.time(), UTC) + timedelta(
        seconds=sum(int(part) * size for part, size in zip(clock.split(":"), (3600, 60, 1), strict=False))
    )


@dataclass(frozen=True, slots=True)
class FixedClock:
    """A clock that stands at one time."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


def seed(engine: Engine, *, outage: bool = False) -> None:
    """Fill a migrated database with the hour that ends at NOW."""
    with engine.begin() as connection:
        ensure_partitions(connection, DAY, days_ahead=0)
        _models(connection)
        _traffic(connection, outage)
        series = _findings(connection, outage)
        _alerts(connection, series, outage)
        _jobs(connection)
        _dead_letters(connection)


def _image_gone(moment: datetime, outage: bool) -> bool:
    return at("11:58") <= moment < at("12:03") or (outage and moment >= at("12:27"))


def _new_camera(moment: datetime) -> bool:
    return moment >= at("12:12")


def _models(connection: Connection) -> None:
    for version, day in ((OLD_VERSION, "2026-02-11"), (VERSION, "2026-03-02")):
        connection.execute(
            insert(model_versions).values(
                version=version,
                model=MODEL,
                family="cross_attention",
                checkpoint=f"/checkpoints/{version}",
                manifest_sha256=hashlib.sha256(version.encode()).hexdigest(),
                class_names=CLASSES,
                modalities=["image", "text"],
                fingerprints={"image": "5e1f", "text": "77ab"},
                created_at=datetime.fromisoformat(day).replace(tzinfo=UTC),
            )
        )
        connection.execute(
            insert(baselines).values(
                model_version=version, origin="checkpoint", facts={"accuracy": 0.972, "ece": 0.008}
            )
        )
    connection.execute(
        insert(model_aliases).values(model=MODEL, alias="champion", version=VERSION, updated_at=at("08:12"))
    )


def _traffic(connection: Connection, outage: bool) -> None:
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
        statuses = {
            "image": "missing" if _image_gone(moment, outage) else ("corrupt" if offset % 199 == 5 else "present"),
            "text": "present" if offset % 331 != 7 else "rejected",
        }
        _request(rows, rng, moment, partition, offset, statuses)
        route = rows["log"][-1]["route"]
        for name, key in (*statuses.items(), ("fused", route)):
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
) -> None:
    request_id = f"r-{partition}-{offset}"
    lacking = [name for name, status in statuses.items() if status != "present"]
    route = "fused" if not lacking else f"fallback:{'text' if 'image' in lacking else 'image'}"
    hard = bool(lacking) or _new_camera(moment)
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
            "quarantine": None,
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


# detector, modality, threshold, in-control mean and spread, mean under the new camera (None: not touched)
_CHECKS: tuple[tuple[str, str, float | None, float, float, float | None], ...] = (
    ("availability", "image", 0.99, 0.996, 0.001, None),
    ("availability", "text", 0.99, 0.997, 0.001, None),
    ("embedding_mmd", "image", 0.06, 0.018, 0.004, 0.19),
    ("embedding_mmd", "text", 0.06, 0.02, 0.004, None),
    ("embedding_mmd", "fused", 0.06, 0.021, 0.005, 0.12),
    ("class_drift", "fused", 0.1, 0.012, 0.005, 0.07),
    ("pairing", "image+text", 0.25, 0.05, 0.02, None),
    ("agreement", "fused", 0.9, 0.931, 0.008, 0.915),
    ("calibration", "fused", 0.05, 0.014, 0.004, 0.11),
)


def _findings(connection: Connection, outage: bool) -> dict[tuple[str, str], list[int]]:
    rng = np.random.default_rng(11)
    rows = []
    for hop in range(2, int((at("12:30") - at("11:30")).total_seconds()) // 30 + 1):
        end = at("11:30") + timedelta(seconds=30 * hop)
        gone = _image_gone(end - timedelta(seconds=15), outage)
        rows += [_finding(rng, end, check, gone) for check in _CHECKS]
    ids = connection.scalars(
        insert(findings).returning(findings.c.finding_id, sort_by_parameter_order=True), rows
    ).all()
    series: dict[tuple[str, str], list[int]] = {}
    for row, finding_id in zip(rows, ids, strict=True):
        series.setdefault((row["detector"], row["modality"]), []).append(finding_id)
    return series


def _finding(
    rng: np.random.Generator,
    end: datetime,
    check: tuple[str, str, float | None, float, float, float | None],
    gone: bool,
) -> dict[str, Any]:
    detector, modality, threshold, mean, spread, moved = check
    value: float | None = float(mean + spread * rng.standard_normal())
    if detector in ("availability", "agreement"):
        value = min(float(value or 0), 1.0)
    drifting = moved is not None and _new_camera(end - timedelta(seconds=30))
    if drifting and moved is not None:
        value = float(moved + (spread if moved > 0.5 else 0.08 * moved) * rng.standard_normal())
    verdict = "drift" if drifting and detector not in ("agreement", "class_drift") else "ok"
    explanation, n = f"{modality} is as in the baseline", 240
    if drifting and verdict == "drift":
        explanation = f"{modality} moved: brightness fell by 1.9 standard deviations, noise rose by 1.4"
    if gone and "image" in modality:
        verdict, value, n, explanation = "no_data", None, 0, "no request had an image"
        if detector == "availability":
            verdict, value, explanation, n = "drift", 0.0, "0 of 120 requests had an image", 120
    if detector == "calibration" and end < at("12:15"):
        verdict, value, n, explanation = "insufficient", None, 0, "0 labels, 500 needed: no error could have been seen"
    return {
        "model": MODEL,
        "model_version": VERSION,
        "detector": detector,
        "modality": modality,
        "window_start": end - timedelta(seconds=60),
        "window_end": end,
        "verdict": verdict,
        "value": value,
        "p_value": (0.001 if verdict == "drift" else float(rng.uniform(0.06, 1))) if value is not None else None,
        "effect": value,
        "interval_low": None if value is None else max(0.0, value - 2 * spread),
        "interval_high": None if value is None else value + 2 * spread,
        "threshold": threshold,
        "n_reference": 2000,
        "n_current": n,
        "baseline_id": 2,
        "explanation": explanation,
        "details": {},
    }


def _alerts(connection: Connection, series: dict[tuple[str, str], list[int]], outage: bool) -> None:
    common = {"last_window_end": at("12:30"), "inhibited_by": None, "clear_since": None}
    rows = [
        ("ModalityUnavailable", "page", "image", "availability", "11:58:30", "11:59", "12:04"),
        ("EmbeddingDrift", "ticket", "image", "embedding_mmd", "12:13", "12:13:30", None),
        ("EmbeddingDrift", "ticket", "fused", "embedding_mmd", "12:13", "12:14", None),
        ("CalibrationDrift", "ticket", "fused", "calibration", "12:15:30", "12:16", None),
        ("PredictionDrift", "ticket", "fused", "class_drift", "12:29:30", None, None),
    ]
    if outage:
        rows.append(("ModalityUnavailable", "page", "image", "availability", "12:27:30", "12:28", None))
    for name, severity, modality, detector, pending, firing, resolved in rows:
        connection.execute(
            insert(alerts).values(
                fingerprint=hashlib.sha256(f"{name} {modality}".encode()).hexdigest(),
                alertname=name,
                severity=severity,
                modality=modality,
                state="resolved" if resolved else "firing" if firing else "pending",
                pending_since=at(pending),
                firing_since=at(firing) if firing else None,
                resolved_at=at(resolved) if resolved else None,
                labels={"model": MODEL, "modality": modality},
                annotations={
                    "summary": _SUMMARIES[name].format(modality=modality),
                    "runbook": f"dashboards/runbooks/{name}.md",
                },
                finding_id=series[detector, modality][-1],
                **common,
            )
        )


_SUMMARIES = {
    "ModalityUnavailable": "{modality} is unavailable: 0 of 120 requests had an image",
    "EmbeddingDrift": "{modality} inputs have drifted: brightness fell by 1.9 standard deviations",
    "CalibrationDrift": "confidence no longer matches accuracy: calibration error 0.11 on 520 labels",
    "PredictionDrift": "predicted classes have drifted: misleading rose from 33% to 41%",
}


def _jobs(connection: Connection) -> None:
    measured = {
        "champion": {"version": OLD_VERSION, "accuracy": 0.871, "ece": 0.094, "n": 640},
        "candidate": {"version": VERSION, "accuracy": 0.962, "ece": 0.011, "n": 640},
    }
    connection.execute(
        insert(jobs),
        [
            {
                "model": MODEL,
                "state": "promoted",
                "spec": {"base_version": OLD_VERSION},
                "progress": {"step": 400, "steps": 400},
                "result": measured,
                "attempts": 1,
                "deadline": at("09:00"),
                "created_at": at("08:03"),
                "started_at": at("08:04"),
                "finished_at": at("08:12"),
            },
            {
                "model": MODEL,
                "state": "running",
                "spec": {"base_version": VERSION},
                "progress": {"step": 260, "steps": 400, "loss": 0.214},
                "result": None,
                "attempts": 1,
                "deadline": at("13:30"),
                "created_at": at("12:28:30"),
                "started_at": at("12:28:41"),
                "finished_at": None,
            },
        ],
    )
    connection.execute(
        insert(audit_log),
        [
            {"actor": "monitor", "action": "promote", "subject": VERSION, "details": {"job_id": 1}, "at": at("08:12")},
            {"actor": "monitor", "action": "queue_retrain", "subject": "job 2", "details": {}, "at": at("12:28:30")},
        ],
    )


def _dead_letters(connection: Connection) -> None:
    reasons = (
        ("bad_json", "the value is not JSON: unexpected end at byte 412", 9),
        ("unknown_schema_version", "schema_version is 7; this worker reads 1", 3),
        ("no_modality", "the request has no modality that the model knows", 2),
    )
    offset = 0
    for code, detail, times in reasons:
        for _ in range(times):
            connection.execute(
                insert(dead_letters).values(
                    topic="fusion.requests",
                    partition=0,
                    offset=offset,
                    error_code=code,
                    error_detail=detail,
                    recorded_at=at("11:40") + timedelta(minutes=2 * offset),
                )
            )
            offset += 1
