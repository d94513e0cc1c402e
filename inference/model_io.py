"""What goes between the worker's front and the process that runs the model: arrays and options, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inference.errors import InferenceError

WHOLE = "all"  # stands for every modality, where times are not known for each apart
Floats = NDArray[np.float32]
Dtype = Literal["float32", "bfloat16"]


class ModelFailedError(InferenceError):
    """The forward pass of one batch raised, for want of memory for one; the model process lives on."""

    code = "model_failed"


class ModelDiedError(InferenceError):
    """The model process is gone, and every batch that it had not answered with it; `restart` brings a new one."""

    code = "model_died"
    retryable = True


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """B requests as arrays.

    `arrays` maps each of the model's modalities to its encoder's inputs by name, B rows each: `pixels`
    (B, H, W, 3) uint8 for image, `input_ids` and `attention_mask` (B, T) int64 for text. Rows of requests without
    the modality hold zeros. `present` maps each modality to (B,) bool.
    """

    arrays: Mapping[str, Mapping[str, NDArray[Any]]]
    present: Mapping[str, NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """What the model says of B requests and C classes.

    `probabilities` (B, C) are after temperature; a row may hold NaN. `embeddings` maps modalities, and `fused`, to (B,
    d); rows of a missing modality, and `fused` rows of skipped requests, hold zeros and must be ignored. `agreement`
    (B,) is 1 where every unimodal head has the fused class, 0 where not, -1 where there are no such heads or a modality
    is missing. `skipped` (B,) says that the cascade spared the fusion step: probabilities are then the mean of the
    heads'. `cascaded` says that the cascade chose which of the rows were fused. `encode_ms`, by modality in the order
    in which their encoders ran (or `all`, for a family that runs in one step), and `fuse_ms` are those of the whole
    batch. `attention` (B, queries, keys) is None where the family has none or was not asked. `contribution`, of a
    sample of batches, maps each modality to the (B,) confidence lost when it is another request's, NaN where that was
    not measured; `contribution_ms` is what that took, after all the rest.
    """

    probabilities: Floats
    embeddings: Mapping[str, Floats]
    agreement: NDArray[np.int8]
    skipped: NDArray[np.bool_]
    encode_ms: Mapping[str, float]
    fuse_ms: float
    attention: NDArray[np.float16] | None = None
    contribution: Mapping[str, Floats] = field(default_factory=dict)
    contribution_ms: float = 0.0
    cascaded: bool = False


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a checkpoint is run.

    `device` is `auto`, `cpu`, `cuda` or `mps`. `dtype` is that of the encoders; what joins them stays float32.
    `compile` compiles the encoders, which takes minutes at the start and needs a C++ compiler. `torch_threads` 0 leaves
    torch's own number; the process runs on `cores` only, on all where there are none. `cascade_threshold`: requests
    whose unimodal heads agree with more confidence than this are not fused; None fuses all, and `cascade_sample` of the
    batches are fused whole all the same. `attention` asks for the attention of each request. `contribution_share` of
    the batches tell what each modality contributes. `family_modules` are importable modules with a `FAMILY` constant
    each, beside those of `inference.models`. A process that is not ready after `start_seconds` is given up.
    """

    device: str = "auto"
    dtype: Dtype = "float32"
    compile: bool = False
    torch_threads: int = 0
    cores: tuple[int, ...] = ()
    cascade_threshold: float | None = None
    cascade_sample: float = 0.0
    attention: bool = False
    contribution_share: float = 0.0
    family_modules: tuple[str, ...] = ()
    start_seconds: float = 300.0
