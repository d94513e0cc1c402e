"""Prediction drift: has the mix of predicted classes changed?

Value: KL(window ‖ baseline) in nats, of proportions with a Jeffreys prior of half a row a class (no proportion is
clamped); Jensen-Shannon divergence and the population stability index stand beside it. Evidence: the two-sample
G-test, divided by the overdispersion that the bins show, as near-duplicates make counts scatter more than the
multinomial (McCullagh and Nelder 1989, 4.5), and referred to F.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from scipy.stats import f as f_distribution

from migrations.schema import bins as schema_bins
from migrations.schema.bins import Bins
from monitor.detectors._binned import column
from monitor.detectors.base import Context, Detector, Score, Takes, binned_rows, in_words
from monitor.domain.finding import Verdict
from monitor.domain.window import IncomparableError, Summary

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `threshold` of the KL divergence in nats; fewer than `min_rows` rows a side decide nothing."""

    alpha: float = 0.0001
    threshold: float = 0.1
    min_rows: int = 50
    bins: int = 32


def divergences(reference: Array, window: Array) -> dict[str, float]:
    """`kl` (of window from reference), `js` (both nats) and `psi` of two vectors of class counts (C,)."""
    p = (reference + 0.5) / (reference + 0.5).sum()
    q = (window + 0.5) / (window + 0.5).sum()
    middle = (p + q) / 2
    kl = float((q * np.log(q / p)).sum())
    js = float((q * np.log(q / middle)).sum() + (p * np.log(p / middle)).sum()) / 2
    return {"kl": kl, "js": js, "psi": float(((q - p) * np.log(q / p)).sum())}


def dispersion(bins: Bins, k: int) -> tuple[float, int]:
    """Pearson's χ² over its degrees of freedom of class counts among at most k joined bins, and those degrees."""
    counts = schema_bins.level(bins, k).columns["classes"].astype(np.float64)
    counts = counts[:, counts.sum(axis=0) > 0]
    df = (len(counts) - 1) * (counts.shape[1] - 1)
    if df <= 0:
        return 1.0, 0
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return float(((counts - expected) ** 2 / expected).sum()) / df, df


def g_test(reference: Array, window: Array, overdispersion: float = 1.0, df_dispersion: int = 0) -> float:
    """p-value of equal proportions of two vectors of class counts (C,)."""
    table = np.stack([reference, window])
    table = table[:, table.sum(axis=0) > 0]
    df = table.shape[1] - 1
    if df <= 0:
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    g = 2 * float((table * np.log(np.where(table > 0, table, expected) / expected)).sum())
    if overdispersion <= 1 or df_dispersion <= 0:
        return float(chi2.sf(g, df))
    return float(f_distribution.sf(g / df / overdispersion, df, df_dispersion))


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge the predicted classes of a window."""
    sizes = n_reference, n_current = context.summary.bins.rows, current.bins.rows
    for side, of in ((context.summary.bins, "the baseline"), (current.bins, "the window")):
        column(side, "classes", of)
    reference, window = context.summary.bins.total("classes"), current.bins.total("classes")
    if len(reference) != len(window):
        raise IncomparableError(f"{len(window)} classes cannot be compared with a baseline of {len(reference)}")
    if min(sizes) < options.min_rows:
        return Score(
            Verdict.INSUFFICIENT,
            f"{n_current} predictions against {n_reference} are too few to judge the class mix: chance alone "
            f"gives a KL of about {(len(window) - 1) / 2 * (1 / n_reference + 1 / n_current):.2f}.",
            threshold=options.threshold,
            n_reference=n_reference,
            n_current=n_current,
        )
    found = divergences(reference, window)
    scatter = [dispersion(side, options.bins) for side in (context.summary.bins, current.bins)]
    weights = [1 / n for n in sizes]
    factor = sum(w * max(1.0, c) for w, (c, _) in zip(weights, scatter, strict=True)) / sum(weights)
    p_value = g_test(reference, window, factor, min(df for _, df in scatter))
    drift = p_value <= options.alpha and found["kl"] >= options.threshold
    before, after = reference / n_reference, window / n_current
    most = int(np.abs(after - before).argmax())
    known = context.reference.class_names
    name = known[most] if len(known) == len(window) else f"class {most}"
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"The mix of predicted classes {'has changed' if drift else 'is as in the baseline'}: {name} went from "
        f"{before[most]:.0%} to {after[most]:.0%} (KL {found['kl']:.3f}, {in_words(p_value)}).",
        value=found["kl"],
        p_value=p_value,
        effect=found["kl"],
        threshold=options.threshold,
        n_reference=n_reference,
        n_current=n_current,
        details={**found, "overdispersion": factor, "baseline": before.tolist(), "window": after.tolist()},
    )


DETECTOR = Detector("class_drift", Takes.FUSED, Options, run, binned_rows)
