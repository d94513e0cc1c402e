"""What else people look at in the seeded hour: what moved, a chain from finding to canary, a silence, reports."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from migrations.schema.monitoring import (
    alerts,
    audit_log,
    baselines,
    findings,
    jobs,
    model_versions,
    notifications,
    retrain_decisions,
    silences,
)
from migrations.schema.rollouts import rollout_checks, rollout_reports, rollouts
from monitor.domain.cadence import Cadence
from monitor.domain.window import Window
from monitor.reports import summary
from monitor.reports.advice import headline
from monitor.storage import reports
from tests.support import report_material
from tests.support.seed_scene import CLASSES, MODEL, OLD_VERSION, VERSION, at

CHALLENGER = "fusion-2026.03.02-b210"
# Labelled baseline rows and right ones in 50 cells of confidence, and the window's shares over joined cells.
CONFIDENCE = [0] * 15 + [4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 11, 12, 13, 14, 15, 17, 18, 20, 22, 24, 27]
CONFIDENCE += [30, 33, 37, 41, 45, 50, 55, 60, 66, 72, 80]
RIGHT = [round(rows * (i + 0.5) / 50) for i, rows in enumerate(CONFIDENCE)]
BOUNDS = [0.0, 0.5, 0.64, 0.74, 0.8, 0.86, 0.9, 0.94, 0.96, 0.98, 1.0]
BEFORE = [0.07, 0.09, 0.1, 0.09, 0.12, 0.11, 0.14, 0.09, 0.1, 0.09]
NOW = [0.16, 0.15, 0.14, 0.11, 0.12, 0.09, 0.1, 0.05, 0.04, 0.04]
MOVED = [
    {"statistic": "brightness", "effect": -1.9, "baseline": 0.52, "window": 0.31, "p_value": 1e-9},
    {"statistic": "noise", "effect": 1.4, "baseline": 0.021, "window": 0.048, "p_value": 1e-7},
]
SOURCES = [{"source": "camera-7", "rows": 118, "share": 0.81}, {"source": "camera-2", "rows": 122, "share": 0.19}]


def tell(engine: Engine) -> None:
    """Add to a database that `seed.seed` filled."""
    with engine.begin() as connection:
        _details(connection)
        _confidence(connection)
        _chain(connection)
        _canary(connection)
        _told(connection)
        _reports(connection)


def _details(connection: Connection) -> None:
    """What moved, in the details of the findings of the new camera; and counts where image was gone."""
    drift = findings.c.verdict == "drift"
    for detector, modality, kept in (
        ("embedding_mmd", "image", {"moved": MOVED, "sources": SOURCES, "threshold_from": "baseline"}),
        ("embedding_mmd", "fused", {"moved": [], "prior_alone": False}),
        ("availability", "image", {"state": "gone", "counts": {"missing": 118, "corrupt": 2}}),
        ("calibration", "fused", {"classes": _by_class(), "gap": -0.11}),
    ):
        chosen = (findings.c.detector == detector) & (findings.c.modality == modality) & drift
        connection.execute(update(findings).where(chosen).values(details=kept))
    mix = {"kl": 0.02, "js": 0.005, "psi": 0.04, "baseline": [0.34, 0.33, 0.33], "window": [0.3, 0.29, 0.41]}
    connection.execute(update(findings).where(findings.c.detector == "class_drift").values(details=mix))


def _by_class() -> dict[str, Any]:
    return {
        name: {"rows": 170 + 3 * i, "ece": 0.09 + 0.02 * i, "gap": -0.08 - 0.02 * i} for i, name in enumerate(CLASSES)
    }


def _confidence(connection: Connection) -> None:
    facts = {"accuracy": 0.972, "ece": 0.008, "confidence": CONFIDENCE, "confidence_correct": RIGHT}
    connection.execute(update(baselines).where(baselines.c.model_version == VERSION).values(facts=facts))
    common: dict[str, Any] = {
        "model": MODEL,
        "model_version": VERSION,
        "modality": "fused",
        "window_start": at("12:29"),
        "window_end": at("12:30"),
        "n_reference": 2000,
        "n_current": 240,
        "baseline_id": 2,
    }
    shares = {"bounds": BOUNDS, "baseline": BEFORE, "window": NOW}
    found = {
        "detector": "confidence_drift",
        "verdict": "drift",
        "value": 0.24,
        "p_value": 0.0002,
        "effect": 0.24,
        "threshold": 0.2,
        "explanation": "Answers are less sure: mean confidence fell from 84% to 74% (JS distance 0.24, p = 0.0002).",
        "details": shares,
    }
    estimate = {
        "detector": "estimated_accuracy",
        "verdict": "ok",
        "value": 0.741,
        "p_value": 0.001,
        "effect": 0.09,
        "interval_low": 0.72,
        "interval_high": 0.765,
        "explanation": "Accuracy is estimated at 74.1% (72.0% to 76.5%) without labels, 83.2% in the baseline.",
        "details": {"baseline": 0.832, "estimate": True},
    }
    connection.execute(insert(findings).values(**common, **found))
    connection.execute(insert(findings).values(**common, **estimate))


def _chain(connection: Connection) -> None:
    """Why job 2 was started and how it ended, from the finding to the promotion."""
    proof = select(findings.c.finding_id).where(findings.c.detector == "calibration").order_by(findings.c.finding_id)
    ids = list(connection.scalars(proof.limit(1)))
    made = {"model": MODEL, "family": "cross_attention", "modalities": ["image", "text"], "class_names": CLASSES}
    connection.execute(
        insert(model_versions).values(
            version=CHALLENGER, checkpoint="/c", manifest_sha256="0" * 64, fingerprints={}, job_id=2, **made
        )
    )
    common = {"model": MODEL, "confirmed_at": None, "evidence": {"findings": ids, "alerts": [1]}}
    reasons = [
        {"name": "drop", "met": True, "text": "accuracy fell by 8.1 points (p < 0.001)"},
        {"name": "labels", "met": True, "text": "1280 new labels, 500 needed"},
    ]
    connection.execute(
        insert(retrain_decisions).values(
            model_version=OLD_VERSION, retrain=True, reasons=reasons, job_id=2, decided_at=at("08:02"), **common
        )
    )
    gate = {"passed": True, "conditions": [{"name": "accuracy", "met": True, "text": "0.962 against 0.871"}]}
    result = select(jobs.c.result).where(jobs.c.job_id == 2).scalar_subquery()
    kept = connection.scalar(select(result)) or {}
    connection.execute(update(jobs).where(jobs.c.job_id == 2).values(result={**kept, "gate": gate}))
    _rollout(connection, 2, VERSION, OLD_VERSION, at("08:05"), "promoted")


def _rollout(connection: Connection, job: int, version: str, champion: str, start: Any, outcome: str | None) -> None:
    rollout_id = connection.execute(
        insert(rollouts)
        .values(
            model=MODEL,
            version=version,
            champion=champion,
            job_id=job,
            stage="canary",
            percent=100 if outcome else 10,
            passed_checks=1,
            failed_checks=0 if outcome else 2,
            step_since=start + timedelta(minutes=2),
            checked_until=start + timedelta(minutes=4),
            started_at=start,
            outcome=outcome,
            ended_at=start + timedelta(minutes=6) if outcome else None,
            reason="every step of the canary passed" if outcome else None,
        )
        .returning(rollouts.c.rollout_id)
    ).scalar_one()
    fine = {
        "name": "errors",
        "outcome": "passed",
        "text": "0.00% against 0.10%, a rise of -0.31% at least",
    }
    slow = {"name": "latency", "outcome": "failed", "text": "p95 of a pass 31.0 ms against 12.4 ms"}
    for minute, (stage, percent, reasons) in enumerate(
        [("shadow", 10, [fine]), ("canary", 10, [fine]), ("canary", 10, [fine] if outcome else [fine, slow])]
    ):
        worst = "failed" if slow in reasons else "passed"
        connection.execute(
            insert(rollout_checks).values(
                rollout_id=rollout_id,
                stage=stage,
                percent=percent,
                outcome=worst,
                reasons=reasons,
                checked_at=start + timedelta(minutes=minute + 1),
            )
        )
    connection.execute(
        insert(rollout_reports).values(
            rollout_id=rollout_id, worker_id="worker-0", state="ready", detail="", reported_at=start
        )
    )


def _canary(connection: Connection) -> None:
    _rollout(connection, 2, CHALLENGER, VERSION, at("12:21"), None)


def _told(connection: Connection) -> None:
    """A message about the first alert that fires, one that was held back, and the silence that held it."""
    silence = connection.execute(
        insert(silences)
        .values(
            model=MODEL,
            kind="silence",
            matchers={"modality": "fused", "alertname": "EmbeddingDrift"},
            starts_at=at("12:20"),
            ends_at=at("16:20"),
            owner="ann",
            reason="the new camera is known",
        )
        .returning(silences.c.silence_id)
    ).scalar_one()
    held = (alerts.c.alertname == "EmbeddingDrift") & (alerts.c.modality == "fused")
    connection.execute(update(alerts).where(held).values(silenced_by=silence))
    firing = connection.execute(select(alerts.c.alert_id, alerts.c.firing_since).where(alerts.c.state == "firing"))
    for row in firing.all():
        connection.execute(
            insert(notifications).values(
                alert_id=row.alert_id,
                event="firing",
                receiver="pager",
                status="sent",
                payload={},
                attempts=1,
                next_attempt_at=row.firing_since,
                created_at=row.firing_since,
                sent_at=row.firing_since + timedelta(seconds=1),
            )
        )
    connection.execute(
        insert(audit_log).values(
            actor="ann",
            action="silence_created",
            subject=f"silence {silence}",
            details={"reason": "the new camera is known"},
            at=at("12:20"),
        )
    )


def _reports(connection: Connection) -> None:
    """A week whose report could not be made, and after it a day's, number 2, with its summary."""
    day = report_material.DAY - timedelta(days=1)
    for cadence, days in ((Cadence.WEEKLY, 7), (Cadence.DAILY, 1)):
        period = Window(day - timedelta(days=days - 1), day + timedelta(days=1))
        mine = reports.claim(connection, MODEL, cadence, period, now=at("01:00"))
        assert mine is not None
        if cadence is Cadence.WEEKLY:
            reports.fail(connection, mine, error="it took longer than 300 s", now=at("01:05"))
            continue
        material = report_material.material(period={"start": period.start, "end": period.end})
        files = {name: body.encode() for name, body in summary.render(material).items()}
        reports.keep(
            connection, mine, files, headline=headline(material), error="evidently: MemoryError", now=at("01:02")
        )
