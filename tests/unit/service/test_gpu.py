"""What the GPUs say is shown in the units of its name, and what they cannot say is left out."""

from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.gpu import READINGS, Gpus, open_gpus


class Nvml:
    """Two GPUs, as the library would tell of them; the second has no power of its own."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=25, memory=10)

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(used=3 << 30, total=80 << 30)

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> int:
        return 41

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        if gpu == 1:
            raise self.NVMLError("Not Supported")
        return 120_500


def shown(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_readings_are_in_the_units_of_their_names() -> None:
    registry = CollectorRegistry()
    registry.register(Gpus(Nvml()))
    found = shown(registry)
    assert 'pushforward_gpu_busy_ratio{gpu="0"} 0.25' in found
    assert 'pushforward_gpu_memory_used_bytes{gpu="1"} 3.221225472e+09' in found
    assert 'pushforward_gpu_temperature_celsius{gpu="0"} 41.0' in found
    assert 'pushforward_gpu_power_watts{gpu="0"} 120.5' in found
    assert 'pushforward_gpu_power_watts{gpu="1"}' not in found


def test_either_there_is_something_to_show_or_the_log_says_why_not(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    with caplog.at_level(logging.WARNING):
        open_gpus(registry)
    assert bool(shown(registry)) != ("no metrics of the GPU" in caplog.text)


@pytest.mark.gpu
@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="there is no GPU here")
def test_a_real_gpu_has_memory_and_a_temperature() -> None:
    registry = CollectorRegistry()
    open_gpus(registry)
    found = shown(registry)
    assert all(reading.name in found for reading in READINGS)
    assert 'pushforward_gpu_memory_bytes{gpu="0"}' in found
