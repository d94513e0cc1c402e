"""Fine-tunes a fusion model on labelled production traffic, within a given time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.models.base import FusionModel, FusionOutput, ModalityBatch
from inference.models.preprocess import Preprocessor
from inference.training.data import LabelledExample, collate, targets
from inference.training.fit_settings import FitSettings

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a run went: steps done, mean loss of the last tenth, seconds, and why it ended."""

    steps: int
    loss: float
    seconds: float
    ended: str  # finished | deadline | stopped


def fit(
    model: nn.Module,
    preprocessor: Preprocessor,
    examples: Sequence[LabelledExample],
    settings: FitSettings,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FitResult:
    """Fine-tune `model` in place and leave it in eval mode.

    Loss: cross-entropy of the fused answer, plus that of the unimodal heads, with modality dropout. `progress` gets
    (step, steps, loss) after each step; `should_stop` is asked before each.

    Raises:
        ValueError: no examples, or `frozen` names nothing.
        FloatingPointError: the loss is not finite.
    """
    if not examples:
        raise ValueError("fit: expected at least one example")
    device = next(model.parameters()).device
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    _freeze(model, settings.frozen)
    optimiser = torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.98)
    )
    batches = _batches(len(examples), settings.batch_size, rng)
    losses: list[float] = []
    started, ended = clock(), "finished"
    model.train()
    for step in range(settings.steps):
        elapsed = clock() - started
        if elapsed >= settings.deadline_s or (should_stop is not None and should_stop()):
            ended = "deadline" if elapsed >= settings.deadline_s else "stopped"
            break
        done = max(step / settings.steps, elapsed / settings.deadline_s)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate_factor(step, done, settings.warmup)
        chosen = [examples[i] for i in next(batches)]
        batch = drop_modalities(collate(chosen, preprocessor, device), settings.drop, rng)
        loss = fusion_loss(cast(FusionModel, model)(batch), targets(chosen, device), batch, settings.unimodal_weight)
        losses.append(_step(model, optimiser, loss, settings.clip))
        if progress is not None:
            progress(step + 1, settings.steps, losses[-1])
    model.requires_grad_(True).eval()
    tail = losses[-max(1, len(losses) // 10) :]
    mean = sum(tail) / len(tail) if tail else math.nan
    return FitResult(len(losses), mean, clock() - started, ended)


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor, clip: float) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"training loss is {value}; lower the learning rate or check the labels")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    return value


def fusion_loss(
    output: FusionOutput, labels: Tensor, batch: Mapping[str, ModalityBatch], unimodal_weight: float
) -> Tensor:
    """Cross-entropy of the fused logits plus each unimodal head's over the rows (of B) that have its modality."""
    loss = functional.cross_entropy(output.logits, labels)
    for name, logits in sorted(output.unimodal_logits.items()):
        here = batch[name].present.to(logits.dtype)
        each = functional.cross_entropy(logits, labels, reduction="none")
        loss = loss + unimodal_weight * (each * here).sum() / here.sum().clamp(min=1.0)
    return loss


def drop_modalities(
    batch: Mapping[str, ModalityBatch], share: float, rng: np.random.Generator
) -> dict[str, ModalityBatch]:
    """Mark each modality as missing in a random `share` of rows, never a row's only one.

    Without it a model answers a request that lacks a modality with full confidence at chance accuracy.
    """
    names = sorted(batch)
    rows = len(batch[names[0]].present)
    fate = torch.from_numpy(rng.random(rows)).to(batch[names[0]].present.device)
    count = torch.stack([batch[name].present for name in names]).sum(0)
    dropped = {}
    for i, name in enumerate(names):
        lost = (fate >= i * share) & (fate < (i + 1) * share) & (count > 1)
        dropped[name] = replace(batch[name], present=batch[name].present & ~lost)
    return dropped


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW groups: decay for matrices only; embeddings, biases, norms and learned tokens keep their scale."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            token = name.endswith(("position_embeddings", "cls_token")) or id(parameter) in embeddings
            (kept if token or parameter.ndim < 2 else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def rate_factor(step: int, done: float, warmup: int, floor: float = 0.02) -> float:
    """Learning-rate factor: linear over `warmup` steps, then half a cosine in `done` (0 to 1) down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def _freeze(model: nn.Module, prefixes: tuple[str, ...]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"fit: no parameter starts with {prefix!r}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes) if prefixes else True)


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Shuffled batches for ever; every example once before any again."""
    waiting: list[int] = []
    while True:
        while len(waiting) < size:
            waiting += rng.permutation(count).tolist()
        yield waiting[:size]
        waiting = waiting[size:]
