"""How busy and how full the machine's GPUs are, asked of NVML when /metrics is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pynvml  # type: ignore[import-untyped]  # the library ships no types
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Nvml(Protocol):
    """The part of NVML that is used, under the names of the module `pynvml`."""

    def nvmlInit(self) -> None: ...  # noqa: D102, N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: D102, N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: D102, N802
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: D102, N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: D102, N802


class GpuCollector(Collector):
    """Utilisation and memory of each device that the driver shows this process, by its NVML index.

    Where there is no driver or no device there are no such metrics; a reading that fails (a lost device, a MIG slice
    without utilisation) leaves its own sample out, never the page.
    """

    label_names = ("device",)

    def __init__(self, nvml: Nvml = pynvml) -> None:
        """Loads nothing yet: a driver that comes later is found at the next reading."""
        self._nvml = nvml
        self._started = False

    def describe(self) -> list[Metric]:
        """Both families without samples."""
        return [*_families()]

    def collect(self) -> Iterator[Metric]:
        """The families that have samples."""
        nvml, (utilization, memory) = self._nvml, _families()
        for index in range(self._devices()):
            device = _attempt(nvml.nvmlDeviceGetHandleByIndex, index)
            if device is None:
                continue
            rates = _attempt(nvml.nvmlDeviceGetUtilizationRates, device)
            if rates is not None:
                utilization.add_metric([str(index)], rates.gpu / 100)
            used = _attempt(nvml.nvmlDeviceGetMemoryInfo, device)
            if used is not None:
                memory.add_metric([str(index)], used.used)
        yield from (family for family in (utilization, memory) if family.samples)

    def _devices(self) -> int:
        if not self._started:
            try:
                self._nvml.nvmlInit()
            except Exception:  # noqa: BLE001  # no driver, or one that cannot be used: there are no figures then
                return 0
            self._started = True
        return _attempt(self._nvml.nvmlDeviceGetCount) or 0


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    busy = "Share of NVML's last sample period, at most a second, in which the device ran a kernel"
    return (
        GaugeMetricFamily("fusion_gpu_utilization_ratio", busy, labels=GpuCollector.label_names),
        GaugeMetricFamily("fusion_gpu_memory_bytes", "Device memory in use", labels=GpuCollector.label_names),
    )


def _attempt(read: Callable[..., Any], *arguments: Any) -> Any:
    """What NVML answers, or None."""
    try:
        return read(*arguments)
    except Exception:  # noqa: BLE001  # an edge: whatever a driver answers, the other metrics are served
        return None
