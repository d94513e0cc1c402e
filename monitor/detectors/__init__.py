"""Detectors: pure functions of summaries and arrays. One file each; see `base` for what they have in common.

In a notebook, `compare(name, reference, current)` runs one on plain arrays and `catalogue()` lists them.
"""

from monitor.detectors._compare import compare
from monitor.detectors.base import Detector, Score, catalogue, evaluate, judge

__all__ = ["Detector", "Score", "catalogue", "compare", "evaluate", "judge"]
