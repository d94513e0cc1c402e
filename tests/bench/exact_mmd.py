"""The exact MMD beside a plain implementation that computes the Gram matrix anew for each permutation."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.detectors import compare
from tests.support.synthetic import World

Rows = NDArray[np.floating]

ROWS, DIMENSIONS, PERMUTATIONS, PLAIN = 5000, 512, 100, 2


def plain_mmd(x: Rows, y: Rows, bandwidth: float) -> float:
    """Biased MMD² as a textbook has it."""

    def kernel(a: Rows, b: Rows) -> Rows:
        squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
        gram: Rows = np.exp(-squares / (2 * bandwidth**2))
        return gram

    return float(kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean())


def measure() -> dict[str, Any]:
    """n = m = 5000, d = 512, 100 permutations; the plain one is timed on two of them, and the rest is the same."""
    world, rng = World(d=DIMENSIONS), np.random.default_rng(10)
    x, y = (world.rows(ROWS, rng).astype(np.float32) for _ in range(2))
    options = {"permutations": PERMUTATIONS, "rows_a_bin": 1}
    start = time.perf_counter()
    score = compare("embedding_mmd_exact", x, y, **options)
    ours = time.perf_counter() - start
    tracemalloc.start()
    compare("embedding_mmd_exact", x, y, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    both = np.concatenate([x, y])
    start = time.perf_counter()
    for _ in range(PLAIN):
        order = rng.permutation(len(both))
        plain_mmd(both[order[:ROWS]], both[order[ROWS:]], score.details["bandwidth"])
    plain = (time.perf_counter() - start) / PLAIN * (PERMUTATIONS + 1)
    return {
        "seconds": round(ours, 2),
        "plain_seconds": round(plain, 1),
        "times_faster": round(plain / ours, 1),
        "peak_megabytes_beyond_inputs": round(peak / 2**20, 1),
        "biased": score.details["biased"],
        "plain_biased": plain_mmd(x, y, score.details["bandwidth"]),
    }
