"""Window summaries of every model version that a worker runs: from outcomes to rows of the `summaries` table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.baseline import Baseline
from inference.embedding_sampler import EmbeddingSampler, Sampled
from inference.modalities.base import Modality
from inference.outcome import Predicted
from inference.projection import FUSED, Projector, Rows
from inference.summaries import Accumulator, SummaryRecord


@dataclass(frozen=True, slots=True)
class Preview:
    """Records and sampled embeddings by model version, with a batch added."""

    records: Mapping[str, list[SummaryRecord]]
    sampled: Mapping[str, Sampled]
    worker_id: str

    def rows(self, now: datetime) -> list[dict[str, Any]]:
        """Rows of the `summaries` table."""
        return [
            {
                **record.key._asdict(),
                "slot_seconds": record.slot_seconds,
                "worker_id": self.worker_id,
                "encoder_fingerprint": record.encoder_fingerprint,
                "counts": dict(record.counts),
                "bins": record.payload(),
                "totals": dict(record.totals),
                "updated_at": now,
            }
            for records in self.records.values()
            for record in records
        ]

    def embeddings(self) -> list[dict[str, Any]]:
        """Rows of the `embedding_samples` table."""
        return [row for sampled in self.sampled.values() for row in sampled.rows]


@dataclass(frozen=True, slots=True)
class _Version:
    """What is needed to add up one version's rows."""

    accumulator: Accumulator
    sampler: EmbeddingSampler
    modalities: tuple[str, ...]
    quality: Mapping[str, int]
    projector: Projector


class WindowSummaries:
    """One accumulator and sampler per model version. `add_version` may be called by another thread than the rest.

    `sample_rows` embeddings of an hour, class and route are kept whole.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        slot_seconds: int,
        bin_rows: int,
        worker_id: str,
        sample_rows: int = 0,
    ) -> None:
        self._modalities = modalities
        self._slot_seconds = slot_seconds
        self._bin_rows = bin_rows
        self._worker_id = worker_id
        self._sample_rows = sample_rows
        self._versions: dict[str, _Version] = {}

    def add_version(
        self,
        version: str,
        classes: int,
        fingerprints: Mapping[str, str],
        baseline: Baseline | None,
        quality: Mapping[str, int] | None = None,
    ) -> None:
        """Make a version known before its first row. Without a baseline nothing of its embeddings is kept.

        `fingerprints` are the checkpoint's, by modality and `fused`. `quality` says how many statistics each modality
        has; by default those that this program measures. A row that lacks what its bins hold stays out of them.
        """
        projector = Projector(classes, {}) if baseline is None else baseline.projector
        accumulator = Accumulator(
            projector,
            model_version=version,
            fingerprints=dict(fingerprints) if baseline is None else baseline.fingerprints,
            slot_seconds=self._slot_seconds,
            q=self._bin_rows,
        )
        known = {name: fingerprints[name] for name in projector.features}
        sampler = EmbeddingSampler(version, known, classes, self._sample_rows)
        names = tuple(sorted(fingerprints.keys() - {FUSED}))
        if quality is None:
            quality = {name: len(self._modalities[name].quality_names) for name in names}
        self._versions = {**self._versions, version: _Version(accumulator, sampler, names, dict(quality), projector)}

    def knows(self, version: str) -> bool:
        """Whether rows of a version can be added."""
        return version in self._versions

    def drop_version(self, version: str) -> None:
        """Forget a version and its sums; where its rows come again after all, they start new records."""
        self._versions = {name: kept for name, kept in self._versions.items() if name != version}

    def preview(self, rows: Sequence[Predicted]) -> Preview:
        """What the summaries would be with these rows; nothing changes yet."""
        by_version: dict[str, list[Predicted]] = {}
        for row in rows:
            by_version.setdefault(row.prediction.model_version, []).append(row)
        return Preview(
            {
                version: self._versions[version].accumulator.preview(self._rows(group, self._versions[version]))
                for version, group in by_version.items()
            },
            {version: self._versions[version].sampler.preview(group) for version, group in by_version.items()},
            self._worker_id,
        )

    def commit(self, preview: Preview) -> None:
        """Take a preview over, once its rows are committed."""
        for version, records in preview.records.items():
            self._versions[version].accumulator.commit(records)
        for version, sampled in preview.sampled.items():
            self._versions[version].sampler.commit(sampled)

    def forget(self, topic: str, partition: int) -> None:
        """Drop a partition's sums; a later row for it starts new records."""
        for version in self._versions.values():
            version.accumulator.forget(topic, partition)

    def _rows(self, group: Sequence[Predicted], version: _Version) -> Rows:
        predictions = [row.prediction for row in group]
        times = [row.request.produced_at if row.quarantine is None else row.record.received_at for row in group]
        return Rows(
            topics=tuple(row.record.topic for row in group),
            partitions=np.array([row.record.partition for row in group], np.int64),
            offsets=np.array([row.record.offset for row in group], np.int64),
            slot_at=np.array([time.timestamp() for time in times], np.float64),
            quarantined=np.array([row.quarantine is not None for row in group], np.bool_),
            embeddings={
                name: _stack([p.embeddings.get(name) for p in predictions], len(feature_map.mean))
                for name, feature_map in version.projector.features.items()
            },
            quality={
                name: _stack([p.quality.get(name) for p in predictions], width)
                for name, width in version.quality.items()
            },
            statuses={name: np.array([_status(row, name) for row in group]) for name in version.modalities},
            routes=np.array([p.route for p in predictions]),
            predicted=np.array([-1 if p.label is None else p.classes.index(p.label) for p in predictions], np.int64),
            confidence=np.array([np.nan if p.confidence is None else p.confidence for p in predictions], np.float64),
            agreement=np.array([np.nan if p.agreement is None else p.agreement for p in predictions], np.float64),
            contribution={
                name: np.array([p.contribution.get(name, np.nan) for p in predictions]) for name in version.modalities
            },
            lag=np.array([_lag(row, version.projector.pair) for row in group]),
            latency_ms=_latencies(group),
            compute_us=np.array([1000 * p.compute_ms for p in predictions]),
            cascaded=np.array([p.cascaded for p in predictions], np.bool_),
        )


def _status(row: Predicted, modality: str) -> str:
    outcome = row.modalities.get(modality)
    return "" if outcome is None else str(outcome.status)


def _lag(row: Predicted, pair: tuple[str, str]) -> float:
    """Seconds from the capture of the right modality to that of the left; NaN where one is not known."""
    times = [None if (part := row.modalities.get(name)) is None else part.captured_at for name in pair]
    return float("nan") if times[0] is None or times[1] is None else (times[0] - times[1]).total_seconds()


def _latencies(group: Sequence[Predicted]) -> dict[str, NDArray[np.float64]]:
    """(N,) milliseconds by stage. A request waits for its batch-mates, so that encoding and fusing are the batch's."""
    stages = {
        "queue": [row.queue_ms for row in group],
        "preprocess": [row.preprocess_ms for row in group],
        "encode": [row.prediction.encode_ms for row in group],
        "fuse": [row.prediction.fuse_ms for row in group],
        "total": [row.total_ms for row in group],
    }
    return {name: np.array(values, np.float64) for name, values in stages.items()}


def _stack(vectors: Sequence[NDArray[np.float32] | None], width: int) -> NDArray[np.float32]:
    """(N, width) with NaN, which no bin takes, where there is no vector."""
    stacked = np.full((len(vectors), width), np.nan, np.float32)
    for row, vector in zip(stacked, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    return stacked
