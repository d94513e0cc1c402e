"""From a batch of answered requests to the columns that bins hold, by maps that the baseline froze."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference.neighbours import Tail, shifted
from migrations.schema.bins import FARTHEST, LAG_EDGES, SHAPE_CELLS
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
    and the fused prediction agree, 0 where not, NaN where nobody can tell. Where they are known, and NaN for rows
    without: `contribution` maps each modality to the (N,) confidence that is lost without it; `lag` (N,) is the seconds
    from the capture of the right modality of the pair to that of the left. `latency_ms` maps stages to (N,)
    milliseconds, and `compute_us` (N,) is each row's share of the model's time. `cascaded` (N,) marks rows that do not
    stand for all requests, as the cascade chose whether they were fused; None where it chose none.
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
    contribution: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    lag: NDArray[np.floating] | None = None
    latency_ms: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    compute_us: NDArray[np.floating] | None = None
    cascaded: NDArray[np.bool_] | None = None

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
        arrays |= {
            name: known for name in ("lag", "compute_us", "cascaded") if (known := getattr(self, name)) is not None
        }
        for group in ("embeddings", "quality", "statuses", "contribution", "latency_ms"):
            arrays |= {f"{group} of {name}": values for name, values in getattr(self, group).items()}
        if wrong := {name: len(values) for name, values in arrays.items() if len(values) != n}:
            raise ValueError(f"{n} rows were announced, but there are {wrong}")

    def __len__(self) -> int:
        return len(self.topics)


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Which rows (K,) of a batch enter a modality's bins, and their columns, each (K, width) float32.

    `tail` of the fused rows is what the next batch needs to know of this one.
    """

    rows: NDArray[np.intp]
    columns: Columns
    tail: Tail | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Projector:
    """The frozen maps: `features` by modality and `fused`, `pairing` of the two modalities `pair`, number of classes.

    `edges` maps a modality to (statistics, SHAPE_CELLS - 1) inner bounds of the cells of each quality statistic.
    Without maps (no baseline) bins still hold quality, classes, confidence, agreement, lag and contribution.
    """

    classes: int
    features: Mapping[str, FeatureMap]
    pairing: PairingMap | None = None
    pair: tuple[str, str] = ("image", "text")
    edges: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def project(self, rows: Rows, before: Tail | None = None) -> dict[str, Projection]:
        """Projections by modality, and `fused` for rows with every modality present and a finite output.

        Of a model with a cascade `fused` takes the rows of batches that were fused whole: of the others only those were
        whose heads were not sure, and a baseline is of all. `before` is the tail of the batch before.
        """
        projections, features = {}, {}
        complete = (
            (rows.predicted >= 0)
            & np.isfinite(rows.confidence)
            & np.isin(rows.routes, WHOLE_ROUTES)
            & ~rows.quarantined
        )
        if rows.cascaded is not None:
            complete &= ~rows.cascaded
        for modality, status in rows.statuses.items():
            usable = (status == PRESENT) & ~rows.quarantined & _finite(rows, modality)
            chosen = np.flatnonzero(usable)
            columns: Columns = {}
            if modality in rows.quality:
                columns["quality"] = np.asarray(rows.quality[modality][chosen], np.float32)
                if modality in self.edges:
                    columns["shape"] = _cells(columns["quality"], self.edges[modality])
            if modality in self.features:
                columns["features"] = self.features[modality].transform(rows.embeddings[modality][chosen])
                # by row of the batch, so that complete rows find theirs
                features[modality] = np.zeros((len(rows), columns["features"].shape[1]), np.float32)
                features[modality][chosen] = columns["features"]
            projections[modality] = Projection(chosen, columns)
            complete &= usable
        projections[FUSED] = self._fused(rows, np.flatnonzero(complete & _finite(rows, FUSED)), features, before)
        return projections

    def _fused(
        self,
        rows: Rows,
        chosen: NDArray[np.intp],
        features: Mapping[str, NDArray[np.float32]],
        before: Tail | None,
    ) -> Projection:
        columns: Columns = {
            "classes": np.eye(self.classes, dtype=np.float32)[rows.predicted[chosen]],
            "confidence": np.eye(FINE_BINS, dtype=np.float32)[fine_bins(rows.confidence[chosen])],
            "agreement": np.nan_to_num(np.asarray(rows.agreement[chosen, None], np.float32)),
            "lag": _lags(rows.lag, chosen),
            "contribution": _contributions(rows, chosen),
        }
        tail = before
        if FUSED in self.features:
            columns["features"] = self.features[FUSED].transform(rows.embeddings[FUSED][chosen])
        left, right = self.pair
        if self.pairing is not None and left in features and right in features:
            columns["pairing"] = self.pairing.residuals(features[left][chosen], features[right][chosen])
            # neighbours are those of the sender: partitions are read in turns
            order = np.argsort(rows.slot_at[chosen], kind="stable")
            made = chosen[order]
            columns["shift"] = np.empty((len(chosen), 2 * FARTHEST + 2), np.float32)
            columns["shift"][order], tail = shifted(self.pairing, features[left][made], features[right][made], before)
        return Projection(chosen, columns, tail)


def fine_bins(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """The cell (N,) of each confidence in [0, 1] among FINE_BINS equal ones."""
    cells: NDArray[np.int64] = np.clip((confidence * FINE_BINS).astype(np.int64), 0, FINE_BINS - 1)
    return cells


def _cells(values: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, statistics x SHAPE_CELLS), a one in the cell of each statistic's value; a cell holds its upper edge."""
    cells = (values[:, :, None] > edges).sum(axis=2)
    ones = np.eye(SHAPE_CELLS, dtype=np.float32)[cells]
    columns: NDArray[np.float32] = ones.reshape(len(values), values.shape[1] * SHAPE_CELLS)
    return columns


def _lags(lag: NDArray[np.floating] | None, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    """(K, cells) with a one in the cell of each lag, and no one where it is not known."""
    columns = np.zeros((len(chosen), len(LAG_EDGES) + 1), np.float32)
    if lag is not None:
        known = np.flatnonzero(np.isfinite(lag[chosen]))
        columns[known, np.searchsorted(LAG_EDGES, lag[chosen][known])] = 1
    return columns


def _contributions(rows: Rows, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    """(K, modalities + 1): the confidence lost without each, and a one; zeros where that was not measured."""
    names = sorted(rows.statuses)
    columns = np.zeros((len(chosen), len(names) + 1), np.float32)
    if names and rows.contribution.keys() >= set(names):
        lost = np.stack([rows.contribution[name][chosen] for name in names], axis=1)
        measured = np.isfinite(lost).all(axis=1)
        columns[measured, :-1] = lost[measured]
        columns[measured, -1] = 1
    return columns


def _finite(rows: Rows, modality: str) -> NDArray[np.bool_]:
    finite = np.ones(len(rows), np.bool_)
    for group in (rows.embeddings, rows.quality):
        if modality in group:
            finite &= np.isfinite(group[modality]).all(axis=1)
    return finite
