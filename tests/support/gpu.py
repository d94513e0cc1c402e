"""A stand-in for NVIDIA's driver, where there is no GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pynvml  # type: ignore[import-untyped]  # the library ships no types


@dataclass
class Driver:
    """The calls of NVML that the collector makes, answered with NVML's own structures; `lost` calls fail."""

    percent: list[int]
    used: list[int]
    lost: set[str] = field(default_factory=set)

    def _call(self, name: str) -> None:
        if name in self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    def nvmlInit(self) -> None:  # noqa: N802
        self._call("init")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._call("count")
        return len(self.percent)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        self._call(f"device {index}")
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802
        self._call(f"utilization {handle}")
        return pynvml.c_nvmlUtilization_t(gpu=self.percent[handle], memory=99)

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        self._call(f"memory {handle}")
        return pynvml.c_nvmlMemory_t(total=10 * 2**30, free=2**30, used=self.used[handle])
