"""What this process computes on: its devices, cores and memory, its packages; and how a full GPU is recognised.

Nothing here imports PyTorch before it is asked for something that only PyTorch knows.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Tests schedule GPUs that are not there and compute on the CPU. Without this a worker that should have a GPU and
# finds none fails instead.
LOGICAL_GPUS = "RAYCIFAR_TEST_LOGICAL_GPUS"
MOST_SHARED = 8  # the largest number of trials on one GPU that is tried
USABLE = 0.9  # of a GPU's memory: what is free is not in one piece
FOR_IMAGES = 0.5  # of what a trial may use of a GPU's memory: its network needs the rest

# As PyTorch, CUDA, and cuBLAS or cuDNN word it; only PyTorch has an exception of its own.
_FULL = ("CUDA out of memory", "CUDA error: out of memory", "_ALLOC_FAILED")


def device_name(device: torch.device) -> str:
    """Such as "NVIDIA H200", or the model name of the CPU."""
    if device.type == "cuda":
        import torch

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


def threads_left() -> float:
    """The threads that this user may still start; infinite where nothing limits them, as for root."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        return math.inf
    return limit - sum(_threads_of(path, os.getuid()) for path in Path("/proc").glob("[0-9]*/status"))


def _threads_of(status: Path, user: int) -> int:
    """The threads of a process, if it is this user's, by its file in /proc."""
    try:
        lines = [line.split() for line in status.read_text().splitlines()]
    except OSError:  # it has just ended
        return 0
    facts = {line[0]: int(line[1]) for line in lines if line and line[0] in ("Uid:", "Threads:")}
    return facts.get("Threads:", 0) if facts.get("Uid:") == user else 0


def gpu_count() -> int:
    """The GPUs that this process sees, also those that this PyTorch cannot use."""
    import torch

    return max(torch.cuda.device_count(), _visible_nvidia_gpus())


def _visible_nvidia_gpus() -> int:
    """As Ray counts them: the driver's, where CUDA_VISIBLE_DEVICES does not allow fewer."""
    import pynvml

    try:
        pynvml.nvmlInit()
        there = int(pynvml.nvmlDeviceGetCount())
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return 0
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if allowed is None else min(there, len([gpu for gpu in allowed.split(",") if gpu]))


def logical_gpus() -> bool:
    """Whether a test schedules GPUs that are not there."""
    return bool(os.environ.get(LOGICAL_GPUS))


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> float:
    """The machine's memory; infinite on a system that does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        return math.inf


def versions() -> dict[str, str]:
    """Of Python and the packages that decide a trial's numbers."""
    import torch

    packages = ("raycifar", "ray", "torch", "torchvision", "numpy")
    installed = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **installed, "cuda": torch.version.cuda or "none"}


def full_memory(error: BaseException | None) -> RuntimeError | None:
    """The error that says that a GPU's memory is full: this one, or one that it came up while handling; else None.

    A CUDA graph whose recording fails raises a second error when the recording is left: the first one is the cause.
    """
    while isinstance(error, RuntimeError):
        if any(sign in str(error) for sign in _FULL):
            return error
        error = None if error.__suppress_context__ else error.__context__
    return None


def gpu_room(device: str, sharing: int) -> float:
    """The bytes of a GPU that a trial's images may take, where so many trials share it."""
    import torch

    return FOR_IMAGES * USABLE * torch.cuda.get_device_properties(device).total_memory / sharing


def trials_that_fit(total: float, each: float) -> int:
    """How many trials that need `each` bytes fit into a GPU of `total` bytes; at least 1, at most MOST_SHARED."""
    return max(1, min(MOST_SHARED, int(USABLE * total // each))) if each else MOST_SHARED
