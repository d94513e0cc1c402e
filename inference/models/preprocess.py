"""From decoded pictures and strings to the model's tensors: the same function in training and in the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """How pictures become `pixel_values`: size in pixels, then (x / 255 - mean) / std per RGB channel."""

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_processor(cls, config: Mapping[str, Any]) -> ImageSettings:
        """Read the fields of a transformers image processor's `preprocessor_config.json`.

        Raises:
            ValueError: a field is missing or has another shape than expected.
        """
        try:
            size = config["size"]
            mean, std = (tuple(float(x) for x in config[key]) for key in ("image_mean", "image_std"))
            height, width = int(size["height"]), int(size["width"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"image processor: expected size.height, size.width, image_mean, image_std: {error}"
            ) from error
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0.0 or min(height, width) < 1:
            raise ValueError("image processor: expected three means, three positive deviations, a positive size")
        return cls(height, width, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def to_processor(self) -> dict[str, Any]:
        """The same settings as transformers' `ViTImageProcessor` writes and reads them."""
        return {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "resample": int(Image.Resampling.BILINEAR),
            "rescale_factor": 1 / 255,
            "size": {"height": self.height, "width": self.width},
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


class Preprocessor:
    """Turns decoded pictures and captions into tensors. Safe to share between threads: it keeps no state."""

    def __init__(self, image: ImageSettings, tokenizer: Tokenizer, max_tokens: int) -> None:
        """`tokenizer` gets its truncation and padding set here; nobody else may change them."""
        pad = tokenizer.token_to_id("[PAD]")
        if pad is None:
            raise ValueError("tokenizer: expected a [PAD] token")
        tokenizer.enable_truncation(max_tokens)
        tokenizer.enable_padding(pad_id=pad, pad_token="[PAD]")
        self.image = image
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._mean = torch.tensor(image.mean).view(3, 1, 1) * 255.0
        self._std = torch.tensor(image.std).view(3, 1, 1) * 255.0

    def images(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """`pixel_values` (B, 3, H, W) float32 of B pictures (height, width, 3) uint8 RGB of any size.

        Raises:
            ValueError: a picture is not (height, width, 3) uint8.
        """
        batch = np.empty((len(pictures), self.image.height, self.image.width, 3), dtype=np.uint8)
        for row, picture in zip(batch, pictures, strict=True):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(f"picture: expected (height, width, 3) uint8, got {picture.shape} {picture.dtype}")
            row[:] = picture if picture.shape == row.shape else self._resize(picture)
        return (torch.from_numpy(batch).permute(0, 3, 1, 2).float() - self._mean) / self._std

    def texts(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (B, T) int64, T the longest caption, at most the model's length."""
        encodings = self.tokenizer.encode_batch(list(captions))
        return {
            "input_ids": torch.tensor([e.ids for e in encodings], dtype=torch.int64).view(len(encodings), -1),
            "attention_mask": torch.tensor([e.attention_mask for e in encodings], dtype=torch.int64).view(
                len(encodings), -1
            ),
        }

    def _resize(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = (self.image.width, self.image.height)
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
