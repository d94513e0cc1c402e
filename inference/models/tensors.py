"""From a batch of arrays to the tensors that a fusion model takes: the same in training and in the model process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.model_io import ModelInput
from inference.models.base import ModalityBatch
from inference.models.preprocess import ImageSettings

PIXELS, PIXEL_VALUES = "pixels", "pixel_values"


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """A batch on its way to a device: tensors by modality and name, `present` by modality, and their arrays.

    On CUDA the copies may be under way still: `arrived` has been recorded behind them. The arrays must live until then.
    """

    arrays: ModelInput
    tensors: Mapping[str, Mapping[str, Tensor]]
    present: Mapping[str, Tensor]
    arrived: torch.cuda.Event | None


class Loader:
    """Copies batches to a device and scales pixels there. `stage` and `finish` may run in different threads."""

    def __init__(self, image: ImageSettings | None, device: torch.device) -> None:
        """`image` may be None where the model takes no pictures."""
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if image is not None:
            self._mean = torch.tensor(image.mean).view(3, 1, 1).to(device) * 255.0
            self._std = torch.tensor(image.std).view(3, 1, 1).to(device) * 255.0

    def __call__(self, batch: ModelInput) -> dict[str, ModalityBatch]:
        """`stage` and `finish` in one."""
        return self.finish(self.stage(batch))

    def allocate(self, size: int) -> NDArray[np.uint8]:
        """Memory (size,) to receive arrays into: pinned on CUDA, so that copies to the device need not wait."""
        if self._stream is None:
            return np.empty(size, np.uint8)
        return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()

    def stage(self, batch: ModelInput) -> Staged:
        """Start copying a batch to the device, beside whatever it computes."""
        if self._stream is None:
            return self._staged(batch, None)
        with torch.cuda.stream(self._stream):
            staged = self._staged(batch, torch.cuda.Event())
            assert staged.arrived is not None
            staged.arrived.record(self._stream)
            return staged

    def finish(self, staged: Staged) -> dict[str, ModalityBatch]:
        """The batch as a fusion model takes it, in the current stream."""
        if staged.arrived is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(staged.arrived)
            for tensor in (*staged.present.values(), *(t for each in staged.tensors.values() for t in each.values())):
                tensor.record_stream(current)
        batch = {}
        for name, tensors in staged.tensors.items():
            present = staged.present[name]
            ready = {key: tensor for key, tensor in tensors.items() if key != PIXELS}
            if PIXELS in tensors:
                ready[PIXEL_VALUES] = self._scaled(tensors[PIXELS])
                if not staged.arrays.present[name].all():
                    ready[PIXEL_VALUES] *= present[:, None, None, None]
            batch[name] = ModalityBatch(ready, present)
        return batch

    def _staged(self, batch: ModelInput, arrived: torch.cuda.Event | None) -> Staged:
        def moved(array: NDArray[np.generic]) -> Tensor:
            tensor = torch.from_numpy(array)
            return tensor.to(self._device, non_blocking=True) if self._device.type != "cpu" else tensor

        return Staged(
            batch,
            {name: {key: moved(array) for key, array in arrays.items()} for name, arrays in batch.arrays.items()},
            {name: moved(array) for name, array in batch.present.items()},
            arrived,
        )

    def _scaled(self, pixels: Tensor) -> Tensor:
        """`pixel_values` (B, 3, H, W) float32 of `pixels` (B, H, W, 3) uint8."""
        return (pixels.permute(0, 3, 1, 2).float() - self._mean) / self._std
