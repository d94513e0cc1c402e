"""Labelled rows as training examples: ids from the log, raw inputs from the team's store, checked by digest."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from inference.hashing import Hasher
from inference.modalities.base import Modality, Status
from inference.record import Record
from inference.request import Request, RequestParser
from inference.training.data import LabelledExample
from inference.training.store import LocalStore, RawMessage
from migrations.schema.prediction_log import labels, modality_log, prediction_log

IDS_IN_ONE_QUERY = 5000


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A logged request whose label is known; `digests` holds (key id, digest) by present modality."""

    request_id: str
    label: str
    digests: Mapping[str, tuple[str, bytes]]


@dataclass(slots=True)
class Resolved:
    """The examples that could be had, and how many rows were left out for which reason."""

    examples: list[LabelledExample] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


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


class Resolver:
    """Turns request ids into examples with every modality of the model."""

    def __init__(
        self,
        store: LocalStore,
        parser: RequestParser,
        modalities: Mapping[str, Modality],
        classes: tuple[str, ...],
        hasher: Hasher | None = None,
    ) -> None:
        """`hasher`: with it, rows logged under its key must have the digest that the log has."""
        self._store = store
        self._parser = parser
        self._modalities = modalities
        self._classes = {name: number for number, name in enumerate(classes)}
        self._hasher = hasher

    def resolve(self, rows: Iterable[LabelledRow]) -> Resolved:
        """Examples in the order of the rows; a row that cannot be used is counted, never guessed."""
        resolved = Resolved()
        for row in rows:
            example = self._example(row)
            if isinstance(example, str):
                resolved.left_out[example] += 1
            else:
                resolved.examples.append(example)
        return resolved

    def _example(self, row: LabelledRow) -> LabelledExample | str:
        if row.label not in self._classes:
            return "unknown_label"
        raw = self._store.fetch(row.request_id)
        if raw is None:
            return "not_in_store"
        request = self._parser.parse(_record(raw))
        if not isinstance(request, Request) or request.request_id != row.request_id:
            return "not_that_request"
        values: dict[str, Any] = {}
        for name, modality in self._modalities.items():
            if name not in request.modalities:
                return "modality_missing"
            data = request.modalities[name].data
            if not self._is_what_was_logged(row, name, data):
                return "digest_differs"
            decoded = modality.decode(data)
            if decoded.status is not Status.PRESENT:
                return "modality_unusable"
            values[name] = decoded.value
        return LabelledExample(row.request_id, values["image"], values["text"], self._classes[row.label])

    def _is_what_was_logged(self, row: LabelledRow, name: str, data: bytes | str) -> bool:
        logged = row.digests.get(name)
        # Digests of another key cannot be checked here: after a rotation the store still serves.
        if self._hasher is None or logged is None or logged[0] != self._hasher.key_id:
            return True
        return self._hasher.digest(data) == logged[1]


def _record(raw: RawMessage) -> Record:
    headers = (("content-type", raw.content_type),)
    return Record("store", 0, 0, None, raw.value, headers, time.monotonic(), datetime.now(UTC))
