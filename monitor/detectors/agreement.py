"""Agreement: in what share of requests do the unimodal heads and the fused prediction say the same?

Value: that share, with Wilson's 95% interval at the effective number of rows (rows divided by the overdispersion of
bins). Drift: it fell by `drop` or more below the baseline's share, and Welch's t-test on bin means says so too.
It means something only where a modality alone carries signal; the baseline's share beside it shows that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.detectors._binned import sides, welch
from monitor.detectors.base import Context, Detector, Score, Takes, in_words
from monitor.domain.finding import Verdict
from monitor.domain.intervals import wilson
from monitor.domain.window import Summary


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `drop` in share of requests; rows and bins a side needs."""

    alpha: float = 0.0005
    drop: float = 0.1
    min_rows: int = 100
    min_bins: int = 8
    bins: int = 16


def _rows(summary: Summary) -> int:
    return summary.bins.rows if "agreement" in summary.bins.columns else 0


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge the agreement of a window. `effect` is the drop, in share of requests."""
    n_reference, n_current = context.summary.bins.rows, current.bins.rows
    reference, window = sides(context, current, "agreement", options.bins)
    before = float(context.summary.bins.total("agreement")[0]) / n_reference
    after = float(current.bins.total("agreement")[0]) / n_current
    interval = _interval(after, n_current, window[:, 0])
    if min(n_reference, n_current) < options.min_rows or len(reference) < options.min_bins:
        return Score(
            Verdict.INSUFFICIENT,
            f"{n_current} requests against {n_reference} are too few to judge agreement: it lies between "
            f"{interval[0]:.0%} and {interval[1]:.0%}.",
            value=after,
            interval=interval,
            n_reference=n_reference,
            n_current=n_current,
        )
    p_value = float(welch(reference, window)[0])
    drift = p_value <= options.alpha and before - after >= options.drop
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"The heads agree in {after:.1%} of requests, in the baseline in {before:.1%} ({in_words(p_value)}).",
        value=after,
        p_value=p_value,
        effect=before - after,
        interval=interval,
        threshold=max(0.0, before - options.drop),
        n_reference=n_reference,
        n_current=n_current,
        details={"baseline": before},
    )


def _interval(share: float, rows: int, bins: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    binomial = share * (1 - share) / rows
    seen = float(bins.var(ddof=1)) / len(bins) if len(bins) > 1 else 0.0
    effective = max(1, round(rows / max(1.0, seen / binomial))) if binomial > 0 else rows
    return wilson(round(share * effective), effective)


DETECTOR = Detector("agreement", Takes.FUSED, Options, run, _rows)
