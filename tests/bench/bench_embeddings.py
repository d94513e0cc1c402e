"""`compare` on embeddings: false alarms, power, pairing, exact MMD, cost. Seeds are fixed.

`BENCH_PARTS=type_one,exact` picks some parts, `BENCH_TRIALS=50` sets the trials of all; progress goes to stderr.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from monitor.detectors import compare
from monitor.detectors.base import Score
from tests.bench import exact_mmd, from_summaries
from tests.bench.shares import share
from tests.support import digits
from tests.support.synthetic import SHIFTS, Array, World, pairs

ROWS, DIMENSIONS, ALPHA = 512, 512, 0.05
NULLS, TRIALS, PAIR_TRIALS = 400, 100, 100
Draw = Callable[[np.random.Generator], tuple[Any, Any]]


def shares(detector: str, draw: Draw, trials: int, seed: int, *, beside: bool = False) -> dict[str, Any]:
    """How often `compare` has p ≤ 0.05, and says drift; with `beside`, also the plain MMD of permuted rows."""
    rng = np.random.default_rng(seed)
    scores: list[Score] = []
    plain: list[bool] = []
    for trial in range(int(os.environ.get("BENCH_TRIALS", trials))):
        reference, current = draw(rng)
        scores.append(compare(detector, reference, current))
        if beside:
            peer = compare("embedding_mmd_exact", reference, current, permutations=199, rows_a_bin=1)
            plain.append((peer.p_value or 0.0) <= ALPHA)
        print(f"\r{detector} {trial + 1}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    told = {
        "p_at_most_0.05": share([(each.p_value or 0.0) <= ALPHA for each in scores]),
        "drift": share([each.verdict == "drift" for each in scores]),
    }
    return told | ({"plain_median_mmd": share(plain)} if beside else {})


def type_one() -> dict[str, Any]:
    """Drift-free samples of n = m = 512 rows in d = 512."""
    world = World(d=DIMENSIONS)

    def draw(session: int) -> Draw:
        return lambda rng: (world.rows(ROWS, rng, session=session), world.rows(ROWS, rng, session=session))

    return {
        "independent_rows": shares("embedding_mmd", draw(1), NULLS, 1),
        "sessions_of_8": shares("embedding_mmd", draw(8), NULLS, 2),
        "sessions_of_8_plain_mmd": shares("embedding_mmd", draw(8), 25, 3, beside=True)["plain_median_mmd"],
    }


def power() -> dict[str, Any]:
    """Nine shifts: six of synthetic embeddings, three of real pictures; the plain median-bandwidth MMD beside."""
    world = World(d=DIMENSIONS)
    found = {}
    for name, shifted in SHIFTS.items():

        def synthetic(rng: np.random.Generator, shifted: Any = shifted) -> tuple[Array, Array]:
            return world.rows(ROWS, rng), shifted(world, ROWS, rng)

        found[name] = shares("embedding_mmd", synthetic, TRIALS, 4, beside=True)
    for name, changed in {"digits_null": lambda x, _: x, **digits.SHIFTS}.items():

        def pictures(rng: np.random.Generator, changed: Any = changed) -> tuple[Array, Array]:
            drawn = digits.digits()[rng.permutation(len(digits.digits()))[: 2 * ROWS]]
            return drawn[:ROWS], changed(drawn[ROWS:], rng)

        found[name] = shares("embedding_mmd", pictures, TRIALS, 5, beside=True)
    return found


def pairing() -> dict[str, Any]:
    """n = 500 pairs on each side, by what was done to the current ones; d = 512."""
    faults: dict[str, dict[str, Any]] = {
        "null": {},
        "sessions_of_8": {"session": 8},
        "mispaired_1%": {"mispaired": 0.01},
        "mispaired_2%": {"mispaired": 0.02},
        "mispaired_5%": {"mispaired": 0.05},
        "mispaired_10%": {"mispaired": 0.1},
        "within_class_10%": {"mispaired": 0.1, "within_class": True},
        "within_class_30%": {"mispaired": 0.3, "within_class": True},
        "prior_shift_20%": {"prior_shift": 0.2},
    }
    found = {}
    for name, fault in faults.items():
        session = fault.get("session", 1)

        def draw(
            rng: np.random.Generator, fault: dict[str, Any] = fault, session: int = session
        ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            return pairs(500, rng, d=DIMENSIONS, session=session), pairs(500, rng, d=DIMENSIONS, **fault)

        trials = 4 * PAIR_TRIALS if name in ("null", "sessions_of_8", "prior_shift_20%") else PAIR_TRIALS
        found[name] = shares("pairing", draw, trials, 6)
    return found


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "type_one": type_one,
    "power": power,
    "pairing": pairing,
    "exact": exact_mmd.measure,
    "summaries": from_summaries.measure,
}


def run() -> dict[str, Any]:
    """The parts picked, or all: about ten minutes on one core."""
    picked = os.environ.get("BENCH_PARTS", ",".join(PARTS)).split(",")
    if unknown := sorted(set(picked) - set(PARTS)):
        raise SystemExit(f"unknown parts {unknown}; there are {sorted(PARTS)}")
    results: dict[str, Any] = {}
    for name in picked:
        start = time.perf_counter()
        results[name] = PARTS[name]()
        results[name]["took_seconds"] = round(time.perf_counter() - start, 1)
    return results
