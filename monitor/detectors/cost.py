"""Cost: how much of the model's time does a request take, and what is that in money?

Value: the model's milliseconds over all requests of the window, divided by those requests; cached answers cost nothing
and count. Each request bears its share of its batch, so that half-empty batches of a quiet hour make it dearer.
It is a sum over every request and no sample, so there is no interval and no p-value; single slow batches do not show.
Drift: it is above `target_ms`, or has risen by the relative `rise` against a baseline that was made from traffic (one
that a checkpoint brings measured no cost). `effect` is that rise. Where `dollars_per_hour` (of the machine while it
computes) is set, the words give dollars per million requests: ms / 3.6e6 × $/h × 10⁶.
`details["latency_ms"]` has the median and the 0.95 quantile of each stage, by straight lines within stored cells.

400 requests, 1.2 s of computing:

>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Summary
>>> window = Summary("fused", {}, totals={"latency.total": [0] * 4 + [400] + [0] * 15, "compute_us": [1_200_000]})
>>> score = judge(catalogue()["cost"], "fused", None, window)
>>> score.value, score.details["latency_ms"]["total"]
(3.0, {'p50': 15.0, 'p95': 19.5})
"""

from __future__ import annotations

from dataclasses import dataclass

from migrations.schema.totals import STAGES, Totals, quantile
from monitor.detectors.base import Context, Detector, Score, Takes
from monitor.domain.finding import Verdict
from monitor.domain.window import Summary

HOURS_OF_A_MILLION_MS = 1e6 / 3.6e6  # a million requests of one millisecond


@dataclass(frozen=True, slots=True)
class Options:
    """`target_ms` and `rise` (1 is twice the baseline's), None for none; fewer than `min_rows` requests decide nothing.

    The default `rise` is that large because batches, and with them the cost of a request, differ by hour of day.
    """

    target_ms: float | None = None
    rise: float | None = 1.0
    dollars_per_hour: float | None = None
    min_rows: int = 100


def _timed(totals: Totals) -> int:
    return max((sum(totals.get(f"latency.{stage}", ())) for stage in STAGES), default=0)


def _rows(summary: Summary) -> int:
    """Requests that were timed; 0 where nobody measured what the model spent on them."""
    return _timed(summary.totals) if sum(summary.totals.get("compute_us", ())) > 0 else 0


def _ms(summary: Summary) -> float | None:
    n = _rows(summary)
    return sum(summary.totals["compute_us"]) / 1000 / n if n else None


def run(context: Context, current: Summary, options: Options) -> Score:
    """Measure what a request costs; no baseline is needed."""
    n, n_reference = _rows(current), _rows(context.summary)
    ms, before = _ms(current) or 0.0, _ms(context.summary)
    rise = None if before is None else ms / before - 1
    limits = [options.target_ms] if options.target_ms is not None else []
    if before is not None and options.rise is not None and n_reference >= options.min_rows:
        limits.append(before * (1 + options.rise))
    few = n < options.min_rows
    drift = not few and any(ms > limit for limit in limits)
    words = f"A request takes {ms:.3g} ms of the model's time"
    if before is not None:
        words += f", in the baseline {before:.3g} ms"
    if options.target_ms is not None:
        words += f", target {options.target_ms:.3g} ms"
    dollars = None
    if options.dollars_per_hour is not None:
        dollars = ms * HOURS_OF_A_MILLION_MS * options.dollars_per_hour
        words += f"; a million requests cost {dollars:.2f} dollars"
    if few:
        words += f"; {n} requests are too few to call it a trend"
    return Score(
        Verdict.INSUFFICIENT if few else Verdict.DRIFT if drift else Verdict.OK,
        f"{words}.",
        value=ms,
        effect=rise,
        threshold=min(limits, default=None),
        n_reference=n_reference,
        n_current=n,
        details={"baseline_ms": before, "dollars_per_million": dollars, "latency_ms": _latencies(current.totals)},
    )


def _latencies(totals: Totals) -> dict[str, dict[str, float]]:
    known = {stage: counts for stage in STAGES if sum(counts := totals.get(f"latency.{stage}", ()))}
    return {stage: {"p50": quantile(counts, 0.5), "p95": quantile(counts, 0.95)} for stage, counts in known.items()}


DETECTOR = Detector("cost", Takes.FUSED, Options, run, _rows, needs_baseline=False)
