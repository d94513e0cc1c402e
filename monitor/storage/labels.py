"""Labelled rows: labels joined to the predictions they judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, ColumnElement, Connection, FromClause, Select, Table, case, func, select, true

from migrations.schema import bins as schema_bins
from migrations.schema.answers import answer as answer_of
from migrations.schema.prediction_log import labels, prediction_log
from migrations.schema.retraining import label_queue
from migrations.schema.summaries import summaries
from monitor.domain.window import FUSED, Labelled, Window

MOST_CLASSES = 32  # probabilities of so many classes are read
MOST_SUMMARIES = 120  # a few megabytes
JUDGED = ("model_version", "confidence", "prediction", "route", "probabilities", "logged_at")


def judged(
    model_version: str,
    *conditions: ColumnElement[bool],
    order: Column[datetime],
    limit: int,
    within: Window | None = None,
) -> Select[Any]:
    """A version's answers that a label judges, each with its label and, as `answered_at`, when it was logged.

    Conditions are on the labels; the newest `limit` by `order` are taken, the newest first, with `within` of answers
    logged then only. Rows with an error, without a confidence or in quarantine are left out.
    """
    wanted = [prediction_log.c.model_version == model_version, *_usable(prediction_log)]
    if within is not None:
        wanted += [prediction_log.c.logged_at >= within.start, prediction_log.c.logged_at < within.end]
    answer = answer_of([prediction_log.c[name] for name in JUDGED], *wanted)
    return (
        _columns(answer)
        .add_columns(answer.c.logged_at.label("answered_at"))
        .select_from(labels.join(answer, true()))
        .outerjoin(label_queue, label_queue.c.request_id == labels.c.request_id)
        .where(*conditions)
        .order_by(order.desc(), labels.c.request_id.collate("C").desc())  # an order of every language
        .limit(limit)
    )


def judged_of(partition: Table) -> Select[Any]:
    """The answers of one partition of the log that a label judges, as `judged`, without `answered_at`."""
    return (
        _columns(partition)
        .select_from(partition)
        .join(labels, labels.c.request_id == partition.c.request_id)
        .outerjoin(label_queue, label_queue.c.request_id == partition.c.request_id)
        .where(*_usable(partition))
    )


def _usable(log: Table) -> tuple[ColumnElement[bool], ...]:
    """Which rows of the log accuracy and calibration are judged by."""
    return log.c.status == "ok", log.c.confidence.is_not(None), log.c.quarantine.is_(None)


def _columns(answer: FromClause) -> Select[Any]:
    return select(
        labels.c.request_id,
        labels.c.received_at,
        answer.c.model_version,
        answer.c.confidence,
        answer.c.prediction,
        answer.c.route,
        # wide ones would be most of the transfer, and calibration does without
        case((func.cardinality(answer.c.probabilities) <= MOST_CLASSES, answer.c.probabilities)).label("probabilities"),
        labels.c.label,
        labels.c.source,
        func.coalesce(labels.c.verdict, "").label("verdict"),
        # what we drew ourselves we know; else what the label says
        func.coalesce(label_queue.c.probability, labels.c.sampling_probability).label("sampling_probability"),
    )


def labelled(connection: Connection, model_version: str, *, start: datetime, end: datetime, limit: int) -> Labelled:
    """Rows of a version whose label was received in [start, end), at most `limit` of the newest, the oldest first.

    They are those of `judged`. Answers are counted over the same time, from the oldest label taken where the limit cut
    some off.
    """
    received = labels.c.received_at
    newest = judged(model_version, received >= start, received < end, order=received, limit=limit)
    rows = connection.execute(newest).all()[::-1]
    since = rows[0].received_at if len(rows) == limit else start
    return as_labelled(
        rows,
        answered(connection, model_version, start=since, end=end),
        confidences(connection, model_version, start=since, end=end),
    )


def as_labelled(rows: Sequence[Any], answered: int, answers: NDArray[np.float64] | None) -> Labelled:
    """Rows of `judged`, whose columns are attributes, as detectors take them."""
    label, predicted = (np.array([getattr(row, name) for row in rows], np.str_) for name in ("label", "prediction"))
    return Labelled(
        # Stored in single precision: a confidence of 1 may come back a hair above it.
        np.clip(np.array([row.confidence for row in rows], np.float64), 0.0, 1.0),
        np.asarray(predicted == label, np.bool_),
        np.array([row.route for row in rows], np.str_),
        predicted=predicted,
        label=label,
        source=np.array([row.source for row in rows], np.str_),
        verdict=np.array([row.verdict for row in rows], np.str_),
        sampling=np.array([row.sampling_probability for row in rows], np.float64),
        probabilities=_probabilities([row.probabilities for row in rows]),
        answered=answered,
        answers=answers,
    )


def answered(connection: Connection, model_version: str, *, start: datetime, end: datetime) -> int:
    """How many requests produced in [start, end) a version answered, by the counts of its summaries."""
    counted = func.sum(summaries.c.counts["rows"].as_integer())
    query = select(func.coalesce(counted, 0)).where(
        summaries.c.slot_start >= start,
        summaries.c.slot_start < end,
        summaries.c.model_version == model_version,
        summaries.c.modality == FUSED,
    )
    return int(connection.execute(query).scalar_one())


def confidences(
    connection: Connection, model_version: str, *, start: datetime, end: datetime
) -> NDArray[np.float64] | None:
    """A version's answers with every modality by confidence, in equal bins of [0, 1]; None where none are known.

    Of more than `MOST_SUMMARIES` summaries every so-manieth is read, spread evenly over the time.
    """
    places = summaries.c.slot_start, summaries.c.topic, summaries.c.partition, summaries.c.first_offset
    numbered = (
        select(
            summaries.c.bins,
            func.row_number().over(order_by=places).label("number"),
            func.count().over().label("all"),
        )
        .where(
            summaries.c.slot_start >= start,
            summaries.c.slot_start < end,
            summaries.c.model_version == model_version,
            summaries.c.modality == FUSED,
        )
        .subquery()
    )
    step = (numbered.c.all + MOST_SUMMARIES - 1) // MOST_SUMMARIES
    return added(connection.scalars(select(numbered.c.bins).where(numbered.c.number % step == 0)))


def added(payloads: Iterable[bytes]) -> NDArray[np.float64] | None:
    """Answers by confidence over all these stored bins; None where none know it, or they disagree about its cells."""
    total: NDArray[np.float64] | None = None
    for payload in payloads:
        try:
            found = schema_bins.load(payload)
        except schema_bins.BinsError:
            continue  # whoever judges the window itself says so
        if "confidence" in found.columns:
            part = found.total("confidence")
            if total is not None and len(total) != len(part):
                return None
            total = part if total is None else total + part
    return total


def _probabilities(rows: Sequence[Sequence[float] | None]) -> NDArray[np.float64] | None:
    """(N, classes), or None where some row has none or another number of classes."""
    if not rows or len({-1 if row is None else len(row) for row in rows}) > 1 or rows[0] is None:
        return None
    return np.array(rows, np.float64)


def count_by_class(
    connection: Connection, model_version: str, class_names: tuple[str, ...], since: datetime
) -> dict[str, int]:
    """How many labels received since then judge rows of a version, by the label's class; zero for a class without."""
    known = prediction_log.c.model_version == model_version, prediction_log.c.status == "ok"
    answer = answer_of([prediction_log.c.request_id], *known)
    rows = connection.execute(
        select(labels.c.label, func.count().label("n"))
        .select_from(labels.join(answer, true()))
        .where(labels.c.received_at >= since, labels.c.label.in_(class_names))
        .group_by(labels.c.label)
    )
    found: dict[str, int] = {row.label: row.n for row in rows}
    return {name: found.get(name, 0) for name in class_names}
