"""Window summaries: what a worker adds up per time slot while it answers.

A record belongs to one slot, model version, modality, topic and partition, and to one run of the accumulator over
it, told by the first offset it saw. The recorder writes the records of a preview in the transaction that writes the
log rows and the next offset, and only then commits the preview here: a rollback leaves nothing to undo.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference import row_totals
from inference.neighbours import Tail
from inference.projection import FUSED, Projection, Projector, Rows
from migrations.schema import bins as schema_bins
from migrations.schema import totals as schema_totals
from migrations.schema.bins import EMPTY, Bins
from migrations.schema.totals import Totals

ROWS_PER_BIN = 8  # near-duplicates of a session of that length mostly share a bin
MAX_BINS = 64  # with 128 features and ten classes 55 kB a record at most
MAX_RECORDS = 256  # 14 MB at most


class RecordKey(NamedTuple):
    """What a record is known by in the database."""

    slot_start: datetime
    model_version: str
    modality: str
    topic: str
    partition: int
    first_offset: int


@dataclass(frozen=True, slots=True, eq=False)
class SummaryRecord:
    """The sum so far of one slot and modality: `counts` of rows by status or route, and `bins` of `q` rows each.

    That of `fused` has `totals` too, and as `tail` the newest rows that the accumulator saw, of whatever slot.
    """

    key: RecordKey
    slot_seconds: int
    encoder_fingerprint: str
    counts: Mapping[str, int]
    bins: Bins
    q: int
    totals: Totals = field(default_factory=dict)
    tail: Tail | None = None

    def payload(self) -> bytes:
        """The bins as stored."""
        return schema_bins.dump(self.bins)


class _Place(NamedTuple):
    slot: int
    modality: str
    topic: str
    partition: int


class Accumulator:
    """Adds committed rows of one model version up into records; not safe for several threads.

    Memory is bounded: a record holds at most `max_bins` bins (neighbours are joined in pairs and q doubles), and
    beyond `max_records` records the least recently touched is forgotten; a later row for it starts a new record.
    """

    def __init__(
        self,
        projector: Projector,
        *,
        model_version: str,
        fingerprints: Mapping[str, str],
        slot_seconds: int = 60,
        q: int = ROWS_PER_BIN,
        max_bins: int = MAX_BINS,
        max_records: int = MAX_RECORDS,
    ) -> None:
        if min(slot_seconds, q, max_bins, max_records) < 1 or max_bins < 2:
            raise ValueError("slot_seconds, q and max_records must be at least 1, max_bins at least 2")
        self._projector = projector
        self._model_version = model_version
        self._fingerprints = dict(fingerprints)
        self._slot_seconds = slot_seconds
        self._q = q
        self._max_bins = max_bins
        self._max_records = max_records
        self._records: OrderedDict[_Place, SummaryRecord] = OrderedDict()
        self._tail: Tail | None = None

    def preview(self, rows: Rows) -> list[SummaryRecord]:
        """Records of every slot that the rows touch, with them added; the accumulator itself does not change."""
        if len(rows) == 0:
            return []
        projections = self._projector.project(rows, self._tail)
        records = []
        for (slot, topic, partition), chosen in self._groups(rows):
            first = int(rows.offsets[chosen].min())
            for modality in (*rows.statuses, FUSED):
                place = _Place(slot, modality, topic, partition)
                record = self._records.get(place) or self._start(place, first)
                counts = Counter(record.counts)
                counts.update(_count(rows, modality, chosen))
                record = replace(record, counts=dict(counts))
                if modality == FUSED:
                    record = self._with_totals(record, rows, chosen, projections[FUSED].tail)
                records.append(self._add(record, projections[modality], chosen))
        return records

    def _with_totals(
        self, record: SummaryRecord, rows: Rows, chosen: NDArray[np.intp], tail: Tail | None
    ) -> SummaryRecord:
        added = row_totals.of_rows(rows, _trusted(rows, chosen), self._projector.classes)
        return replace(record, totals=schema_totals.merge([record.totals, added]), tail=tail)

    def commit(self, records: Iterable[SummaryRecord]) -> None:
        """Take over a preview whose transaction has been committed."""
        for record in records:
            key = record.key
            place = _Place(int(key.slot_start.timestamp()), key.modality, key.topic, key.partition)
            self._records[place] = record
            self._records.move_to_end(place)
            self._tail = record.tail or self._tail
        while len(self._records) > self._max_records:
            self._records.popitem(last=False)

    def forget(self, topic: str, partition: int) -> None:
        """Drop the records of a partition that another worker has taken over."""
        self._tail = None
        gone = [place for place in self._records if (place.topic, place.partition) == (topic, partition)]
        for place in gone:
            del self._records[place]

    def _groups(self, rows: Rows) -> list[tuple[tuple[int, str, int], NDArray[np.intp]]]:
        slots = (np.floor(rows.slot_at / self._slot_seconds) * self._slot_seconds).astype(np.int64)
        groups: dict[tuple[int, str, int], list[int]] = {}
        for index, place in enumerate(zip(slots.tolist(), rows.topics, rows.partitions.tolist(), strict=True)):
            groups.setdefault(place, []).append(index)
        return [(place, np.asarray(chosen)) for place, chosen in groups.items()]

    def _start(self, place: _Place, first_offset: int) -> SummaryRecord:
        key = RecordKey(
            datetime.fromtimestamp(place.slot, UTC),
            self._model_version,
            place.modality,
            place.topic,
            place.partition,
            first_offset,
        )
        fingerprint = self._fingerprints.get(place.modality, "")
        return SummaryRecord(key, self._slot_seconds, fingerprint, {}, EMPTY, self._q)

    def _add(self, record: SummaryRecord, projection: Projection, chosen: NDArray[np.intp]) -> SummaryRecord:
        mine = np.isin(projection.rows, chosen)
        if not mine.any():
            return record
        columns = {name: values[mine] for name, values in projection.columns.items()}
        q, bins = record.q, schema_bins.extend(record.bins, columns, record.q)
        while len(bins.count) > self._max_bins:
            q, bins = 2 * q, schema_bins.halve(bins)
        return replace(record, bins=bins, q=q)


def _count(rows: Rows, modality: str, chosen: NDArray[np.intp]) -> dict[str, int]:
    """Rows by status, or for `fused` by route. Quarantined rows are counted as such and nowhere else."""
    trusted = _trusted(rows, chosen)
    if modality != FUSED:
        # the empty status: a modality that was neither expected nor sent is no outage
        return _tally([status for status in rows.statuses[modality][trusted].tolist() if status])
    counts = {"rows": len(trusted), **_tally(rows.routes[trusted].tolist())}
    quarantined = len(chosen) - len(trusted)
    return {**counts, "quarantined": quarantined} if quarantined else counts


def _trusted(rows: Rows, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
    return chosen[~rows.quarantined[chosen]]


def _tally(names: Sequence[str]) -> dict[str, int]:
    return dict(Counter(names))
