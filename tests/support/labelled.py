"""Labelled answers of a small world, and one detector's word on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.detectors import catalogue, judge
from monitor.detectors.base import Score
from monitor.domain.window import FUSED, Labelled, Reference

Array = NDArray[np.float64]
CLASSES = ("a", "b", "c")
REFERENCE = Reference(
    1, "1", {}, CLASSES, accuracy=0.9, labelled=2000, class_prior=(0.5, 0.3, 0.2), class_accuracy=(0.95, 0.9, 0.775)
)
FINE = 50


def judged(name: str, labelled: Labelled, reference: Reference | None = REFERENCE, **options: Any) -> Score:
    detector = catalogue()[name]
    return judge(detector, FUSED, reference, labelled, detector.options(**options))


def answered(
    n: int, seed: int, prior: Sequence[float] = (0.5, 0.3, 0.2), right: Sequence[float] = (0.95, 0.9, 0.775)
) -> Labelled:
    """N labelled answers with the reference's mix and accuracy of each class, or another."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=prior)
    correct = rng.random(n) < np.asarray(right)[truth]
    predicted = np.where(correct, truth, (truth + 1) % 3)
    names = np.array(CLASSES)
    return Labelled(rng.uniform(0.5, 1, n), correct, predicted=names[predicted], label=names[truth])


def histogram(confidence: Array) -> Array:
    """Rows by confidence, as a worker's summaries count them."""
    return np.histogram(confidence, FINE, (0, 1))[0].astype(np.float64)
