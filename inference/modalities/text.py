"""Text: captions and other short texts."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from inference import wire
from inference.modalities.base import Decoded, Modality, Prepared, Preprocessing, Status

MAX_BYTES = 64_000
QUALITY = ("pieces", "unknown_share", "pieces_per_word", "unusual_share")
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


def prepare(texts: Sequence[str], preprocessing: Preprocessing) -> Prepared:
    """`input_ids`, `attention_mask` and the quality statistics of B texts.

    `pieces` counts the tokenizer's pieces without its two markers, up to the model's length; `unknown_share` is the
    share of them outside the vocabulary; `pieces_per_word` rises with typos and other languages; `unusual_share` is
    the share of characters outside printable ASCII.
    """
    tensors = preprocessing.texts(texts)
    ids, mask = tensors["input_ids"].numpy(), tensors["attention_mask"].numpy()
    pieces = np.maximum(mask.sum(axis=1) - 2, 0)
    unknown = preprocessing.tokenizer.token_to_id("[UNK]")
    unknown_share = ((ids == unknown) & (mask == 1)).sum(axis=1) / np.maximum(pieces, 1)
    words = np.array([len(_WORD.findall(text)) for text in texts])
    unusual = np.array([1 - len(_USUAL.findall(text)) / max(len(text), 1) for text in texts])
    quality = np.stack([pieces, unknown_share, pieces / np.maximum(words, 1), unusual], axis=1)
    return Prepared(tensors, quality.astype(np.float32))


MODALITY = Modality("text", str, QUALITY, decode, prepare, blank="")
