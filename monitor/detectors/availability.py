"""Availability: the share of requests that came with a usable input of a modality.

Value: present / all requests, with Wilson's 95% interval (Wilson 1927). Drift: the whole interval lies below the
target, so that a few unlucky requests among few are no outage. `details["state"]` is `gone` where next to none
came, which need not wait for a second window.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.detectors.base import Context, Detector, Score, Takes
from monitor.domain.finding import Verdict
from monitor.domain.intervals import wilson
from monitor.domain.window import Summary

PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Options:
    """`target` share; a modality is `gone` below the share `gone`; fewer than `min_rows` requests decide nothing."""

    target: float = 0.99
    gone: float = 0.05
    min_rows: int = 20


def requests(summary: Summary) -> int:
    """Requests counted, in whatever state."""
    return sum(summary.counts.values())


def run(_: Context, current: Summary, options: Options) -> Score:
    """Judge one modality's availability; no baseline is needed."""
    n = requests(current)
    present = current.counts.get(PRESENT, 0)
    share = present / n
    low, high = wilson(present, n)
    drift = n >= options.min_rows and high < options.target
    verdict = Verdict.DRIFT if drift else Verdict.OK if n >= options.min_rows else Verdict.INSUFFICIENT
    causes = {name: count for name, count in sorted(current.counts.items()) if name != PRESENT and count}
    why = ", ".join(f"{count} {name}" for name, count in sorted(causes.items(), key=lambda each: -each[1]))
    words = f"{current.modality} was usable in {present} of {n} requests ({share:.1%}, target {options.target:.1%})"
    if verdict is Verdict.INSUFFICIENT:
        words += f"; so few requests tell no more than that it lies between {low:.0%} and {high:.0%}"
    return Score(
        verdict,
        f"{words}{': ' + why if why else ''}.",
        value=share,
        effect=max(0.0, options.target - share),
        interval=(low, high),
        threshold=options.target,
        n_current=n,
        details={"state": _state(share, drift, options), "counts": causes},
    )


def _state(share: float, drift: bool, options: Options) -> str:
    if not drift:
        return "available"
    return "gone" if share < options.gone else "degraded"


DETECTOR = Detector("availability", Takes.MODALITY, Options, run, requests, needs_baseline=False)
