"""A window of 100,000 rows × 768 against a baseline, from summaries: milliseconds and memory, and what a row costs."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np

from migrations.schema.bins import Bins, from_rows, merge
from migrations.schema.feature_map import FeatureMap
from monitor.detectors import catalogue, judge
from monitor.domain.window import Reference, Summary
from tests.bench.shares import timed
from tests.support.synthetic import World

ROWS, DIMENSIONS, BASELINE, SLOTS, Q = 100_000, 768, 4000, 60, 8


def measure() -> dict[str, Any]:
    """The window is an hour's slots of one worker, with the bins a slot keeps at most."""
    world, rng = World(d=DIMENSIONS), np.random.default_rng(11)
    fit, baseline = world.rows(1000, rng), world.rows(BASELINE, rng)
    features = FeatureMap.fit(fit).rescaled(world.rows(1000, rng))
    reference = from_rows({"features": features.transform(baseline)}, Q)
    known = Reference(1, "1", {"image": Summary("image", {}, reference)})
    slots = [_slot(features, world, rng) for _ in range(SLOTS)]
    detector = catalogue()["embedding_mmd"]

    def evaluate() -> object:
        return judge(detector, "image", known, Summary("image", {}, merge(slots)))

    milliseconds = timed(evaluate)
    tracemalloc.start()
    evaluate()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    batch = baseline[:32].astype(np.float32)
    return {
        "rows": sum(slot.rows for slot in slots),
        "bins": sum(len(slot.count) for slot in slots),
        "milliseconds": milliseconds,
        "peak_megabytes": round(peak / 2**20, 1),
        "feature_map_us_per_row_in_batches_of_32": round(1000 * timed(lambda: features.transform(batch)) / 32, 1),
    }


def _slot(features: FeatureMap, world: World, rng: np.random.Generator) -> Bins:
    n = -(-ROWS // SLOTS)
    # a slot keeps at most 128 bins: beyond that neighbours are joined
    return from_rows({"features": features.transform(world.rows(n, rng))}, max(Q, -(-n // 128)))
