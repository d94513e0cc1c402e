"""No model at all: every request gets the class priors. For measuring what the rest costs, and for mirrored traffic.

Nothing is decoded for it: any modality that was sent and is not empty counts as present.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from inference.modalities.base import modalities
from inference.models.base import Family, FusionOutput, ModalityBatch
from inference.models.checkpoint import save_checkpoint, write_manifest


class PassThroughConfig(PreTrainedConfig):
    """`priors` are the probabilities that every request gets, in the order of the labels.

    `inputs` are the modalities that requests are expected to have.
    """

    model_type = "pass_through"

    priors: list[float] | None = None
    inputs: tuple[str, ...] | list[str] = ("image", "text")


class PassThrough(nn.Module):
    """Answers the priors. Embeddings, unimodal heads and attention: none."""

    log_priors: Tensor

    def __init__(self, config: PassThroughConfig) -> None:
        """Raises ValueError where the priors are not the probabilities of the configuration's classes."""
        super().__init__()
        priors, classes = config.priors or [], len(config.id2label or {})
        if len(priors) != classes or min(priors, default=0.0) <= 0.0 or abs(sum(priors) - 1.0) > 1e-6:
            raise ValueError(f"pass_through: expected {classes} positive priors that sum to 1, found {priors}")
        self.config = config
        self.encoder = nn.Identity()
        self.register_buffer("log_priors", torch.tensor(priors).log(), persistent=False)

    def forward(self, batch: Mapping[str, ModalityBatch], *, with_attention: bool = False) -> FusionOutput:  # noqa: ARG002
        """(B, C) logits, the same for every row."""
        rows = len(next(iter(batch.values())).present)
        return FusionOutput(self.log_priors.expand(rows, -1), {}, {})


def _build(config: PreTrainedConfig) -> nn.Module:
    return PassThrough(cast(PassThroughConfig, config))


FAMILY = Family(
    name=PassThroughConfig.model_type,
    config=PassThroughConfig,
    build=_build,
    encoders=dict.fromkeys(modalities(), "encoder."),
    raw=True,
    modalities=lambda config: cast(PassThroughConfig, config).inputs,
)


def save(folder: Path, priors: Mapping[str, float]) -> str:
    """Write and seal a checkpoint that answers these probabilities by label; returns its version.

    Raises CheckpointError where the folder holds one already, ValueError where they are no probabilities above 0.
    """
    labels = tuple(priors)
    config = PassThroughConfig(
        priors=list(priors.values()),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    save_checkpoint(folder, PassThrough(config), None, labels, 1.0)
    return write_manifest(folder)
