"""What a modality is: how its bytes are checked, decoded, measured and made into the arrays that a model takes.

A modality is one module of this package that exposes a `MODALITY` constant; `modalities()` finds them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import inference.modalities


class Status(StrEnum):
    """Whether a modality of a request could be used."""

    PRESENT = "present"
    MISSING = "missing"
    CORRUPT = "corrupt"
    REJECTED = "rejected"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A modality after its checks: a value where it is present, else a stable reason."""

    status: Status
    reason: str | None = None
    value: Any = field(default=None, repr=False)


MISSING = Decoded(Status.MISSING, "not_sent")


class Preprocessing(Protocol):
    """What a checkpoint brings to make the arrays that its model takes. Shared between threads."""

    def picture(self, pixels: NDArray[np.uint8], /) -> dict[str, NDArray[Any]]:
        """`pixels` (H, W, 3) uint8 of one RGB picture, at the model's size."""
        ...

    def captions(self, texts: Sequence[str], /) -> list[dict[str, NDArray[Any]]]:
        """`input_ids` and `attention_mask` of each text, (T,) int64."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The tokenizers.Tokenizer behind `captions`."""
        ...

    def frames(self, modality: str, sequence: NDArray[np.float32], /) -> dict[str, NDArray[Any]]:
        """`features` (T, F) float32 and `frame_mask` (T,) int64 of a sequence (frames, F) of `audio` or `video`."""
        ...

    def columns(self, table: Mapping[str, float | str], /) -> dict[str, NDArray[Any]]:
        """`numbers` and `known` (N,) float32 of a table's N numbers, `codes` (C,) int64 of its C categories."""
        ...

    @property
    def column_names(self) -> Sequence[str]:
        """The columns that `columns` knows."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One value as its encoder's inputs, without a batch axis, and its quality statistics (Q,) float32."""

    inputs: Mapping[str, NDArray[Any]]
    quality: NDArray[np.float32]


UNREAD = Prepared({}, np.empty(0, np.float32))
"""Stands for a value that is present but that nobody looks into: what a model takes whose card is `raw`."""


Wire = type[bytes] | type[str] | type[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Modality:
    """One modality.

    `wire` is the type of its data in a request; an object comes to `decode` as JSON text. `decode` never raises: limits
    come first, then decoding. `prepare` takes N decoded values, each by itself: together they cost less.
    `quality_names` names the Q statistics in order.
    `blank` is a value that stands in where a batch has none. Both functions are called by several threads at once.
    """

    name: str
    wire: Wire
    quality_names: tuple[str, ...]
    decode: Callable[[Any], Decoded]
    prepare: Callable[[Sequence[Any], Preprocessing], list[Prepared]]
    blank: Any


@cache
def modalities() -> Mapping[str, Modality]:
    """Modality by name, from all modules of this package. Raises ValueError where two claim one name."""
    found: dict[str, Modality] = {}
    for info in sorted(pkgutil.iter_modules(inference.modalities.__path__), key=lambda module: module.name):
        modality = getattr(importlib.import_module(f"inference.modalities.{info.name}"), "MODALITY", None)
        if not isinstance(modality, Modality):
            continue
        if modality.name in found:
            raise ValueError(f"two modules define the modality {modality.name!r}")
        found[modality.name] = modality
    return found
