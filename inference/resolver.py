"""Labelled rows as training examples: raw inputs from the team's store, checked by the digests of the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from inference.hashing import Hasher
from inference.labelled import LabelledRow
from inference.modalities.base import Decoded, Modality, Status
from inference.record import Record
from inference.request import Request, RequestParser
from inference.stores.base import StoreError
from inference.training.data import LabelledExample
from inference.training.store import Inputs, Messages, RawMessage

THREADS = 8  # objects read at once: a bucket answers each after some time, but many together
# Reasons that speak of the store, not of the request: too many of them, and the store is not to be trusted.
STORE_FAULTS = frozenset({"not_in_store", "unreadable", "not_that_request", "digest_differs"})


@dataclass(slots=True)
class Resolved:
    """The examples that could be had, and the request ids that were left out, each with its reason."""

    examples: list[LabelledExample] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> Counter[str]:
        """How many rows were left out for which reason."""
        return Counter(self.reasons.values())

    @property
    def faults(self) -> int:
        """How many were left out for what the store has, or has not."""
        return sum(reason in STORE_FAULTS for reason in self.reasons.values())


class Source(Protocol):
    """Where the raw inputs of a row come from."""

    def inputs(self, row: LabelledRow, modalities: Mapping[str, Modality]) -> Mapping[str, bytes | str] | str:
        """The data of every modality, or why they cannot be had. Raises StoreError where the store cannot be read."""
        ...


class FromMessages:
    """Out of the message that was sent."""

    def __init__(self, messages: Messages, parser: RequestParser) -> None:
        self._messages = messages
        self._parser = parser

    def inputs(self, row: LabelledRow, modalities: Mapping[str, Modality]) -> Mapping[str, bytes | str] | str:
        """As `Source.inputs`."""
        raw = self._messages.fetch(row.request_id)
        if raw is None:
            return "not_in_store"
        request = self._parser.parse(_record(raw))
        if not isinstance(request, Request) or request.request_id != row.request_id:
            return "not_that_request"
        if not modalities.keys() <= request.modalities.keys():
            return "modality_missing"
        return {name: request.modalities[name].data for name in modalities}


class FromInputs:
    """Each by its own digest."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def inputs(self, row: LabelledRow, modalities: Mapping[str, Modality]) -> Mapping[str, bytes | str] | str:
        """As `Source.inputs`."""
        found: dict[str, bytes | str] = {}
        for name, modality in modalities.items():
            if name not in row.digests:
                return "modality_missing"
            raw = self._inputs.fetch(row.digests[name][1])
            if raw is None:
                return "not_in_store"
            try:
                found[name] = raw if modality.wire is bytes else raw.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                return "digest_differs"
        return found


class Resolver:
    """Turns request ids into examples with every modality of the model."""

    def __init__(
        self,
        source: Source,
        modalities: Mapping[str, Modality],
        classes: Sequence[str],
        hasher: Hasher | None = None,
        fitting: Callable[[str, Decoded], Decoded] = lambda _, decoded: decoded,
    ) -> None:
        """`hasher`: with it, rows logged under its key must have the digest that the log has.

        `fitting` says of a decoded value whether the model can take it (`ModelCard.fitting`).
        """
        self._source = source
        self._modalities = modalities
        self._classes = {name: number for number, name in enumerate(classes)}
        self._hasher = hasher
        self._fitting = fitting

    def resolve(self, rows: Iterable[LabelledRow]) -> Resolved:
        """Examples in the order of the rows; a row that cannot be used is named with its reason, never guessed."""
        resolved, wanted = Resolved(), list(rows)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="resolve") as pool:
            found = list(pool.map(self._example, wanted))
        for row, example in zip(wanted, found, strict=True):
            if isinstance(example, str):
                resolved.reasons[row.request_id] = example
            else:
                resolved.examples.append(example)
        return resolved

    def _example(self, row: LabelledRow) -> LabelledExample | str:
        if row.label not in self._classes:
            return "unknown_label"
        try:
            inputs = self._source.inputs(row, self._modalities)
        except StoreError:
            return "unreadable"
        if isinstance(inputs, str):
            return inputs
        values: dict[str, Any] = {}
        for name, modality in self._modalities.items():
            if not self._is_what_was_logged(row, name, inputs[name]):
                return "digest_differs"
            decoded = self._fitting(name, modality.decode(inputs[name]))
            if decoded.status is not Status.PRESENT:
                return "modality_unusable"
            values[name] = decoded.value
        return LabelledExample.of(row.request_id, values, self._classes[row.label])

    def _is_what_was_logged(self, row: LabelledRow, name: str, data: bytes | str) -> bool:
        logged = row.digests.get(name)
        # Digests of another key cannot be checked here: after a rotation the store still serves.
        if self._hasher is None or logged is None or logged[0] != self._hasher.key_id:
            return True
        return self._hasher.digest(data) == logged[1]


def _record(raw: RawMessage) -> Record:
    headers = (("content-type", raw.content_type),)
    return Record("store", 0, 0, None, raw.value, headers, time.monotonic(), datetime.now(UTC))
