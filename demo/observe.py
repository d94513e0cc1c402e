"""What the story looks up while it plays: the database's own rows, never what the script believes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, and_, func, select

from migrations.schema.monitoring import alerts, findings, jobs, model_aliases, notifications
from migrations.schema.prediction_log import labels, prediction_log

RECEIVER = "oncall"


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that reached the on-call person: when it was sent and, once it was, when its end was."""

    alertname: str
    modality: str
    severity: str
    detected_at: datetime
    resolved_at: datetime | None

    def __str__(self) -> str:
        return f"{self.severity} {self.alertname} ({self.modality}) at {self.detected_at:%H:%M:%S}"


@dataclass(frozen=True, slots=True)
class Quality:
    """Accuracy and ECE of labelled answers of one model version, as the monitor measured them last."""

    accuracy: float
    ece: float


class Observer:
    """Reads the monitored database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def told(self) -> list[Told]:
        """Every alert sent to the on-call receiver so far, in that order."""
        fired, ended = notifications.alias("fired"), notifications.alias("ended")
        query = (
            select(
                alerts.c.alertname,
                alerts.c.modality,
                alerts.c.severity,
                fired.c.sent_at.label("detected_at"),
                ended.c.sent_at.label("resolved_at"),
            )
            .join(fired, and_(fired.c.alert_id == alerts.c.alert_id, fired.c.event == "firing"))
            .join(
                ended,
                and_(
                    ended.c.alert_id == alerts.c.alert_id,
                    ended.c.event == "resolved",
                    ended.c.receiver == RECEIVER,
                    ended.c.status == "sent",
                ),
                isouter=True,
            )
            .where(fired.c.receiver == RECEIVER, fired.c.status == "sent")
            .order_by(fired.c.sent_at)
        )
        return [Told(**row._mapping) for row in self._rows(query)]

    def verdicts(self, detector: str, modality: str, since: datetime, until: datetime) -> list[str]:
        """The verdicts on every window that lies within the given time."""
        query = (
            select(findings.c.verdict)
            .where(
                findings.c.detector == detector,
                findings.c.modality == modality,
                findings.c.window_end > since,
                findings.c.window_end <= until,
            )
            .order_by(findings.c.window_end)
        )
        return [row.verdict for row in self._rows(query)]

    def drift_details(self, detector: str, modality: str, since: datetime) -> tuple[str, Mapping[str, Any]] | None:
        """Explanation and details of the newest finding of drift since then."""
        query = (
            select(findings.c.explanation, findings.c.details)
            .where(
                findings.c.detector == detector,
                findings.c.modality == modality,
                findings.c.verdict == "drift",
                findings.c.window_end > since,
            )
            .order_by(findings.c.window_end.desc())
            .limit(1)
        )
        rows = self._rows(query)
        return (rows[0].explanation, rows[0].details) if rows else None

    def routes(self, since: datetime, until: datetime) -> dict[tuple[str, bool], int]:
        """Logged rows by (route, degraded) among requests produced in that time."""
        query = (
            select(prediction_log.c.route, prediction_log.c.degraded, func.count().label("rows"))
            .where(prediction_log.c.produced_at >= since, prediction_log.c.produced_at < until)
            .group_by(prediction_log.c.route, prediction_log.c.degraded)
        )
        return {(row.route, row.degraded): row.rows for row in self._rows(query)}

    def logged(self, version: str | None = None) -> int:
        """Rows in the prediction log, of one model version or of all."""
        query = select(func.count()).select_from(prediction_log)
        if version is not None:
            query = query.where(prediction_log.c.model_version == version)
        return int(self._rows(query)[0][0])

    def champion(self) -> str | None:
        """The version that answers."""
        rows = self._rows(select(model_aliases.c.version).where(model_aliases.c.alias == "champion"))
        return rows[0].version if rows else None

    def jobs(self) -> list[Row[Any]]:
        """Every retrain job, oldest first."""
        return self._rows(select(jobs).order_by(jobs.c.job_id))

    def quality(self, version: str) -> Quality | None:
        """The newest measurement of accuracy and ECE by labels of one version; None before there is one."""
        newest = [self._value(detector, version) for detector in ("accuracy", "calibration")]
        return None if None in newest else Quality(*newest)  # type: ignore[arg-type]  # None is ruled out

    def labels(self) -> int:
        """Labels that reached the database."""
        return int(self._rows(select(func.count()).select_from(labels))[0][0])

    def _value(self, detector: str, version: str) -> float | None:
        query = (
            select(findings.c.value)
            .where(
                findings.c.detector == detector,
                findings.c.model_version == version,
                findings.c.verdict.in_(("ok", "drift")),
            )
            .order_by(findings.c.window_end.desc())
            .limit(1)
        )
        rows = self._rows(query)
        return rows[0].value if rows else None

    def _rows(self, query: Any) -> list[Row[Any]]:
        with self._engine.connect() as connection:
            return list(connection.execute(query))


def said(job: Row[Any] | None) -> str:
    """A job's state, and what is said of it."""
    if job is None:
        return "there is no job"
    gate: Mapping[str, Any] = (job.result or {}).get("gate") or {}
    unmet = [f"{each['name']}: {each['text']}" for each in gate.get("conditions", ()) if not each["met"]]
    return "; ".join([job.state, *([job.error] if job.error else []), *unmet])
