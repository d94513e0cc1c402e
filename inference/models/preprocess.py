"""From a decoded value to the arrays that a model takes, in training as in the worker. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Encoding, Tokenizer

from inference.models.columns import SequenceSettings, TabularSettings

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


SPECIAL = {
    "pad_token": ("[PAD]", "<pad>", "</s>", "<|endoftext|>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>", "<|startoftext|>"),
    "sep_token": ("[SEP]", "</s>", "<|endoftext|>"),
    "mask_token": ("[MASK]", "<mask>"),
}
"""What tokenizers call their markers, the likeliest first; CLIP's and SigLIP's pad with the end of the text."""


def special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """The markers that a tokenizer has, by what they are for."""
    found = {
        kind: [name for name in names if tokenizer.token_to_id(name) is not None] for kind, names in SPECIAL.items()
    }
    return {kind: names[0] for kind, names in found.items() if names}


class Preprocessor:
    """Turns decoded values into arrays, for the modalities it has settings of. Keeps no state: threads may share it."""

    def __init__(
        self,
        image: ImageSettings | None = None,
        tokenizer: Tokenizer | None = None,
        max_tokens: int = 0,
        *,
        sequences: Mapping[str, SequenceSettings] | None = None,
        tabular: TabularSettings | None = None,
    ) -> None:
        """`tokenizer` gets its truncation and padding set here; nobody else may change them.

        Raises ValueError where it has no token to pad with.
        """
        if tokenizer is not None:
            pad = special_tokens(tokenizer).get("pad_token")
            if pad is None:
                raise ValueError(f"tokenizer: expected a token to pad with: {', '.join(SPECIAL['pad_token'])}")
            tokenizer.enable_truncation(max_tokens)
            # padding is taken off again, but the setting is part of the file, and the file of the fingerprint
            tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
        self.image = image
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.sequences = dict(sequences or {})
        self.tabular = tabular

    @property
    def tokenizer(self) -> Tokenizer:
        """The one it was given. Raises ValueError where there is none."""
        if self._tokenizer is None:
            raise ValueError("there is no tokenizer: the model takes no text")
        return self._tokenizer

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of those that it has settings of, sorted."""
        own = {"image": self.image, "text": self._tokenizer, "tabular": self.tabular, **self.sequences}
        return tuple(sorted(name for name, settings in own.items() if settings is not None))

    def unfit(self, modality: str, value: Any) -> str | None:
        """Why the model cannot take a decoded value of one of its modalities, as a stable reason; None where it can."""
        if modality in self.sequences and value.shape[1] != self.sequences[modality].features:
            return "features_differ"
        if modality == "tabular" and not set(value) & set(self.column_names):
            return "no_known_column"
        return None

    def inputs(self, modality: str, value: Any) -> dict[str, NDArray[Any]]:
        """The arrays of one decoded value. Raises KeyError where the modality is none of `modalities`."""
        if modality not in self.modalities:
            raise KeyError(modality)
        if modality == "image":
            return self.picture(value)
        if modality == "text":
            return self.captions([value])[0]
        return self.columns(value) if modality == "tabular" else self.frames(modality, value)

    def picture(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """`pixels` (H, W, 3) uint8 of an RGB picture (height, width, 3) uint8 of any size.

        Raises:
            ValueError: the picture is not (height, width, 3) uint8, or the model takes none.
        """
        if self.image is None:
            raise ValueError("there are no settings of pictures: the model takes none")
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

    def frames(self, modality: str, sequence: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """`features` (T, F) float32 and `frame_mask` (T,) int64 of a sequence (frames, F) of `audio` or `video`."""
        return self.sequences[modality](sequence)

    def columns(self, table: Mapping[str, float | str]) -> dict[str, NDArray[Any]]:
        """`numbers` and `known` (N,) float32 of a table's numbers, `codes` (C,) int64 of its categories.

        Raises ValueError where the model takes no tables.
        """
        if self.tabular is None:
            raise ValueError("there are no settings of columns: the model takes no tables")
        return self.tabular(table)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns of tables."""
        return () if self.tabular is None else self.tabular.names


def _tokens(encoding: Encoding) -> dict[str, NDArray[Any]]:
    mask = np.array(encoding.attention_mask, np.int64)
    length = int(mask.sum())  # without the padding to the longest of the call
    return {"input_ids": np.array(encoding.ids, np.int64)[:length], "attention_mask": mask[:length]}
