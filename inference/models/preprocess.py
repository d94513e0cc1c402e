"""From a decoded picture or string to the arrays that a model takes, in training as in the worker. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Encoding, Tokenizer

# The callers' threads are the parallelism: the library's own pool would double the cost of a short text.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """How pictures become `pixel_values`: size in pixels, then (x / 255 - mean) / std per RGB channel.

    Sizing is done here; the rest by the model's device (`inference.models.tensors`): bytes are a quarter of floats.
    """

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
    """Turns one decoded picture or caption into arrays. Safe to share between threads: it keeps no state."""

    def __init__(self, image: ImageSettings, tokenizer: Tokenizer, max_tokens: int) -> None:
        """`tokenizer` gets its truncation and padding set here; nobody else may change them."""
        pad = tokenizer.token_to_id("[PAD]")
        if pad is None:
            raise ValueError("tokenizer: expected a [PAD] token")
        tokenizer.enable_truncation(max_tokens)
        # padding is taken off again, but the setting is part of the file, and the file of the fingerprint
        tokenizer.enable_padding(pad_id=pad, pad_token="[PAD]")
        self.image = image
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def picture(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """`pixels` (H, W, 3) uint8 of an RGB picture (height, width, 3) uint8 of any size.

        Raises:
            ValueError: the picture is not (height, width, 3) uint8.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"picture: expected (height, width, 3) uint8, got {pixels.shape} {pixels.dtype}")
        if pixels.shape[:2] != (self.image.height, self.image.width):
            size = (self.image.width, self.image.height)
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        return {"pixels": pixels}

    def captions(self, texts: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
        """For each text `input_ids` and `attention_mask` (T,) int64, T at most the model's length."""
        # the batch call lets other threads run meanwhile, which `encode` does not
        return [_tokens(encoding) for encoding in self.tokenizer.encode_batch_fast(list(texts))]


def _tokens(encoding: Encoding) -> dict[str, NDArray[Any]]:
    mask = np.array(encoding.attention_mask, np.int64)
    length = int(mask.sum())  # without the padding to the longest of the call
    return {"input_ids": np.array(encoding.ids, np.int64)[:length], "attention_mask": mask[:length]}
