"""False alarms, power and cost of the drift tests, from summaries as the worker writes them. Seeds are fixed."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from migrations.schema.bins import Bins, from_rows
from migrations.schema.feature_map import FeatureMap
from migrations.schema.pairing_map import PairingMap
from monitor.detectors import catalogue, judge
from monitor.detectors.base import Score
from monitor.domain.window import FUSED, Reference, Summary
from tests.bench.shares import share, timed
from tests.support.synthetic import SHIFTS, Array, World, pairs

ROWS = 512
TRIALS = 100
REFIT = 10  # trials that share one feature map; the reference rows are drawn anew each time
ALPHA = 0.05
Draw = Callable[[World, int, np.random.Generator], Array]


def score(detector: str, modality: str, reference: Bins, window: Bins) -> Score:
    """One comparison of two sets of bins."""
    known = Reference(1, "1", {modality: Summary(modality, {}, reference)})
    return judge(catalogue()[detector], modality, known, Summary(modality, {}, window))


def embedding_mmd(d: int) -> dict[str, Any]:
    """Share of windows with p ≤ 0.05, and called drift at the defaults, by shift; n = m = 512 rows."""
    world, rng = World(d=d), np.random.default_rng(7)
    draws: dict[str, Draw] = {
        "null": lambda w, n, g: w.rows(n, g),
        "null_sessions_of_8": lambda w, n, g: w.rows(n, g, session=8),
        **SHIFTS,
    }
    scores: dict[str, list[Score]] = {name: [] for name in draws}
    for trial in range(TRIALS):
        if trial % REFIT == 0:
            features = FeatureMap.fit(world.rows(ROWS, rng)).rescaled(world.rows(ROWS, rng))
        reference = from_rows({"features": features.transform(world.rows(ROWS, rng))}, 8)
        for name, draw in draws.items():
            window = from_rows({"features": features.transform(draw(world, ROWS, rng))}, 8)
            scores[name].append(score("embedding_mmd", "image", reference, window))
    return {name: summed(found) for name, found in scores.items()}


def pairing() -> dict[str, Any]:
    """The same for pairing, n = 500 against 1000, by what was done to the pairs."""
    rng = np.random.default_rng(8)
    faults = {
        "null": (0.0, 0.0),
        "mispaired_2%": (0.02, 0.0),
        "mispaired_5%": (0.05, 0.0),
        "mispaired_10%": (0.1, 0.0),
        "prior_shift_20%": (0.0, 0.2),
    }
    scores: dict[str, list[Score]] = {name: [] for name in faults}
    for trial in range(TRIALS):
        if trial % REFIT == 0:
            image, text = pairs(600, rng)
            left, right = FeatureMap.fit(image), FeatureMap.fit(text)
            fitted = PairingMap.fit(left.transform(image), right.transform(text))

        def drawn(n: int, mispaired: float = 0.0, prior_shift: float = 0.0) -> Bins:
            image, text = pairs(n, rng, mispaired=mispaired, prior_shift=prior_shift)
            return from_rows({"pairing": fitted.residuals(left.transform(image), right.transform(text))}, 8)  # noqa: B023

        reference = drawn(1000)
        for name, fault in faults.items():
            scores[name].append(score("pairing", FUSED, reference, drawn(500, *fault)))
    return {name: summed(found) for name, found in scores.items()}


def summed(found: list[Score]) -> dict[str, Any]:
    """What the trials of one shift say together."""
    return {
        "p_at_most_0.05": share([(each.p_value or 0.0) <= ALPHA for each in found]),
        "drift_at_defaults": share([each.verdict == "drift" for each in found]),
        "median_effect": round(statistics.median(each.effect or 0.0 for each in found), 3),
    }


def cost() -> dict[str, float]:
    """Median milliseconds of one evaluation, and microseconds a row on the worker."""
    rng = np.random.default_rng(9)
    world = World()
    rows = world.rows(4096, rng)
    features = FeatureMap.fit(rows[:1000])
    reference, window = (
        from_rows({"features": features.transform(part)}, 8) for part in (rows[:1000], rows[1000:2000])
    )
    fitted = PairingMap.fit(features.transform(rows[:1000]), features.transform(rows[1000:2000]))
    residuals = fitted.residuals(features.transform(rows[:2000]), features.transform(rows[2000:4000]))
    scores = [from_rows({"pairing": part}, 8) for part in (residuals[:1000], residuals[1000:])]
    large = from_rows({"features": features.transform(rows).repeat(25, axis=0)}, 32)
    small = rows[:32].astype(np.float32)
    return {
        "embedding_mmd_ms": timed(lambda: score("embedding_mmd", "image", reference, window)),
        "embedding_mmd_100000_rows_ms": timed(lambda: score("embedding_mmd", "image", reference, large)),
        "pairing_ms": timed(lambda: score("pairing", FUSED, *scores)),
        "feature_map_us_per_row_in_batches_of_32": 1000 * timed(lambda: features.transform(small)) / 32,
    }


def run() -> dict[str, Any]:
    """All of it; a few minutes on one core."""
    return {
        "rows": ROWS,
        "embedding_mmd_d96": embedding_mmd(96),
        "embedding_mmd_d512": embedding_mmd(512),
        "pairing_d96": pairing(),
        "cost": cost(),
    }
