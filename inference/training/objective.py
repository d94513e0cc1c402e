"""What training lowers: the loss of the fused answer, of each modality's own head, of pairs, and the family's own.

Every term is a sum over the whole batch by a number that all processes of a team agree on, so that a batch split over
several processes has the gradients of the same batch in one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.models.base import FusionOutput, ModalityBatch
from inference.training.fit_settings import Contrast, FitError, FitSettings
from inference.training.team import Team

PAIR = ("image", "text")

Batch = Mapping[str, ModalityBatch]


@dataclass(frozen=True, slots=True)
class Terms:
    """One batch's loss (), and by modality the mean probability (M,) that its own head gives the right class.

    The gradients of `loss` on the processes of a team have those of the whole batch as their mean.
    """

    loss: Tensor
    scores: Tensor


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained model in eval mode that takes the same batches, and how it is learnt from.

    `temperature` softens both answers; `weight` (0 to 1) is the soft loss's share, the labels' loss has the rest.
    """

    model: nn.Module
    temperature: float
    weight: float

    def soft_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """(B,) of the student's `logits` (B, C): T² · KL(teacher ‖ student), both softened by T.

        T² keeps the gradients' size whatever T is. Source: Hinton et al. 2015, arXiv:1503.02531.
        """
        with torch.no_grad():
            told = (self.model(batch).logits.float() / self.temperature).log_softmax(1)
        said = (logits / self.temperature).log_softmax(1)
        return self.temperature**2 * functional.kl_div(said, told, reduction="none", log_target=True).sum(1)


class Objective(nn.Module):
    """A fusion model with its loss: what a team's processes run on their rows of a batch."""

    def __init__(self, model: nn.Module, settings: FitSettings, team: Team, teacher: Teacher | None = None) -> None:
        super().__init__()
        self._teacher = teacher  # in a dataclass, hence no part of this module
        self.model = model
        self._settings = settings
        self._team = team
        own = float(getattr(model, "contrastive_weight", 0.0))
        self._contrast = settings.contrast if settings.contrast.weight else replace(settings.contrast, weight=own)
        weights = settings.class_weights
        self._weights = torch.tensor(weights, device=team.device) if weights else None

    def forward(self, batch: Batch, labels: Tensor) -> Terms:
        """The loss of this process's rows; `labels` (B,).

        Raises FitError where the settings ask for what the model does not give.
        """
        output = self._answered(batch)
        names = sorted(output.unimodal_logits)
        weight = torch.ones_like(labels, dtype=torch.float32) if self._weights is None else self._weights[labels]
        here = {name: batch[name].present.float() for name in names}
        true_pairs = self._true_pairs(batch, labels)
        counts = self._team.total(
            torch.stack(
                [weight.sum(), true_pairs.sum(), *(x.sum() for n in names for x in (here[n] * weight, here[n]))]
            )
        )
        hard = functional.cross_entropy(output.logits, labels, reduction="none")
        loss = _mean(self._softened(hard, output.logits, batch) * weight, counts[0])
        scores = []
        for place, name in enumerate(names):
            logits, (weighed, rows) = output.unimodal_logits[name], counts[2 + 2 * place : 4 + 2 * place]
            each = functional.cross_entropy(logits, labels, reduction="none") * here[name] * weight
            loss = loss + self._settings.unimodal_weight * _mean(each, weighed)
            right = logits.detach().softmax(1).gather(1, labels[:, None])[:, 0]
            scores.append(_mean(right * here[name], rows))
        if self._contrast.weight:
            loss = loss + self._contrast.weight * self._contrastive(output, true_pairs, batch, counts[1])
        if output.auxiliary is not None:
            loss = loss + _mean(output.auxiliary, self._team.total(weight.new_tensor(float(len(labels)))))
        found = torch.stack(scores) if scores else loss.new_zeros(0)
        return Terms(loss * self._team.size, self._team.total(found))

    def _answered(self, batch: Batch) -> FusionOutput:
        """The model's output in float32, whatever it was computed in."""
        if self._settings.precision == "float32":
            output: FusionOutput = self.model(batch)
            return output
        with torch.autocast(self._team.device.type, torch.bfloat16):
            output = self.model(batch)
        return FusionOutput(
            output.logits.float(),
            {name: each.float() for name, each in output.embeddings.items()},
            {name: each.float() for name, each in output.unimodal_logits.items()},
            auxiliary=None if output.auxiliary is None else output.auxiliary.float(),
        )

    def _softened(self, hard: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """(B,) the labels' loss, or its mixture with that of the teacher's answers."""
        if self._teacher is None:
            return hard
        return torch.lerp(hard, self._teacher.soft_loss(logits, batch), self._teacher.weight)

    def _true_pairs(self, batch: Batch, labels: Tensor) -> Tensor:
        """(B,) 1 for rows that have both modalities and whose label says that they belong together."""
        contrast = self._contrast
        if not contrast.weight:
            return torch.zeros_like(labels, dtype=torch.float32)
        if not set(PAIR) <= batch.keys():
            raise FitError(f"contrastive term: needs {' and '.join(PAIR)}; the model takes {', '.join(sorted(batch))}")
        here = batch[PAIR[0]].present & batch[PAIR[1]].present
        return (here if contrast.label is None else here & (labels == contrast.label)).float()

    def _contrastive(self, output: FusionOutput, true_pairs: Tensor, batch: Batch, count: Tensor) -> Tensor:
        left, right = (output.embeddings[name] for name in PAIR)
        if left.shape[1] != right.shape[1]:
            raise FitError(
                f"contrastive term: {PAIR[0]} has embeddings of {left.shape[1]} numbers and {PAIR[1]} of "
                f"{right.shape[1]}; expected a shared space"
            )
        rows = {name: batch[name].present for name in PAIR}
        each = contrastive(left, right, rows[PAIR[0]], rows[PAIR[1]], self._contrast, self._team)
        return _mean(each * true_pairs, count)


def contrastive(
    left: Tensor, right: Tensor, left_here: Tensor, right_here: Tensor, contrast: Contrast, team: Team
) -> Tensor:
    """(B,) symmetric InfoNCE of each of this process's pairs, (B, d) each, against everyone's rows of the batch.

    Rows that lack a modality are nobody's candidates. Source: Radford et al. 2021, arXiv:2103.00020.
    """
    left, right = functional.normalize(left, dim=1), functional.normalize(right, dim=1)
    own = torch.arange(len(left), device=left.device) + team.rank * len(left)
    total = left.new_zeros(len(left))
    for mine, others, present in ((left, right, right_here), (right, left, left_here)):
        known = team.gathered(present.float()).bool()[None, :].repeat(len(mine), 1)
        known.scatter_(1, own[:, None], True)  # a row that lacks a modality counts for nothing, but must be finite
        scores = (mine @ team.gathered(others).T / contrast.temperature).masked_fill(~known, -torch.inf)
        total = total + functional.cross_entropy(scores, own, reduction="none") / 2.0
    return total


def _mean(values: Tensor, count: Tensor) -> Tensor:
    """The sum over this process's rows by the whole team's count."""
    return values.sum() / count.clamp(min=1e-9)
