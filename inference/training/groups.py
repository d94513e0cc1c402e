"""How each parameter is trained: which decay, at which rate, from which step on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from inference.training.fit_settings import FitError


def parameter_groups(
    model: nn.Module, weight_decay: float, encoders: Iterable[str] = (), encoder_rate: float = 1.0
) -> list[dict[str, Any]]:
    """AdamW groups: decay for matrices only; embeddings, biases, norms and learned tokens keep their scale.

    Parameters whose names start with one of `encoders` come in groups of their own. `factor` of each group is what
    the learning rate is multiplied by.
    """
    prefixes = tuple(encoders)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    sorted_out: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            token = name.endswith(("position_embeddings", "cls_token")) or id(parameter) in embeddings
            decays = not (token or parameter.ndim < 2)
            sorted_out.setdefault((bool(prefixes) and name.startswith(prefixes), decays), []).append(parameter)
    return [
        {
            "params": sorted_out.get((encoder, decays), []),
            "weight_decay": weight_decay if decays else 0.0,
            "factor": encoder_rate if encoder else 1.0,
        }
        for encoder in ((False, True) if prefixes else (False,))
        for decays in (True, False)
    ]


def rate_factor(step: int, done: float, warmup: int, floor: float = 0.02) -> float:
    """Learning-rate factor: linear over `warmup` steps, then half a cosine in `done` (0 to 1) down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def freeze(model: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Let every parameter learn but those whose names start with a prefix; FitError where one names none."""
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise FitError(f"fit: no parameter starts with {prefix!r}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes) if prefixes else True)


def encoder_parameters(model: nn.Module, encoders: Mapping[str, str]) -> dict[str, list[nn.Parameter]]:
    """The parameters of each modality's encoder; `encoders` maps modalities to prefixes of names."""
    return {
        modality: [parameter for name, parameter in model.named_parameters() if name.startswith(prefix)]
        for modality, prefix in sorted(encoders.items())
    }
