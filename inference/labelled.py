"""Which logged requests have a label: ids, labels and the digests of what was sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Text, bindparam, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from inference.modalities.base import Status
from migrations.schema.answers import answer as answer_of
from migrations.schema.metadata import TIMESTAMP
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
    answer = answer_of(
        [prediction_log.c.logged_at], prediction_log.c.status == "ok", prediction_log.c.quarantine.is_(None)
    )
    found = connection.execute(
        select(labels.c.request_id, labels.c.label, answer.c.logged_at)
        .select_from(labels.join(answer, true()))
        .where(labels.c.received_at <= until)
        .order_by(labels.c.received_at.desc(), labels.c.request_id)
        .limit(limit)
    ).all()
    digests = _digests(connection, {row.request_id: row.logged_at for row in found})
    return [LabelledRow(row.request_id, row.label, digests.get(row.request_id, {})) for row in found]


def _digests(connection: Connection, logged: Mapping[str, datetime]) -> Mapping[str, dict[str, tuple[str, bytes]]]:
    """By request; each is looked up in the one day of the log that holds it."""
    by_request: dict[str, dict[str, tuple[str, bytes]]] = defaultdict(dict)
    wanted = func.unnest(bindparam("ids", type_=ARRAY(Text)), bindparam("times", type_=ARRAY(TIMESTAMP)))
    request = wanted.table_valued("request_id", "logged_at").render_derived()
    part = (
        select(modality_log.c.modality, modality_log.c.key_id, modality_log.c.digest)
        .where(
            modality_log.c.request_id == request.c.request_id,
            modality_log.c.logged_at == request.c.logged_at,
            modality_log.c.status == str(Status.PRESENT),
        )
        .correlate(request)
        .offset(0)
        .lateral("part")
    )
    query = select(request.c.request_id, part).select_from(request.join(part, true()))
    everyone = list(logged)
    for start in range(0, len(everyone), IDS_IN_ONE_QUERY):
        ids = everyone[start : start + IDS_IN_ONE_QUERY]
        for row in connection.execute(query, {"ids": ids, "times": [logged[each] for each in ids]}):
            by_request[row.request_id][row.modality] = (row.key_id, row.digest)
    return by_request
