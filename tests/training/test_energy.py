"""The energy meter, with a fake NVML, for there is no GPU here: one counter in millijoules, that a test moves on."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch
import torch.distributed as dist

from raycifar.training import workers
from raycifar.training.energy import EnergyMeter

GPU = torch.device("cuda", 0)
UUID = "a1b2c3d4-0000-1111-2222-333344445555"


@dataclass
class FakeNvml:
    """Its GPU is found by UUID alone, as where CUDA_VISIBLE_DEVICES hides others."""

    millijoules: int = 5_000_000
    error: int = 0

    def read(self, handle: str) -> int:
        if self.error:
            raise pynvml.NVMLError(self.error)
        return {"handle": self.millijoules}[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", {f"GPU-{UUID}": "handle"}.__getitem__)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", fake.read)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))
    return fake


def test_a_meter_tells_how_far_the_counter_has_moved_on_in_joules(nvml: FakeNvml) -> None:
    meter = EnergyMeter(GPU)
    nvml.millijoules += 1_250_500
    assert meter.joules() == pytest.approx(1250.5)


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_GPU_IS_LOST])
def test_a_gpu_without_a_counter_reports_nothing(nvml: FakeNvml, error: int) -> None:
    nvml.error = error
    assert EnergyMeter(GPU).joules() is None


def test_a_counter_that_fails_later_reports_nothing(nvml: FakeNvml) -> None:
    meter = EnergyMeter(GPU)
    nvml.error = pynvml.NVML_ERROR_GPU_IS_LOST
    assert meter.joules() is None


@pytest.mark.parametrize(("other", "expected"), [(100.0, 101.0), (float("nan"), None)])
def test_several_workers_add_up_their_devices_or_report_nothing(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, other: float, expected: float | None
) -> None:
    def gather(values: list[Any], mine: float) -> None:
        values[:] = [mine, other]

    monkeypatch.setattr(workers, "world", lambda: (0, 2))
    monkeypatch.setattr(dist, "all_gather_object", gather)
    meter = EnergyMeter(GPU)
    nvml.millijoules += 1000
    assert meter.joules() == expected


def test_a_cpu_has_no_counter_and_asks_for_none() -> None:
    assert EnergyMeter(torch.device("cpu")).joules() is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVML here")
def test_a_machine_without_nvidias_driver_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))
    assert EnergyMeter(GPU).joules() is None
