"""The one number of a finding that the sequential monitor follows: a series' value, larger where things are worse.

A detector's effect is cut off at zero or squared, which hides small changes; what is read here is not cut. Measured
for embeddings (shift of a window in its own standard deviations in control, 500 rows against 1000) by `standardised`,
effect and p-value: 40% of rows with covariance ×1.4 1.9, 1.5, 1.9; class prior by 3.5% 1.0, 0.75, 1.0; a new cluster of
2.5% 0.7, 0.8, 0.75. Detectors not named are followed by their effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from monitor.domain.finding import Finding, Verdict

TICKET, PAGE = "ticket", "page"


@dataclass(frozen=True, slots=True)
class Signal:
    """How to `read` a finding, `both_ways` where it can move either way, and whom a change concerns.

    A change smaller than `floor`, in units of the value, is not worth a word. The value is a `share` of requests, or
    best told in standard deviations. What is `of_stream` outlives a model version. What is not `followed` is left to
    fixed thresholds: each further series dilutes what all the others can show, and others move with it.
    """

    read: Callable[[Finding], float | None]
    both_ways: bool = False
    severity: str = TICKET
    floor: float = 0.0
    share: bool = False
    of_stream: bool = False
    followed: bool = True


def _detail(name: str) -> Callable[[Finding], float | None]:
    def read(finding: Finding) -> float | None:
        found = finding.details.get(name)
        return finding.effect if found is None else float(found)

    return read


def _root(finding: Finding) -> float | None:
    return None if finding.effect is None else math.sqrt(max(0.0, finding.effect))


def _worse_pairs(finding: Finding) -> float | None:
    """The fall that both residuals share: as the detector's, but not zero where their signs differ."""
    given = [float(shift) for name, shift in finding.details.items() if name.startswith("given_")]
    return -max(given) if given else None if finding.value is None else -finding.value


SIGNALS: dict[str, Signal] = {
    "embedding_mmd": Signal(_detail("standardised")),
    "class_drift": Signal(_root),
    "pairing": Signal(_worse_pairs),
    "agreement": Signal(lambda finding: None if finding.value is None else -finding.value, share=True),
    # a page must be worth getting up for: half of what a target of 99% allows to be missing
    "availability": Signal(
        lambda finding: None if finding.value is None else 1 - finding.value,
        severity=PAGE,
        floor=0.005,
        share=True,
        of_stream=True,
    ),
    # estimated accuracy follows confidence, `quality` the inputs, `pairing` what belongs together
    "confidence_drift": Signal(lambda finding: finding.effect, followed=False),
    "quality_shape": Signal(lambda finding: finding.effect, followed=False),
    "misalignment": Signal(lambda finding: finding.effect, followed=False),
    "cost": Signal(lambda finding: finding.value, followed=False),
}
OTHERS = Signal(lambda finding: finding.effect)


def signal(detector: str) -> Signal:
    """How a detector's findings are followed."""
    return SIGNALS.get(detector, OTHERS)


def value(finding: Finding) -> float | None:
    """What a finding says; None where it judged nothing, or nothing finite."""
    if finding.verdict not in (Verdict.OK, Verdict.DRIFT):
        return None
    found = signal(finding.detector).read(finding)
    return found if found is not None and math.isfinite(found) else None
