"""A model version's own baseline: frozen maps, and what drift-free rows look like through them.

Maps are fitted on other rows than those that serve as reference: rows look closer to a map that was fitted on them,
and a window would differ from such a reference with nothing wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from inference.projection import FINE_BINS, FUSED, PRESENT, Projector, Rows, fine_bins
from inference.summaries import ROWS_PER_BIN
from migrations.schema import bins as schema_bins
from migrations.schema.bins import SHAPE_CELLS, Bins
from migrations.schema.feature_map import FeatureMap
from migrations.schema.pairing_map import PairingMap

FILE = "baseline.safetensors"
LAYOUT = 1
FEWEST_ROWS = 128

Floats = NDArray[np.floating]


class BaselineError(ValueError):
    """A baseline cannot be made or read; the text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """N labelled, drift-free rows with every modality present, as the model answers them.

    `embeddings` maps each modality and `fused` to (N, d); `quality` each modality to (N, statistics); `predicted` and
    `labels` (N,) class numbers; `confidence` (N,) after temperature; `agreement` (N,) 0 or 1. `contribution` maps each
    modality to the (N,) confidence lost without it, NaN where that was not measured; empty where it never is.
    """

    embeddings: Mapping[str, Floats]
    quality: Mapping[str, Floats]
    predicted: NDArray[np.int64]
    confidence: Floats
    agreement: Floats
    labels: NDArray[np.int64]
    contribution: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BaselineRecord:
    """What the database keeps of one modality: the `encoder_fingerprint`, `counts` of rows, and stored bins."""

    modality: str
    encoder_fingerprint: str
    counts: Mapping[str, int]
    bins: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """Maps, reference bins and counts by modality, and facts that can be written as JSON.

    `facts`: `class_names`; `quality` {modality: names}; `encoders` {modality: fingerprint}; `pair`, the modalities
    whose pairing is scored; `accuracy` of `labelled` rows; `class_prior` of the labels and `class_accuracy`, None for a
    class without rows; `confidence` and `confidence_correct`, rows and right rows in 50 bins of [0, 1].
    """

    projector: Projector
    reference: Mapping[str, Bins]
    counts: Mapping[str, Mapping[str, int]]
    facts: Mapping[str, Any]

    @property
    def fingerprints(self) -> dict[str, str]:
        """By modality and `fused`: encoder and feature map. Only bins of equal fingerprints can be compared."""
        encoders = self.facts["encoders"]
        return {
            name: f"{encoders.get(name, '')}+{each.fingerprint()}" for name, each in self.projector.features.items()
        }

    def to_records(self) -> list[BaselineRecord]:
        """What goes into the database, beside `facts`."""
        fingerprints = self.fingerprints
        return [
            BaselineRecord(name, fingerprints.get(name, ""), dict(self.counts[name]), schema_bins.dump(bins))
            for name, bins in sorted(self.reference.items())
        ]

    def save(self, folder: Path) -> Path:
        """Write `baseline.safetensors` into an existing folder; equal baselines give equal bytes."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, feature_map in self.projector.features.items():
            arrays |= {f"features.{name}.{key}": array for key, array in feature_map.to_arrays().items()}
        if self.projector.pairing is not None:
            arrays |= {f"pairing.{key}": array for key, array in self.projector.pairing.to_arrays().items()}
        arrays |= {f"edges.{name}": np.ascontiguousarray(edges) for name, edges in self.projector.edges.items()}
        for name, bins in self.reference.items():
            arrays[f"bins.{name}.count"] = np.ascontiguousarray(bins.count)
            arrays |= {f"bins.{name}.column.{key}": np.ascontiguousarray(a) for key, a in bins.columns.items()}
        about = {"facts": self.facts, "counts": self.counts, "pair": self.projector.pair}
        path = folder / FILE
        # written as bytes: safetensors' own file writer makes it unreadable for other users
        path.write_bytes(save(arrays, {"layout": str(LAYOUT), "about": json.dumps(about, sort_keys=True)}))
        return path

    @classmethod
    def load(cls, folder: Path) -> Baseline:
        """Read what `save` wrote. Raises BaselineError where it is missing or damaged."""
        path = folder / FILE
        try:
            with safe_open(path, "numpy") as stored:
                layout = (stored.metadata() or {}).get("layout")
                if layout != str(LAYOUT):
                    raise BaselineError(f"{path} has layout {layout}; this version reads {LAYOUT}")
                about = json.loads(stored.metadata()["about"])
                arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no iterator
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise BaselineError(f"{path} cannot be read: {error}") from error
        features = {name: FeatureMap.from_arrays(parts) for name, parts in _nested(arrays, "features").items()}
        pairing = _under(arrays, "pairing")
        projector = Projector(
            len(about["facts"]["class_names"]),
            features,
            PairingMap.from_arrays(pairing) if pairing else None,
            (about["pair"][0], about["pair"][1]),
            _under(arrays, "edges"),
        )
        reference = {
            name: Bins(parts["count"], _under(parts, "column")) for name, parts in _nested(arrays, "bins").items()
        }
        return cls(projector, reference, about["counts"], about["facts"])


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _nested(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, dict[str, NDArray[Any]]]:
    inner = _under(arrays, prefix)
    return {name: _under(inner, name) for name in sorted({key.split(".", 1)[0] for key in inner})}


def fit_baseline(
    rows: Validation,
    *,
    class_names: tuple[str, ...],
    quality_names: Mapping[str, tuple[str, ...]],
    encoder_fingerprints: Mapping[str, str],
    fit_on: Mapping[str, Floats] | None = None,
    fit_share: float = 0.5,
    q: int = ROWS_PER_BIN,
    pair: tuple[str, str] = ("image", "text"),
    seed: int = 0,
) -> Baseline:
    """Fit maps, also of the pairing of `pair`, and take the reference bins from validation rows.

    `fit_on` gives embeddings of other rows, by modality and `fused`, to fit the maps on, row i with row i; the model's
    training rows will do. Without it a random `fit_share` of the validation rows is spent on that. Accuracy and
    calibration use all rows. Raises BaselineError below 128 rows.
    """
    n = len(rows.labels)
    if n < FEWEST_ROWS:
        raise BaselineError(f"a baseline needs at least {FEWEST_ROWS} validation rows, got {n}")
    order = np.random.default_rng(seed).permutation(n)
    spent = 0 if fit_on is not None else round(n * fit_share)
    source = fit_on if fit_on is not None else {name: x[order[:spent]] for name, x in rows.embeddings.items()}
    held_out = order[spent:]
    scale_on = {name: x[held_out] for name, x in rows.embeddings.items()}
    projector = fit_projector(source, scale_on, classes=len(class_names), pair=pair, seed=seed)
    edges = {name: _edges(values[held_out]) for name, values in rows.quality.items() if values.shape[1]}
    return baseline_through(
        replace(projector, edges=edges),
        rows,
        class_names=class_names,
        quality_names=quality_names,
        encoder_fingerprints=encoder_fingerprints,
        reference=held_out,
        q=q,
    )


def baseline_through(
    projector: Projector,
    rows: Validation,
    *,
    class_names: tuple[str, ...],
    quality_names: Mapping[str, tuple[str, ...]],
    encoder_fingerprints: Mapping[str, str],
    reference: NDArray[np.intp] | None = None,
    q: int = ROWS_PER_BIN,
    seed: int = 0,
) -> Baseline:
    """The baseline of N rows through maps that were fitted on others, so that it compares with all through these maps.

    `reference` gives the numbers of the rows that fill the bins, in that order; by default all, in random order: a
    file may be sorted. Accuracy and calibration use all rows. Raises BaselineError below 128 rows.
    """
    n = len(rows.labels)
    if n < FEWEST_ROWS:
        raise BaselineError(f"a baseline needs at least {FEWEST_ROWS} validation rows, got {n}")
    chosen = np.random.default_rng(seed).permutation(n) if reference is None else reference
    filled = {
        name: schema_bins.from_rows(projection.columns, q)
        for name, projection in projector.project(_as_rows(rows, chosen)).items()
    }
    counts = {name: {PRESENT: bins.rows} for name, bins in filled.items() if name != FUSED}
    counts[FUSED] = {"rows": len(chosen), FUSED: filled[FUSED].rows}
    facts = {
        "class_names": list(class_names),
        "quality": {name: list(names) for name, names in quality_names.items()},
        "encoders": dict(encoder_fingerprints),
        "pair": list(projector.pair),
        **_calibration(rows, len(class_names)),
    }
    return Baseline(projector, filled, counts, facts)


def fit_projector(
    embeddings: Mapping[str, Floats],
    scale_on: Mapping[str, Floats],
    *,
    classes: int,
    pair: tuple[str, str] = ("image", "text"),
    seed: int = 0,
) -> Projector:
    """Fit every feature map, and the pairing map where both modalities of `pair` are there, on (N, d) each.

    Features get unit variance on the rows of `scale_on`.
    """
    features = {name: FeatureMap.fit(x, seed=seed).rescaled(scale_on[name]) for name, x in embeddings.items()}
    if not set(pair) <= set(features):
        return Projector(classes, features)
    left, right = (features[name].transform(embeddings[name]) for name in pair)
    return Projector(classes, features, PairingMap.fit(left, right), pair)


def _edges(values: Floats) -> NDArray[np.float32]:
    """(statistics, SHAPE_CELLS - 1) inner bounds of cells of equal mass; a constant's bounds are all equal."""
    shares = np.arange(1, SHAPE_CELLS) / SHAPE_CELLS
    edges: NDArray[np.float32] = np.quantile(values, shares, axis=0, method="lower").T.astype(np.float32)
    return edges


