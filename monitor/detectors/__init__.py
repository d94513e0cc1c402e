"""Detectors: pure functions of summaries and arrays. One file each; see `base` for what they have in common."""

from monitor.detectors.base import Detector, Score, catalogue, evaluate, judge

__all__ = ["Detector", "Score", "catalogue", "evaluate", "judge"]
