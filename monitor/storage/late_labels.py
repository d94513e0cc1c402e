"""Labels by the time of the answers they judge: how often they changed, and what is known of a time's answers now."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from sqlalchemy import Connection, select

from migrations.schema.prediction_log import LABEL_SLOT_SECONDS, label_slots, labels
from monitor.domain.window import Labelled, Window
from monitor.storage.labels import answered, as_labelled, confidences, judged

SLOT = timedelta(seconds=LABEL_SLOT_SECONDS)
_LEAST = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Changes:
    """Slots in order of time, and how often labels changed before each of them; the last number is of all."""

    slots: Sequence[datetime]
    before: Sequence[int]

    def within(self, window: Window) -> int:
        """How often labels of the window's answers changed; slots that it cuts count as a whole."""
        first, end = bisect_left(self.slots, window.start - SLOT + _LEAST), bisect_left(self.slots, window.end)
        return self.before[end] - self.before[first]


def changes(connection: Connection, model_version: str, time: Window) -> Changes:
    """How often labels of a version's answers changed, slot by slot: no more rows than the time has slots."""
    rows = connection.execute(
        select(label_slots.c.slot_start, label_slots.c.changes)
        .where(
            label_slots.c.slot_start > time.start - SLOT,
            label_slots.c.slot_start < time.end,
            label_slots.c.model_version == model_version,
        )
        .order_by(label_slots.c.slot_start)
    ).all()
    return Changes([row.slot_start for row in rows], [0, *accumulate(row.changes for row in rows)])


def labelled(connection: Connection, model_version: str, window: Window, limit: int) -> Labelled:
    """A version's answers logged in the window that have a label by now, at most `limit` of the newest, oldest first.

    They are those of `judged`; of labels that came before their answers those received in the window too. Answers are
    counted over the same time, from the oldest one taken where the limit cut some off.
    """
    logged, received = labels.c.logged_at, labels.c.received_at
    placed = logged >= window.start, logged < window.end
    early = logged.is_(None), received >= window.start, received < window.end
    queries = (
        judged(model_version, *placed, order=logged, limit=limit, within=window),
        judged(model_version, *early, order=received, limit=limit, within=window),
    )
    found = [row for query in queries for row in connection.execute(query)]
    rows = sorted(found, key=lambda row: (row.answered_at, row.request_id))[-limit:]
    since = rows[0].answered_at if len(rows) == limit else window.start
    return as_labelled(
        rows,
        answered(connection, model_version, start=since, end=window.end),
        confidences(connection, model_version, start=since, end=window.end),
    )
