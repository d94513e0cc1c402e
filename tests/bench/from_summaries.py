"""A window of 100,000 rows × 768 against a baseline, from summaries: milliseconds and memory.

And what summarising costs the worker for each row of the demo's model, beside that model's forward pass.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.baseline import Baseline
from inference.collate import collate
from inference.models.card import load_card
from inference.models.checkpoint import load_checkpoint
from inference.predictor import Predictor
from inference.projection import Rows
from inference.summaries import Accumulator
from migrations.schema.bins import Bins, from_rows, merge
from migrations.schema.feature_map import FeatureMap
from monitor.detectors import catalogue, judge
from monitor.domain.window import Reference, Summary
from tests.bench.shares import timed
from tests.support.synthetic import World

ROWS, DIMENSIONS, BASELINE, SLOTS, Q = 100_000, 768, 4000, 60, 8
MODEL = Path("demo/checkpoint")
WRITTEN, BATCH = 200, 32  # rows a transaction; requests a forward pass


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
    return {
        "rows": sum(slot.rows for slot in slots),
        "bins": sum(len(slot.count) for slot in slots),
        "milliseconds": milliseconds,
        "peak_megabytes": round(peak / 2**20, 1),
        "worker_us_per_row": round(1000 * timed(_summarising()) / WRITTEN, 1),
        "forward_us_per_row": round(1000 * timed(_forward()) / BATCH, 1),
    }


def _slot(features: FeatureMap, world: World, rng: np.random.Generator) -> Bins:
    n = -(-ROWS // SLOTS)
    # a slot keeps at most 128 bins: beyond that neighbours are joined
    return from_rows({"features": features.transform(world.rows(n, rng))}, max(Q, -(-n // 128)))


def _summarising() -> Callable[[], object]:
    """Adds up what one transaction writes, over all modalities, into a slot of one partition that is full already."""
    made, rng = Baseline.load(MODEL), np.random.default_rng(12)
    worker = Accumulator(made.projector, model_version="1", fingerprints=made.fingerprints)
    names = sorted(made.reference.keys() - {"fused"})
    rows = Rows(
        topics=("fusion.requests",) * WRITTEN,
        partitions=np.zeros(WRITTEN, np.int64),
        offsets=np.arange(WRITTEN),
        slot_at=np.full(WRITTEN, 1_000_000.0),
        quarantined=np.zeros(WRITTEN, np.bool_),
        embeddings={
            name: rng.normal(size=(WRITTEN, len(each.mean))).astype(np.float32)
            for name, each in made.projector.features.items()
        },
        quality={name: rng.random((WRITTEN, len(made.facts["quality"][name]))) for name in names},
        statuses={name: np.full(WRITTEN, "present") for name in names},
        routes=np.full(WRITTEN, "fused"),
        predicted=rng.integers(0, made.projector.classes, WRITTEN),
        confidence=rng.random(WRITTEN),
        agreement=np.ones(WRITTEN),
    )
    for _ in range(10):
        worker.commit(worker.preview(rows))
    return lambda: [record.payload() for record in worker.preview(rows)]


def _forward() -> Callable[[], object]:
    """One forward pass of the demo's model on one thread."""
    torch.set_num_threads(1)
    card, cpu = load_card(MODEL), torch.device("cpu")
    picture = np.zeros((64, 64, 3), np.uint8)
    row = card.prepare({"image": picture, "text": "a red circle left of a blue square"})
    ready = collate([row] * BATCH, card.blanks)
    predictor = Predictor(load_checkpoint(MODEL, cpu, ()), cpu)
    return lambda: predictor.run(ready)
