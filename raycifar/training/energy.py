"""The joules that a trial's GPUs use, by their own counters (NVML, on GPUs since Volta)."""

import math

import pynvml
import torch

from raycifar.training.workers import gathered


class EnergyMeter:
    """Measures the energy that this worker's device uses from the meter's making on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = _counter(device)

    def joules(self) -> float | None:
        """Used so far by all workers' devices; every worker calls this. None where one of them has no counter."""
        if self._device.type != "cuda":
            return None
        used = sum(gathered(_counter(self._device) - self._start))
        return used if math.isfinite(used) else None


def _counter(device: torch.device) -> float:
    """Joules since the driver was loaded, NaN without a counter. By UUID, for NVML ignores CUDA_VISIBLE_DEVICES."""
    if device.type != "cuda":
        return math.nan
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except pynvml.NVMLError:
        return math.nan