def _as_rows(rows: Validation, chosen: NDArray[np.intp]) -> Rows:
    n = len(chosen)
    return Rows(
        topics=("",) * n,
        partitions=np.zeros(n, np.int64),
        offsets=np.arange(n),
        slot_at=np.zeros(n),
        quarantined=np.zeros(n, np.bool_),
        embeddings={name: x[chosen] for name, x in rows.embeddings.items()},
        quality={name: x[chosen] for name, x in rows.quality.items()},
        statuses={name: np.full(n, PRESENT) for name in rows.embeddings if name != FUSED},
        routes=np.full(n, FUSED),
        predicted=rows.predicted[chosen],
        confidence=rows.confidence[chosen],
        agreement=rows.agreement[chosen],
        contribution={name: lost[chosen] for name, lost in rows.contribution.items()},
    )


def _calibration(rows: Validation, classes: int) -> dict[str, Any]:
    correct = rows.predicted == rows.labels
    fine = fine_bins(rows.confidence)
    of_class, right = (np.bincount(chosen, minlength=classes) for chosen in (rows.labels, rows.labels[correct]))
    return {
        "accuracy": float(correct.mean()),
        "labelled": len(correct),
        "class_prior": (of_class / len(correct)).tolist(),
        "class_accuracy": [float(k / n) if n else None for k, n in zip(right, of_class, strict=True)],
        "confidence": np.bincount(fine, minlength=FINE_BINS).tolist(),
        "confidence_correct": np.bincount(fine[correct], minlength=FINE_BINS).tolist(),
    }
