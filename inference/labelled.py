"""Which logged requests have a label: ids, labels and the digests of what was sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from inference.modalities.base import Status
from migrations.schema.prediction_log import labels, modality_log, prediction_log

IDS_IN_ONE_QUERY = 5000


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A request whose label is known; `digests` holds (key id, digest) by present modality, where it was logged."""

    request_id: str
    label: str
    digests: Mapping[str, tuple[str, bytes]]


def labelled_rows(connection: Connection, until: datetime, limit: int) -> list[LabelledRow]:
    """The newest labelled rows with a usable answer, by the time their labels came in."""
    found = connection.execute(
        select(labels.c.request_id, labels.c.label)
        .join(prediction_log, prediction_log.c.request_id == labels.c.request_id)
        .where(
            labels.c.received_at <= until,
            prediction_log.c.status == "ok",
            prediction_log.c.quarantine.is_(None),
        )
        .order_by(labels.c.received_at.desc(), labels.c.request_id)
        .limit(limit)
    ).all()
    digests = _digests(connection, [row.request_id for row in found])
    return [LabelledRow(row.request_id, row.label, digests.get(row.request_id, {})) for row in found]


def _digests(connection: Connection, ids: Sequence[str]) -> Mapping[str, dict[str, tuple[str, bytes]]]:
    by_request: dict[str, dict[str, tuple[str, bytes]]] = defaultdict(dict)
    for start in range(0, len(ids), IDS_IN_ONE_QUERY):
        rows = connection.execute(
            select(
                modality_log.c.request_id, modality_log.c.modality, modality_log.c.key_id, modality_log.c.digest
            ).where(
                modality_log.c.request_id.in_(ids[start : start + IDS_IN_ONE_QUERY]),
                modality_log.c.status == str(Status.PRESENT),
            )
        )
        for row in rows:
            by_request[row.request_id][row.modality] = (row.key_id, row.digest)
    return by_request
