"""Labelled rows: labels joined to the predictions they judge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from migrations.schema.prediction_log import labels, prediction_log


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """N labelled predictions, newest label first.

    `confidence` (N,) in [0, 1], `correct` (N,) bool, `pattern` (N,) route, e.g. `fused` or `fallback:text`.
    """

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    pattern: tuple[str, ...]


def labelled(
    connection: Connection, model_version: str, *, start: datetime, end: datetime, limit: int
) -> LabelledRows:
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
    return LabelledRows(
        np.array([row.confidence for row in rows], np.float64),
        np.array([row.correct for row in rows], np.bool_),
        tuple(row.route for row in rows),
    )


def count_by_class(
    connection: Connection, model_version: str, class_names: tuple[str, ...], since: datetime
) -> dict[str, int]:
    """How many labels received since then judge rows of a version, by the label's class; zero for a class without."""
    rows = connection.execute(
        select(labels.c.label, func.count())
        .join(prediction_log, prediction_log.c.request_id == labels.c.request_id)
        .where(
            labels.c.received_at >= since,
            prediction_log.c.model_version == model_version,
            prediction_log.c.status == "ok",
            labels.c.label.in_(class_names),
        )
        .group_by(labels.c.label)
    )
    found: dict[str, int] = {label: n for label, n in rows}
    return {name: found.get(name, 0) for name in class_names}
