"""From a batch of answered requests to the columns that bins hold, by maps that the baseline froze."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from migrations.schema.feature_map import FeatureMap
from migrations.schema.pairing_map import PairingMap

FUSED = "fused"
PRESENT = "present"
# Routes of requests that have a fused embedding: computed now, or when the same inputs came before.
WHOLE_ROUTES = (FUSED, "cached")
FINE_BINS = 50  # equal-width bins of confidence: fine enough to join into equal-mass ones later

Columns = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """N answered requests of one model version, in the order of their offsets within each partition.

    `topics` (N names), `partitions` (N,) and `offsets` (N,) say where each came from; `slot_at` (N,) float64 is its
    event time in Unix seconds, and for `quarantined` (N,) rows, whose clock is not to be trusted, the arrival time.
    `embeddings` maps each modality and `fused` to (N, d), `quality` each modality to (N, statistics), `statuses` each
    modality to (N,) names, `present` where the modality was used. `routes` (N,) names; `predicted` (N,) class
    numbers, -1 where there is no prediction; `confidence` (N,) in [0, 1]; `agreement` (N,) 1 where the unimodal heads
    and the fused prediction agree, else 0.
    """

    topics: tuple[str, ...]
    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    slot_at: NDArray[np.float64]
    quarantined: NDArray[np.bool_]
    embeddings: Mapping[str, NDArray[np.floating]]
    quality: Mapping[str, NDArray[np.floating]]
    statuses: Mapping[str, NDArray[np.str_]]
    routes: NDArray[np.str_]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.floating]
    agreement: NDArray[np.floating]

    def __post_init__(self) -> None:
        n = len(self.topics)
        arrays = {
            "partitions": self.partitions,
            "offsets": self.offsets,
            "slot_at": self.slot_at,
            "quarantined": self.quarantined,
            "routes": self.routes,
            "predicted": self.predicted,
            "confidence": self.confidence,
            "agreement": self.agreement,
        }
        for group in ("embeddings", "quality", "statuses"):
            arrays |= {f"{group} of {name}": values for name, values in getattr(self, group).items()}
        if wrong := {name: len(values) for name, values in arrays.items() if len(values) != n}:
            raise ValueError(f"{n} rows were announced, but there are {wrong}")

    def __len__(self) -> int:
        return len(self.topics)


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Which rows (K,) of a batch enter a modality's bins, and their columns, each (K, width) float32."""

    rows: NDArray[np.intp]
    columns: Columns


@dataclass(frozen=True, slots=True, eq=False)
class Projector:
    """The frozen maps: `features` by modality and `fused`, `pairing` of the two modalities `pair`, number of classes.

    Without maps (no baseline) bins still hold quality, classes, confidence and agreement.
    """

    classes: int
    features: Mapping[str, FeatureMap]
    pairing: PairingMap | None = None
    pair: tuple[str, str] = ("image", "text")

    def project(self, rows: Rows) -> dict[str, Projection]:
        """Projections by modality, and `fused` for rows with every modality present and a finite output."""
        projections, features = {}, {}
        complete = (
            (rows.predicted >= 0)
            & np.isfinite(rows.confidence)
            & np.isin(rows.routes, WHOLE_ROUTES)
            & ~rows.quarantined
        )
        for modality, status in rows.statuses.items():
            usable = (status == PRESENT) & ~rows.quarantined & _finite(rows, modality)
            chosen = np.flatnonzero(usable)
            columns: Columns = {}
            if modality in rows.quality:
                columns["quality"] = np.asarray(rows.quality[modality][chosen], np.float32)
            if modality in self.features:
                columns["features"] = self.features[modality].transform(rows.embeddings[modality][chosen])
                # by row of the batch, so that complete rows find theirs
                features[modality] = np.zeros((len(rows), columns["features"].shape[1]), np.float32)
                features[modality][chosen] = columns["features"]
            projections[modality] = Projection(chosen, columns)
            complete &= usable
        projections[FUSED] = self._fused(rows, np.flatnonzero(complete & _finite(rows, FUSED)), features)
        return projections

    def _fused(self, rows: Rows, chosen: NDArray[np.intp], features: Mapping[str, NDArray[np.float32]]) -> Projection:
        fine = np.clip((rows.confidence[chosen] * FINE_BINS).astype(np.int64), 0, FINE_BINS - 1)
        columns: Columns = {
            "classes": np.eye(self.classes, dtype=np.float32)[rows.predicted[chosen]],
            "confidence": np.eye(FINE_BINS, dtype=np.float32)[fine],
            "agreement": np.asarray(rows.agreement[chosen, None], np.float32),
        }
        if FUSED in self.features:
            columns["features"] = self.features[FUSED].transform(rows.embeddings[FUSED][chosen])
        left, right = self.pair
        if self.pairing is not None and left in features and right in features:
            columns["pairing"] = self.pairing.residuals(features[left][chosen], features[right][chosen])
        return Projection(chosen, columns)


def _finite(rows: Rows, modality: str) -> NDArray[np.bool_]:
    finite = np.ones(len(rows), np.bool_)
    for group in (rows.embeddings, rows.quality):
        if modality in group:
            finite &= np.isfinite(group[modality]).all(axis=1)
    return finite
