"""Rounds of answers that people are asked to label. An entry is open until its label comes or its round expires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, select

from migrations.schema.prediction_log import labels, prediction_log
from migrations.schema.retraining import label_queue, label_rounds
from monitor.domain.label_queue import Candidate, Draw

# Rounds are kept for as long after their end: labels come late, and their probabilities are looked up here.
KEPT = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Frame:
    """Answers that a round may draw from: all of a version that were logged in [start, end)."""

    start: datetime
    end: datetime
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Asked:
    """The newest round of a version: when it ends, and how many of its entries still wait."""

    round_id: int
    frame_end: datetime
    expires_at: datetime
    entries: int
    waiting: int


def newest_round(connection: Connection, model: str, model_version: str) -> Asked | None:
    """The newest round about a version, over or not."""
    row = connection.execute(
        select(
            label_rounds.c.round_id,
            label_rounds.c.frame_end,
            label_rounds.c.expires_at,
            func.count().label("entries"),
            func.count().filter(labels.c.request_id.is_(None)).label("waiting"),
        )
        .join(label_queue, label_queue.c.round_id == label_rounds.c.round_id)
        .outerjoin(labels, labels.c.request_id == label_queue.c.request_id)
        .where(label_rounds.c.model == model, label_rounds.c.model_version == model_version)
        .group_by(label_rounds.c.round_id)
        .order_by(label_rounds.c.round_id.desc())
        .limit(1)
    ).first()
    return None if row is None else Asked(*row)


def frame(connection: Connection, model_version: str, start: datetime, end: datetime, limit: int) -> Frame:
    """The answers of a version logged in [start, end) that accuracy is judged by.

    Where there are more than `limit`, the frame starts later: at the first moment from which all of them are in.
    """
    log = prediction_log.c
    rows = connection.execute(
        select(log.request_id, log.logged_at, log.route, log.prediction, log.confidence, log.agreement, log.source)
        .where(
            log.logged_at >= start,
            log.logged_at < end,
            log.model_version == model_version,
            log.status == "ok",
            log.prediction.is_not(None),
            log.confidence.is_not(None),
            log.quarantine.is_(None),
        )
        .order_by(log.logged_at.desc())
        .limit(limit + 1)
    ).all()
    if len(rows) > limit:
        # of the oldest moment read some answers may be missing: none of it is taken
        kept = [row for row in rows if row.logged_at > rows[-1].logged_at]
        start, rows = (kept[-1].logged_at, kept) if kept else (end, [])
    return Frame(start, end, [Candidate(*row) for row in rows])


def store(
    connection: Connection,
    model: str,
    model_version: str,
    drawn: Draw,
    *,
    of: Frame,
    seed: int,
    reasons: Sequence[str],
    now: datetime,
    expires_at: datetime,
) -> int:
    """Keep a round and its entries; the round's id. Raises IntegrityError where a request is queued already."""
    round_id: int | None = connection.scalar(
        insert(label_rounds)
        .values(
            model=model,
            model_version=model_version,
            frame_start=of.start,
            frame_end=of.end,
            seed=seed,
            strata={name: {"rows": rows, "drawn": n} for name, (rows, n) in drawn.strata.items()},
            reasons=list(reasons),
            created_at=now,
            expires_at=expires_at,
        )
        .returning(label_rounds.c.round_id)
    )
    assert round_id is not None
    entries = [
        {
            "round_id": round_id,
            "place": place,
            "request_id": entry.request_id,
            "stratum": entry.stratum,
            "probability": entry.probability,
        }
        for place, entry in enumerate(drawn.entries, 1)
    ]
    connection.execute(insert(label_queue), entries)
    return round_id


def forget(connection: Connection, model: str, now: datetime) -> None:
    """Delete rounds that ended KEPT ago."""
    connection.execute(
        delete(label_rounds).where(label_rounds.c.model == model, label_rounds.c.expires_at < now - KEPT)
    )


def round_of(connection: Connection, model: str, round_id: int | None = None) -> Mapping[str, Any] | None:
    """A round as it is stored, by default the model's newest; None without one."""
    query = select(label_rounds).where(label_rounds.c.model == model)
    if round_id is not None:
        query = query.where(label_rounds.c.round_id == round_id)
    row = connection.execute(query.order_by(label_rounds.c.round_id.desc()).limit(1)).mappings().first()
    return None if row is None else dict(row)


def entries(connection: Connection, round_id: int, *, waiting: bool, after: int, limit: int) -> Sequence[Row[Any]]:
    """Entries of a round after a place, in order, those that wait for a label or all."""
    query = _entries(round_id).where(label_queue.c.place > after)
    if waiting:
        query = query.where(labels.c.request_id.is_(None))
    return connection.execute(query.order_by(label_queue.c.place).limit(limit)).all()


def labelled(connection: Connection, round_id: int) -> int:
    """How many entries of a round are closed by their label."""
    joined = label_queue.join(labels, labels.c.request_id == label_queue.c.request_id)
    query = select(func.count()).select_from(joined).where(label_queue.c.round_id == round_id)
    return int(connection.scalar(query) or 0)


def _entries(round_id: int) -> Select[*tuple[Any, ...]]:
    # Not what the model said: whoever labels must not be led by it.
    return (
        select(
            label_queue.c.place,
            label_queue.c.request_id,
            label_queue.c.stratum,
            label_queue.c.probability,
            prediction_log.c.logged_at,
            prediction_log.c.source,
            labels.c.labelled_at,
        )
        .select_from(label_queue)
        .join(label_rounds, label_rounds.c.round_id == label_queue.c.round_id)
        .outerjoin(
            prediction_log,
            and_(
                prediction_log.c.request_id == label_queue.c.request_id,
                # so that only the partitions of the frame are looked into
                prediction_log.c.logged_at >= label_rounds.c.frame_start,
                prediction_log.c.logged_at < label_rounds.c.frame_end,
            ),
        )
        .outerjoin(labels, labels.c.request_id == label_queue.c.request_id)
        .where(label_queue.c.round_id == round_id)
    )
