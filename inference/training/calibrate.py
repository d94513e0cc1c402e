"""Temperature scaling: one number that makes confidence honest without changing any answer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOW, HIGH = 0.05, 20.0
"""Temperatures outside say that the model is broken, not that it needs calibration."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T that minimises the negative log-likelihood of softmax(logits / T).

    `logits` (N, C), `labels` (N,). The likelihood is convex in 1 / T, so its slope is bisected. One more row's worth of
    labels is spread over all rows and classes: where every answer is right, the likelihood alone would ask for a
    confidence of 1, which N rows cannot support. Sources: Guo et al. 2017, arXiv:1706.04599; Platt 1999 for the latter.

    Raises:
        ValueError: no rows, or logits that are not finite.
    """
    if len(labels) == 0 or not bool(torch.isfinite(logits).all()):
        raise ValueError(f"temperature: expected finite logits, at least one row; got {len(labels)} rows")
    scores = logits.detach().to("cpu", torch.float64)
    spread = 1.0 / (len(labels) + 1)
    right = (1.0 - spread) * scores.gather(1, labels.cpu()[:, None]).mean() + spread * scores.mean()

    def slope(inverse: float) -> float:
        return float(((scores * inverse).softmax(1) * scores).sum(1).mean() - right)

    low, high = math.log(1.0 / HIGH), math.log(1.0 / LOW)
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if slope(math.exp(middle)) > 0.0 else (middle, high)
    return math.exp(-(low + high) / 2.0)
