"""Quality shape: did the distribution of a plain property of the input change, even where its mean did not?

Half the cameras dark and half bright leave mean brightness where it was. The worker counts, for each quality
statistic, rows in `SHAPE_CELLS` cells that held equal mass in the baseline; ties may make some of them empty.
Effect: total variation distance, ½ Σ|p - q|, the share of rows that would have to change cells, the largest of any
statistic. Evidence: whole bins change sides, so that near-duplicates, which share a bin, do not pass for evidence;
each statistic's squared difference of shares is made comparable by its permutations, and p-values are those of the
largest of all statistics (maxT, Westfall and Young 1993). Drift: one statistic has both.
Assumes that bins are exchangeable: sessions much longer than a bin are not caught by it.

A statistic that was in its two middle cells and now is in the outermost ones, with the same mean:

>>> import numpy as np
>>> from migrations.schema.bins import from_rows
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Reference, Summary
>>> odd = np.arange(800) % 2 > 0
>>> before = Summary("image", {}, from_rows({"shape": np.eye(8)[np.where(odd, 3, 4)]}, 8))
>>> window = Summary("image", {}, from_rows({"shape": np.eye(8)[np.where(odd, 0, 7)]}, 8))
>>> known = Reference(1, "1", {"image": before}, names={"image": ("brightness",)})
>>> score = judge(catalogue()["quality_shape"], "image", known, window)
>>> score.verdict.value, score.effect
('drift', 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from migrations.schema.bins import SHAPE_CELLS
from monitor.detectors._aggregated import Family, test
from monitor.detectors._binned import MOVED, Array, alike_sides, names
from monitor.detectors.base import Context, Detector, Score, Takes, in_words
from monitor.domain.finding import Verdict
from monitor.domain.window import IncomparableError, Summary


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha` over all statistics together, and `permutations`; `effect` as total variation distance.

    Below `min_rows` rows or `min_bins` bins on either side nothing is decided; at most `bins` bins a side are used.
    """

    alpha: float = 0.0002  # all windows share one baseline sample: an odd one must not flag them all
    permutations: int = 9999
    effect: float = 0.25
    min_rows: int = 100
    min_bins: int = 8
    bins: int = 12
    seed: int = 0


def _rows(summary: Summary) -> int:
    return summary.bins.rows if "shape" in summary.bins.columns and summary.bins.columns["shape"].shape[1] else 0


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge the distributions of one modality's quality statistics. `value` is the largest distance of any."""
    n_reference, n_current = context.summary.bins.rows, current.bins.rows
    reference, window = alike_sides(context, current, "shape", options.bins)
    if reference.shape[1] % SHAPE_CELLS:
        raise IncomparableError(f"{reference.shape[1]} values are no whole number of statistics in {SHAPE_CELLS} cells")
    if min(n_reference, n_current) < options.min_rows or min(len(reference), len(window)) < options.min_bins:
        return Score(
            Verdict.INSUFFICIENT,
            f"{n_current} rows against {n_reference} are too few to judge how {current.modality} quality is spread: "
            f"chance alone moves about {min(1.0, _chance(n_reference, n_current)):.0%} of rows to other cells.",
            threshold=options.effect,
            n_reference=n_reference,
            n_current=n_current,
        )
    before, after = (_shares(summary) for summary in (context.summary, current))
    effects = np.abs(after - before).sum(axis=1) / 2
    p_values = _evidence(reference, window, options)
    moved = np.flatnonzero((effects >= options.effect) & (p_values <= options.alpha))
    known = names(context, len(effects))
    told = [
        _told(known[i], before[i], after[i], effects[i], p_values[i])
        for i in moved[np.argsort(-effects[moved], kind="stable")][:MOVED].tolist()
    ]
    most = int(effects.argmax())
    return Score(
        Verdict.DRIFT if told else Verdict.OK,
        f"The {current.modality} inputs are spread differently: {_words(told)}."
        if told
        else f"The {current.modality} inputs are spread as in the baseline; furthest is {known[most].replace('_', ' ')}"
        f", {effects[most]:.0%} of rows in other ranges ({in_words(float(p_values.min()))}).",
        value=float(effects[most]),
        p_value=float(p_values.min()),
        effect=float(effects[most]),
        threshold=options.effect,
        n_reference=n_reference,
        n_current=n_current,
        details={"reshaped": told},
    )


def _chance(n: int, m: int) -> float:
    """Expected total variation distance of two samples of one distribution, in cells of equal mass."""
    p = 1 / SHAPE_CELLS
    return SHAPE_CELLS / 2 * math.sqrt(2 / math.pi * p * (1 - p) * (1 / n + 1 / m))


def _shares(summary: Summary) -> Array:
    """(statistics, cells) shares of rows."""
    rows = summary.bins.total("shape").reshape(-1, SHAPE_CELLS)
    shares: Array = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)
    return shares


def _evidence(reference: Array, window: Array, options: Options) -> Array:
    """Adjusted p-values (statistics,) of two sides' bins (K, statistics × cells); 1 for one that never moves."""
    bins = np.vstack([reference, window]).reshape(len(reference) + len(window), -1, SHAPE_CELLS)
    p_values = np.ones(bins.shape[1])
    moving = np.flatnonzero(np.ptp(bins, axis=0).max(axis=1) > 0)
    if len(moving):
        families = [Family(str(i), bins[:, i], (SHAPE_CELLS,)) for i in moving]
        p_values[moving] = test(families, len(reference), options.permutations, options.seed).by_family
    return p_values


def _told(name: str, before: Array, after: Array, effect: float, p_value: float) -> dict[str, Any]:
    """What became of one statistic: cells are told that make up at least half of the largest gain or loss."""
    gain = after - before
    filled, emptied = (np.flatnonzero(way >= max(way.max() / 2, 1e-9)) for way in (gain, -gain))
    return {
        "statistic": name,
        "effect": round(float(effect), 3),
        "p_value": float(p_value),
        "filled": filled.tolist(),
        "emptied": emptied.tolist(),
        "baseline": before.tolist(),
        "window": after.tolist(),
    }


def _words(told: Sequence[dict[str, Any]]) -> str:
    """E.g. "brightness gathers in the lowest and the highest of 8 ranges (25% of rows before, 97% now)"."""
    words = []
    for each in told[:2]:
        filled = np.array(each["filled"])
        share = [float(np.array(each[side])[filled].sum()) for side in ("baseline", "window")]
        words.append(
            f"{each['statistic'].replace('_', ' ')} gathers in the {_listed(filled)} of {SHAPE_CELLS} ranges "
            f"({share[0]:.0%} of rows before, {share[1]:.0%} now) and leaves the {_listed(np.array(each['emptied']))}"
        )
    return "; ".join(words)


def _listed(cells: NDArray[np.intp]) -> str:
    ordinals = ("lowest", "2nd", "3rd", *(f"{i}th" for i in range(4, SHAPE_CELLS)), "highest")
    found = [ordinals[i] for i in cells]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


DETECTOR = Detector("quality_shape", Takes.MODALITY, Options, run, _rows)
