"""Confidence against truth, from the champion's newest labelled answers."""

from __future__ import annotations

from sqlalchemy import Connection, select

from migrations.schema.prediction_log import labels, prediction_log, request_ids
from monitor.domain.intervals import wilson
from monitor.domain.reliability import calibration_error, reliability_bins
from monitor.storage.views.models.base import Period, VerdictName
from monitor.storage.views.models.findings import Calibration

# Labels looked at, the newest received first, as in Grafana: enough for four bins, at tens of milliseconds of look-ups.
MAX_LABELS = 2000


def calibration(
    connection: Connection,
    version: str | None,
    period: Period,
    *,
    target: float,
    minimum_labels: int,
    judged: VerdictName,
) -> Calibration:
    """Accuracy, calibration error and reliability bins over answers of `version` labelled within the period.

    `judged` is the verdict of the newest calibration finding, passed on where the labels suffice. Answers in error
    or quarantine are left out.
    """
    rows = _labelled(connection, version, period) if version else []
    confidence = [row[0] for row in rows]
    correct = [row[1] for row in rows]
    bins = reliability_bins(confidence, correct)
    low, high = wilson(sum(correct), len(rows)) if rows else (None, None)
    return Calibration(
        model_version=version,
        period=period,
        labelled=len(rows),
        minimum_labels=minimum_labels,
        accuracy=sum(correct) / len(rows) if rows else None,
        accuracy_low=low,
        accuracy_high=high,
        mean_confidence=sum(confidence) / len(rows) if rows else None,
        ece=calibration_error(bins),
        ece_target=target,
        verdict=_verdict(len(rows), minimum_labels, judged),
        bins=list(bins),
    )


def _verdict(labelled: int, minimum: int, judged: VerdictName) -> VerdictName:
    if labelled == 0:
        return "no_data"
    return "insufficient" if labelled < minimum else judged


def _labelled(connection: Connection, version: str, period: Period) -> list[tuple[float, bool]]:
    newest = (
        select(labels.c.request_id, labels.c.label)
        .where(labels.c.received_at >= period.start, labels.c.received_at < period.end)
        .order_by(labels.c.received_at.desc())
        .limit(MAX_LABELS)
        .subquery()
    )
    log = prediction_log.c
    rows = connection.execute(
        select(log.confidence, log.prediction == newest.c.label)
        .select_from(newest)
        # by way of request_ids, whose time leads to the one partition that holds the row
        .join(request_ids, request_ids.c.request_id == newest.c.request_id)
        .join(
            prediction_log,
            (log.request_id == request_ids.c.request_id) & (log.logged_at == request_ids.c.logged_at),
        )
        .where(log.model_version == version, log.status == "ok", log.quarantine.is_(None))
        .order_by(log.request_id)
    )
    return [(confidence, right) for confidence, right in rows]
