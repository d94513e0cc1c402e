"""Labelled rows: labels joined to the predictions they judge."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from sqlalchemy import Connection, func, select

from migrations.schema.prediction_log import labels, prediction_log
from monitor.domain.window import Labelled


def labelled(connection: Connection, model_version: str, *, start: datetime, end: datetime, limit: int) -> Labelled:
    """Rows of a version whose label was received in [start, end), at most `limit` of the newest.

    Rows with an error, without a confidence or in quarantine are left out.
    """
    rows = connection.execute(
        select(
            prediction_log.c.confidence,
            (prediction_log.c.prediction == labels.c.label).label("correct"),
            prediction_log.c.route,
        )
        .join(labels, labels.c.request_id == prediction_log.c.request_id)
        .where(
            labels.c.received_at >= start,
            labels.c.received_at < end,
            prediction_log.c.model_version == model_version,
            prediction_log.c.status == "ok",
            prediction_log.c.confidence.is_not(None),
            prediction_log.c.quarantine.is_(None),
        )
        .order_by(labels.c.received_at.desc(), labels.c.request_id)
        .limit(limit)
    ).all()
    return Labelled(
        # Stored in single precision: a confidence of 1 may come back a hair above it.
        np.clip(np.array([row.confidence for row in rows], np.float64), 0.0, 1.0),
        np.array([row.correct for row in rows], np.bool_),
        np.array([row.route for row in rows], np.str_),
    )


def count_by_class(
    connection: Connection, model_version: str, class_names: tuple[str, ...], since: datetime
) -> dict[str, int]:
    """How many labels received since then judge rows of a version, by the label's class; zero for a class without."""
    rows = connection.execute(
        select(labels.c.label, func.count().label("n"))
        .join(prediction_log, prediction_log.c.request_id == labels.c.request_id)
        .where(
            labels.c.received_at >= since,
            prediction_log.c.model_version == model_version,
            prediction_log.c.status == "ok",
            labels.c.label.in_(class_names),
        )
        .group_by(labels.c.label)
    )
    found: dict[str, int] = {row.label: row.n for row in rows}
    return {name: found.get(name, 0) for name in class_names}
