"""What a modality is: how its bytes are checked, decoded, measured and made into tensors.

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
from torch import Tensor

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
    """What a checkpoint brings to make tensors that its model takes."""

    def images(self, pictures: Sequence[NDArray[np.uint8]], /) -> Tensor:
        """`pixel_values` (B, 3, H, W) of B RGB pictures."""
        ...

    def texts(self, captions: Sequence[str], /) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, each (B, T)."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The tokenizers.Tokenizer behind `texts`."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """B values as the encoder's tensors, B rows each, and their quality statistics (B, Q) float32."""

    tensors: Mapping[str, Tensor]
    quality: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Modality:
    """One modality.

    `wire` is the type of its data in a request. `decode` never raises: limits come first, then decoding. `prepare`
    takes decoded values. `quality_names` names the Q statistics in order. `blank` is a value that stands in where a
    batch has none.
    """

    name: str
    wire: type[bytes] | type[str]
    quality_names: tuple[str, ...]
    decode: Callable[[Any], Decoded]
    prepare: Callable[[Sequence[Any], Preprocessing], Prepared]
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
