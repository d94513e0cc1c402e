"""A model on a device of its own, as far as the worker can tell: every batch takes the same time and no CPU.

With a model that computes on the cores that the clients, the broker and the database use as well, latency at half load
is a matter of those cores. This one shows what the worker itself adds where the model has its own hardware.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from demo.tokenizer import build_tokenizer
from inference.models.base import Family, FusionOutput, ModalityBatch
from inference.models.checkpoint import save_checkpoint, write_manifest
from inference.models.preprocess import ImageSettings, Preprocessor
from tests.bench.rig import CAPTIONS

LABELS = ("yes", "no", "maybe")
WIDTH = 192


class DeviceConfig(PreTrainedConfig):
    """`milliseconds` is what a batch takes, whatever its size."""

    model_type = "timed_device"

    milliseconds: float = 10.0


class Device(nn.Module):
    """Waits, then answers the same for every row, with embeddings of a usual width."""

    scale: Tensor

    def __init__(self, config: DeviceConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder, self.text_encoder = nn.Identity(), nn.Identity()
        self.register_buffer("scale", torch.ones(1))

    def forward(self, batch: Mapping[str, ModalityBatch], **_: bool) -> FusionOutput:
        rows = len(next(iter(batch.values())).present)
        time.sleep(self.config.milliseconds / 1000)
        embedding = self.scale.expand(rows, WIDTH)
        names = ("image", "text", "fused")
        return FusionOutput(self.scale.expand(rows, len(LABELS)), dict.fromkeys(names, embedding), {})


def _build(config: PreTrainedConfig) -> nn.Module:
    return Device(cast(DeviceConfig, config))


FAMILY = Family("timed_device", DeviceConfig, _build, {"image": "image_encoder.", "text": "text_encoder."})


def save(folder: Path, milliseconds: float) -> Path:
    """Write and seal a checkpoint that decodes, resizes and tokenizes as a model for 64 px pictures does."""
    names: dict[str, Any] = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: i for i, label in enumerate(LABELS)},
    }
    preprocessor = Preprocessor(
        ImageSettings(64, 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), build_tokenizer(list(CAPTIONS)), 32
    )
    model = Device(DeviceConfig(milliseconds=milliseconds, **names))
    save_checkpoint(folder, model, preprocessor, LABELS, 1.0, (__name__,))
    write_manifest(folder)
    return folder
