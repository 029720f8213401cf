"""Devices: what they are called, how many cores and how much memory there are, and how a full GPU is told."""

import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MOST_SHARED = 8  # trials on a GPU that are tried
USABLE = 0.9  # of a GPU's memory: what is free is not in one piece

# PyTorch, CUDA, and cuBLAS or cuDNN; only the first has an exception of its own.
_FULL = ("CUDA out of memory", "CUDA error: out of memory", "_ALLOC_FAILED")


def full_memory(error: BaseException | None) -> RuntimeError | None:
    """The error if it says so, or the one that does and was on its way when this one came up; else None.

    Leaving a recording that has failed raises anew.
    """
    while isinstance(error, RuntimeError):
        if any(sign in str(error) for sign in _FULL):
            return error
        error = None if error.__suppress_context__ else error.__context__
    return None


def trials_that_fit(total: float, each: float) -> int:
    """How many trials that need `each` bytes fit into a GPU of `total` bytes, one at least."""
    return max(1, min(MOST_SHARED, int(USABLE * total // each))) if each else MOST_SHARED


def device_name(device: "torch.device") -> str:
    """ "NVIDIA H200", or what the CPU calls itself."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def hardware() -> str:
    """This machine in a few words: its GPUs, else its CPU cores."""
    import torch

    gpus = torch.cuda.device_count()
    if gpus:
        return f"{gpus} x {device_name(torch.device('cuda:0'))}"
    return f"{cpu_count()} cores of {device_name(torch.device('cpu'))}"


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> float:
    """This machine's memory."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):  # not every system tells
        return math.inf
