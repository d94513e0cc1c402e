"""Review rate: what share of requests did a person review?

Value: labels of source `human_review` over all answers of the time in which they came, with Wilson's 95% interval
(1927). Reviews come later than their requests, so this is a rate of flow: it equals the share of requests that are
reviewed while both flows are steady. A trend; drift only where a `target` (the most that the reviewers can take) is set
and the whole interval lies above it. Every distinct request counts once: of its labels one is kept, so that a review
that ground truth replaced no longer counts.

>>> import numpy as np
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Labelled
>>> sources = np.array(["human_review"] * 6 + ["user"] * 2)
>>> labels = Labelled(np.full(8, 0.9), np.ones(8, bool), source=sources, answered=200)
>>> judge(catalogue()["review_rate"], "fused", None, labels).value
0.03
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.detectors.base import Context, Detector, Score, Takes
from monitor.domain.finding import Verdict
from monitor.domain.intervals import wilson
from monitor.domain.window import Labelled

HUMAN = "human_review"


@dataclass(frozen=True, slots=True)
class Options:
    """`target` share of requests, None for none; fewer than `min_rows` answers decide nothing."""

    target: float | None = None
    min_rows: int = 100


def _answered(labelled: Labelled) -> int:
    """All answers; 0, so that nothing is judged, where their number or who labelled is not known."""
    return 0 if labelled.answered is None or labelled.source is None else labelled.answered


def run(_: Context, current: Labelled, options: Options) -> Score:
    """Measure the review rate; no baseline is needed. `effect` is the excess over the target."""
    n = _answered(current)
    sources, counts = np.unique([] if current.source is None else current.source, return_counts=True)
    by_source = {str(name): int(count) for name, count in zip(sources, counts, strict=True)}
    # reviews of earlier requests can outnumber the answers of a quiet hour
    reviewed = min(n, by_source.get(HUMAN, 0))
    share, (low, high) = reviewed / n, wilson(reviewed, n)
    few = n < options.min_rows
    above = options.target is not None and low > options.target
    words = f"People reviewed {reviewed} of {n} requests ({share:.1%}"
    words += ")" if options.target is None else f", target {options.target:.1%})"
    if few:
        words += f"; too few requests to tell more than that the rate lies between {low:.0%} and {high:.0%}"
    return Score(
        Verdict.INSUFFICIENT if few else Verdict.DRIFT if above else Verdict.OK,
        f"{words}.",
        value=share,
        effect=None if options.target is None else share - options.target,
        interval=(low, high),
        threshold=options.target,
        n_current=n,
        details={"labels_by_source": by_source},
    )


DETECTOR = Detector("review_rate", Takes.LABELS, Options, run, _answered, needs_baseline=False)
