"""A deterministic hour of a model's life in the database: what people look at, without running the programs.

Image and text at 4 requests a second, summaries every 10 s on two partitions, findings every 30 s. Image is gone from
11:58 to 12:03 (alert resolved); from 12:12 on a new camera moves image and fused embeddings and costs accuracy; labels
came at 12:15; a retrain is running. `outage=True` takes image away again from 12:27 on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, insert

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
from migrations.schema.prediction_log import dead_letters
from tests.support.seed_scene import CLASSES, DAY, MODEL, NOW, OLD_VERSION, TIMING, VERSION, at, image_gone, new_camera
from tests.support.seed_traffic import write_traffic

__all__ = ["MODEL", "NOW", "TIMING", "VERSION", "FixedClock", "at", "seed"]


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
        write_traffic(connection, outage)
        series = _findings(connection, outage)
        _alerts(connection, series, outage)
        _jobs(connection)
        _dead_letters(connection)


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
        gone = image_gone(end - timedelta(seconds=15), outage)
        rows += [_finding(rng, end, check, gone) for check in _CHECKS]
        rows += [_gradual(end, *watch) for watch in _WATCHES]
    ids = connection.scalars(
        insert(findings).returning(findings.c.finding_id, sort_by_parameter_order=True), rows
    ).all()
    series: dict[tuple[str, str], list[int]] = {}
    for row, finding_id in zip(rows, ids, strict=True):
        series.setdefault((row["detector"], row["modality"]), []).append(finding_id)
    return series


# detector, severity, allowed false alarms, metrics followed, windows learnt from, evidence, threshold
_WATCHES: tuple[tuple[str, str, float, int, int, float, float], ...] = (
    ("sequential", "ticket", 4.0, 9, 168, 31.7, 180.0),
    ("sequential_page", "page", 1.0, 2, 41, 0.0, 8640.0),
)


def _gradual(
    end: datetime,
    detector: str,
    severity: str,
    allowed: float,
    series: int,
    taken: int,
    evidence: float,
    threshold: float,
) -> dict[str, Any]:
    calibrated = series if taken == 168 else 0
    words = f"{series} metrics are followed for gradual change" if calibrated else f"{taken} of 168 windows are in"
    return {
        "model": MODEL,
        "model_version": VERSION,
        "detector": detector,
        "modality": "all",
        "window_start": end - timedelta(seconds=60),
        "window_end": end,
        "verdict": "ok" if calibrated else "insufficient",
        "value": evidence if calibrated else None,
        "p_value": None,
        "effect": None,
        "interval_low": None,
        "interval_high": None,
        "threshold": threshold,
        "n_reference": taken,
        "n_current": series,
        "baseline_id": 2,
        "explanation": words,
        "details": {
            "severity": severity,
            "allowed": allowed,
            "days": 30,
            "series": series,
            "calibrated": calibrated,
            "taken": taken,
            "needed": 168,
            "leading": [],
        },
    }


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
    drifting = moved is not None and new_camera(end - timedelta(seconds=30))
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


_UNMET = {"name": "calibration", "met": False, "text": "ECE 0.110 against 0.094, limit 0.050"}


def _jobs(connection: Connection) -> None:
    measured = {
        "champion": {"version": OLD_VERSION, "accuracy": 0.871, "ece": 0.094, "n": 640},
        "candidate": {"version": VERSION, "accuracy": 0.962, "ece": 0.011, "n": 640},
    }
    lineage = {
        "base_version": OLD_VERSION,
        "data_sha256": "5d1f2d0c6c1f0a3e" * 4,
        "rows": {"log": {"training": 960, "calibration": 320, "measuring": 320}, "original": {"training": 411}},
        "left_out": {"not_in_store": 3, "digest_differs": 1},
    }
    connection.execute(
        insert(jobs),
        [
            {
                "model": MODEL,
                "state": "rejected",
                "spec": {"base_version": OLD_VERSION},
                "progress": {"step": 400, "steps": 400},
                "lineage": lineage,
                "result": {**measured, "gate": {"passed": False, "conditions": [_UNMET]}},
                "attempts": 1,
                "deadline": at("07:00"),
                "created_at": at("06:03"),
                "started_at": at("06:04"),
                "finished_at": at("06:12"),
            },
            {
                "model": MODEL,
                "state": "promoted",
                "spec": {"base_version": OLD_VERSION},
                "progress": {"step": 400, "steps": 400},
                "lineage": lineage,
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
                "progress": {
                    "phase": "training",
                    "step": 260,
                    "steps": 400,
                    "loss": 0.214,
                    "eta": at("12:33:20").isoformat(),
                },
                "lineage": None,
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
            {"actor": "monitor", "action": "promoted", "subject": VERSION, "details": {"job_id": 2}, "at": at("08:12")},
            {
                "actor": "monitor",
                "action": "retrain_requested",
                "subject": "job 3",
                "details": {},
                "at": at("12:28:30"),
            },
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
