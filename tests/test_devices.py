"""What this process computes on."""

import math
import os
import platform
from unittest.mock import Mock

import pynvml
import pytest
import torch

from raycifar import devices


def test_a_cpu_has_the_name_that_it_gives_itself():
    assert devices.device_name(torch.device("cpu"))


def test_a_gpu_has_the_name_that_pytorch_gives_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", {torch.device("cuda", 1): "NVIDIA H200"}.get)
    assert devices.device_name(torch.device("cuda", 1)) == "NVIDIA H200"


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7})
    assert devices.cpu_count() == 3


def test_memory_is_that_of_the_machine_and_without_bound_where_nothing_tells(monkeypatch):
    assert 1e8 < devices.memory_bytes() < 1e15
    monkeypatch.setattr(os, "sysconf", Mock(side_effect=ValueError("unrecognized configuration name")))
    assert devices.memory_bytes() == math.inf


def test_versions_are_of_python_and_the_packages_that_decide_numbers():
    versions = devices.versions()
    assert versions["python"] == platform.python_version()
    assert torch.__version__.startswith(versions["torch"])  # where a build may be named behind it: "+cpu"
    assert versions.keys() == {"python", "raycifar", "ray", "torch", "torchvision", "numpy", "cuda"}


@pytest.mark.parametrize(
    ("allowed", "seen"), [(None, 4), ("", 0), ("0,1", 2), ("MIG-1,MIG-2,MIG-3", 3), ("0,1,2,3,4,5", 4)]
)
def test_gpus_are_counted_as_cuda_visible_devices_allows(monkeypatch, allowed, seen):
    """The driver's four, of which this PyTorch can use none."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name, answer in (("nvmlInit", None), ("nvmlDeviceGetCount", 4), ("nvmlShutdown", None)):
        monkeypatch.setattr(pynvml, name, lambda answer=answer: answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert devices.gpu_count() == seen
