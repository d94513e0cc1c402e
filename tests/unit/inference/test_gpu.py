"""GPU figures: none where there is no driver, for real; readings from NVML's own structures, of a stand-in driver."""

from __future__ import annotations

import pynvml  # type: ignore[import-untyped]  # the library ships no types
import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from inference.gpu import GpuCollector
from tests.support.gpu import Driver


def test_the_machine_as_it_is() -> None:
    """Whatever this machine has: the collector shows as many devices as the driver does."""
    try:
        pynvml.nvmlInit()
        devices = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        devices = 0
    registry = CollectorRegistry()
    Gauge("other", "help", registry=registry)
    registry.register(GpuCollector())
    page = generate_latest(registry).decode()
    assert page.count("fusion_gpu_memory_bytes{") == devices
    assert ("fusion_gpu" in page) == (devices > 0)
    assert "other 0.0" in page


def samples(registry: CollectorRegistry) -> dict[str, float]:
    return {
        f"{sample.name} {sample.labels['device']}": sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_each_device_by_its_index_and_what_fails_is_left_out() -> None:
    driver = Driver(percent=[37, 0, 100], used=[2**30, 0, 5])
    registry = CollectorRegistry()
    registry.register(GpuCollector(driver))
    assert samples(registry) == {
        "fusion_gpu_utilization_ratio 0": 0.37,
        "fusion_gpu_utilization_ratio 1": 0.0,
        "fusion_gpu_utilization_ratio 2": 1.0,
        "fusion_gpu_memory_bytes 0": 2**30,
        "fusion_gpu_memory_bytes 1": 0,
        "fusion_gpu_memory_bytes 2": 5,
    }
    driver.lost = {"device 0", "utilization 1"}
    assert sorted(samples(registry)) == [
        "fusion_gpu_memory_bytes 1",
        "fusion_gpu_memory_bytes 2",
        "fusion_gpu_utilization_ratio 2",
    ]


@pytest.mark.parametrize("lost", ["init", "count"])
def test_a_driver_that_comes_later_is_found(lost: str) -> None:
    driver = Driver(percent=[1], used=[1], lost={lost})
    registry = CollectorRegistry()
    registry.register(GpuCollector(driver))
    assert samples(registry) == {}
    driver.lost = set()
    assert len(samples(registry)) == 2
