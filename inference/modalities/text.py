"""Text: captions and other short texts."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference import wire
from inference.modalities.base import Decoded, Modality, Prepared, Preprocessing, Status

MAX_BYTES = 64_000
QUALITY = ("pieces", "unknown_share", "pieces_per_word", "unusual_share")
_UNKNOWN = ("[UNK]", "<unk>")
_WORD = re.compile(r"\w+|[^\w\s]")
_USUAL = re.compile(r"[\x20-\x7e\n\t]")


def decode(data: str) -> Decoded:
    """The text as it came, or why it cannot be used."""
    if not data.strip():
        return Decoded(Status.MISSING, "empty")
    # four bytes a character is UTF-8's most: no need to encode what is too long anyway
    if len(data) > MAX_BYTES or len(data.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Decoded(Status.REJECTED, "too_large")
    if "\0" in data:
        return Decoded(Status.REJECTED, "nul")
    if not wire.storable(data):
        return Decoded(Status.REJECTED, "lone_surrogate")
    return Decoded(Status.PRESENT, value=data)


def prepare(texts: Sequence[str], preprocessing: Preprocessing) -> list[Prepared]:
    """`input_ids`, `attention_mask` and the quality statistics of each text.

    `pieces` counts the tokenizer's pieces without its markers, up to the model's length; `unknown_share` is the
    share of them outside the vocabulary; `pieces_per_word` rises with typos and other languages; `unusual_share` is
    the share of characters outside printable ASCII.
    """
    tokenizer = preprocessing.tokenizer
    unknown = [number for name in _UNKNOWN if (number := tokenizer.token_to_id(name)) is not None]
    markers = tokenizer.num_special_tokens_to_add(is_pair=False)
    tokenized = preprocessing.captions(texts)
    return [
        Prepared(inputs, _measure(text, inputs["input_ids"], unknown, markers))
        for text, inputs in zip(texts, tokenized, strict=True)
    ]


def _measure(text: str, ids: NDArray[np.int64], unknown: list[int], markers: int) -> NDArray[np.float32]:
    pieces = max(len(ids) - markers, 0)
    numbers = ids.tolist()  # of so few, a list counts several times faster than numpy
    unknown_share = sum(map(numbers.count, unknown)) / max(pieces, 1)
    words = len(_WORD.findall(text))
    plain = text.isascii() and text.isprintable()  # most are: they need not be looked at character by character
    unusual = 0.0 if plain else 1 - len(_USUAL.findall(text)) / max(len(text), 1)
    return np.array([pieces, unknown_share, pieces / max(words, 1), unusual], np.float32)


MODALITY = Modality("text", str, QUALITY, decode, prepare, blank="")
