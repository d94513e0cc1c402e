"""Keeps one modality from learning at the cost of the others: the encoders' gradients are weighed after each step.

`modulated` is on-the-fly gradient modulation with generalisation enhancement (OGM-GE; Peng et al. 2022,
arXiv:2203.15332): the encoder of a modality whose own answers are better than the others' gets its gradients scaled by
1 - tanh(strength · ratio) and noise of the gradient's own spread added. `normalised` scales the gradients of all
encoders to their mean norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Parts = Mapping[str, Sequence[nn.Parameter]]
"""Each modality's encoder parameters."""

EPSILON = 1e-8


def coefficients(scores: Mapping[str, float], strength: float) -> dict[str, float]:
    """What each modality's gradients are multiplied by.

    `scores` is the mean probability that each modality's own head gives the right class. A modality ahead of the mean
    of the others by a ratio above 1 is slowed, the rest keep 1.

    >>> coefficients({"image": 0.4, "text": 0.4}, 0.5)
    {'image': 1.0, 'text': 1.0}
    """
    found = {}
    for name, score in scores.items():
        others = [other for key, other in scores.items() if key != name]
        ratio = score / max(sum(others) / len(others), EPSILON) if others else 1.0
        found[name] = 1.0 - math.tanh(strength * ratio) if ratio > 1.0 else 1.0
    return found


def modulate(parts: Parts, factors: Mapping[str, float], generator: torch.Generator) -> None:
    """Scale each encoder's gradients in place by its factor; those that are slowed get noise of their own spread.

    `generator` belongs to the CPU, so that every device draws the same.
    """
    for name, parameters in parts.items():
        factor = factors.get(name, 1.0)
        if factor >= 1.0:
            continue
        for gradient in _gradients(parameters):
            spread = float(gradient.std()) if gradient.numel() > 1 else 0.0
            noise = torch.randn(gradient.shape, generator=generator) * (spread + EPSILON)
            gradient.mul_(factor).add_(noise.to(gradient.device))


def normalise(parts: Parts) -> None:
    """Scale each encoder's gradients in place so that all encoders' gradients have the same norm, their mean."""
    norms = {name: _norm(parameters) for name, parameters in parts.items()}
    moving = [norm for norm in norms.values() if norm > 0.0]
    for name, parameters in parts.items():
        if norms[name] > 0.0:
            for gradient in _gradients(parameters):
                gradient.mul_(sum(moving) / len(moving) / norms[name])


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _norm(parameters: Sequence[nn.Parameter]) -> float:
    gradients = _gradients(parameters)
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm()) if gradients else 0.0
