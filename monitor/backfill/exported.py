"""An archive as the place that windows are read from: what the database would say of the same rows, bit for bit."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow.compute as pc

from migrations.schema import bins
from migrations.schema.totals import Totals
from monitor.archive.folder import Archive
from monitor.domain.attribution import Source
from monitor.domain.window import FUSED, Labelled, Reference, Summary, Window
from monitor.storage import labels, sources, summaries
from monitor.storage.archived import LABELLED, LOG, MODALITIES, SUMMARIES
from monitor.tasks import late

PRESENT = "present"
References = Mapping[tuple[str, int], Reference | None]  # by version and hour of day
_EPOCH, _INSTANT = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


@dataclass(slots=True)
class _Slot:
    """A row of summaries; its bins are read when they are first asked for."""

    start: datetime
    version: str
    modality: str
    counts: Mapping[str, int]
    payload: bytes
    fingerprint: str
    totals: Totals
    written: datetime
    read: Summary | None = None

    def summary(self) -> Summary:
        """Raises BinsError where it cannot be read."""
        if self.read is None:
            self.read = Summary(self.modality, self.counts, bins.load(self.payload), self.fingerprint, self.totals)
        return self.read


class Exported:
    """The archive's rows of a period, and baselines by version and hour. Files of summaries are verified when read."""

    def __init__(self, archive: Archive, references: References, period: Window) -> None:
        self._references = references
        # days keep the database's order of a slot's rows; days are in order of time
        self._slots = list(_slots(archive, period))
        self._starts = [slot.start for slot in self._slots]
        self._labelled = _labelled(archive, period)

    def inputs(self, window: Window) -> list[int]:
        """See Place."""
        written: dict[datetime, tuple[int, int]] = {}
        for slot in self._within(window):
            rows, total = written.get(slot.start, (0, 0))
            written[slot.start] = rows + 1, total + _milliseconds(slot.written)
        return late.total(written, window)

    def label_changes(self, _window: Window, _version: str, /) -> int:
        """0: corrections leave no trace in an archive."""
        return 0

    def reference(self, version: str, hour: int) -> Reference | None:
        """See Place."""
        return self._references[version, hour]

    def counts(self, window: Window, modalities: Iterable[str]) -> dict[str, Summary]:
        """See Place."""
        return summaries.counted(((slot.modality, slot.counts) for slot in self._within(window)), modalities)

    def summaries(self, window: Window, version: str, modalities: Iterable[str]) -> dict[str, Summary]:
        """See Place."""
        slots = (slot for slot in self._within(window) if slot.version == version)
        return summaries.assembled(((slot.start, slot.summary()) for slot in slots), modalities)

    def labelled(self, window: Window, version: str, limit: int) -> Labelled:
        """See Place."""
        rows = [
            row
            for row in self._labelled
            if row.model_version == version and window.start <= row.received_at < window.end
        ][-limit:]
        since = rows[0].received_at if len(rows) == limit else window.start
        fused: list[_Slot] = []
        if since < window.end:
            within = self._within(Window(since, window.end))
            fused = [slot for slot in within if slot.version == version and slot.modality == FUSED]
        step = -(-len(fused) // labels.MOST_SUMMARIES)
        chosen = fused[step - 1 :: step] if fused else []
        answered = sum(slot.counts.get("rows", 0) for slot in fused)
        return labels.as_labelled(rows, answered, labels.added(slot.payload for slot in chosen))

    def _within(self, window: Window) -> list[_Slot]:
        return self._slots[bisect_left(self._starts, window.start) : bisect_left(self._starts, window.end)]


def _slots(archive: Archive, period: Window) -> Iterator[_Slot]:
    table = archive.read(SUMMARIES, *_days(period))
    for row in [] if table is None else table.to_pylist():
        yield _Slot(
            row["slot_start"],
            row["model_version"],
            row["modality"],
            json.loads(row["counts"]),
            row["bins"],
            row["encoder_fingerprint"],
            json.loads(row["totals"]),
            row["updated_at"],
        )


def _labelled(archive: Archive, period: Window) -> list[Any]:
    """Answers whose label was received in the period, whenever they were given, in the order of `labels.labelled`."""
    received = pc.field("received_at")
    table = archive.read(
        LABELLED, date.min, _days(period)[1], filters=(received >= period.start) & (received < period.end)
    )
    rows = [] if table is None else [SimpleNamespace(**row) for row in table.to_pylist()]
    return sorted(rows, key=lambda row: (row.received_at, row.request_id))


def producers(archive: Archive, window: Window, modality: str, statistic: str, baseline: float) -> tuple[Source, ...]:
    """Who sent what moved, as `sources.shares` says it out of the database."""
    logged = pc.field("logged_at")
    within, days = (logged >= window.start) & (logged < window.end), _days(window)
    log = archive.read(LOG, *days, columns=["request_id", "logged_at", "source"], filters=within)
    chosen = within & (pc.field("modality") == modality) & (pc.field("status") == PRESENT)
    parts = archive.read(MODALITIES, *days, columns=["request_id", "quality"], filters=chosen)
    if log is None or parts is None:
        return ()
    first = sorted(log.to_pylist(), key=lambda row: row["logged_at"])[: sources.MOST_ROWS]
    named = {row["request_id"]: row["source"] or "unknown" for row in first}
    values: dict[str, list[float]] = defaultdict(list)
    for row in parts.to_pylist():
        value = json.loads(row["quality"] or "{}").get(statistic)
        if row["request_id"] in named and value is not None:
            values[named[row["request_id"]]].append(float(value))
    return sources.ranked({name: (len(each), math.fsum(each) / len(each)) for name, each in values.items()}, baseline)


def missing(archive: Archive, period: Window) -> list[date]:
    """The days of a period whose summaries the archive lacks."""
    first, last = _days(period)
    return [
        day
        for day in map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))
        if not archive.path(SUMMARIES, day).exists()
    ]


def _days(period: Window) -> tuple[date, date]:
    """The first and the last UTC day of which a period has a part."""
    return period.start.astimezone(UTC).date(), (period.end.astimezone(UTC) - _INSTANT).date()


def _milliseconds(at: datetime) -> int:
    """Since 1970, rounded as the database rounds."""
    return ((at - _EPOCH) // _INSTANT + 500) // 1000
