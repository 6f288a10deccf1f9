"""The GPUs of this machine, asked at every scrape, where a model runs on one.

NVIDIA's management library answers; where it or its Python package is missing there is nothing to show.
All GPUs that the process can see are listed, by the library's own numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

LOG: Final = logging.getLogger("pushforward")


@dataclass(frozen=True, slots=True)
class Reading:
    """One number of a GPU: its metric, and how the library (first) is asked about a device (second)."""

    name: str
    meaning: str
    ask: Callable[[Any, Any], float]


READINGS: Final = (
    Reading(
        "pushforward_gpu_busy_ratio",
        "Part of the last moment in which the GPU computed anything.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    Reading(
        "pushforward_gpu_memory_used_bytes",
        "Memory that is taken, by this process or another.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    ),
    Reading(
        "pushforward_gpu_memory_bytes",
        "Memory that the GPU has.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    Reading(
        "pushforward_gpu_temperature_celsius",
        "Of the chip.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    ),
    Reading(
        "pushforward_gpu_power_watts",
        "What the board draws.",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    ),
)


class Gpus(Collector):
    """Every reading of every GPU that has it.

    Args:
        nvml: the module ``pynvml``, initialised.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._gpus = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge for each reading, by the number of the GPU."""
        for reading in READINGS:
            gauge = GaugeMetricFamily(reading.name, reading.meaning, labels=("gpu",))
            for number, gpu in enumerate(self._gpus):
                value = self._read(reading, gpu)
                if value is not None:
                    gauge.add_metric((str(number),), value)
            yield gauge

    def _read(self, reading: Reading, gpu: Any) -> float | None:
        try:
            return reading.ask(self._nvml, gpu)
        except self._nvml.NVMLError:  # a part of a GPU, for example, has no power of its own
            return None


def open_gpus(registry: CollectorRegistry) -> None:
    """Show the GPUs from now on, if they can be asked."""
    try:
        import pynvml
    except ImportError:
        LOG.warning("no metrics of the GPU: the package nvidia-ml-py is not installed")
        return
    try:
        pynvml.nvmlInit()
        registry.register(Gpus(pynvml))
    except pynvml.NVMLError as error:
        LOG.warning("no metrics of the GPU: %s", error)
