"""What the device can do at best, what a training step alone takes of it, and where the time of an epoch goes."""

import re
import time
from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity

from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import Split
from raycifar.networks.cost import blocks
from raycifar.training.optimizers import build_optimizer
from raycifar.training.precision import autocast

REPEATS = 3
# The first that fits an operator's name counts it.
GROUPS = {
    "convolution, backward": r"convolution_backward|dgrad|wgrad",
    "convolution, forward": r"conv",
    "linear": r"addmm|aten::mm|linear|gemm",
    "ReLU": r"relu|threshold|clamp",
    "pooling": r"pool",
    "optimizer": r"optimizer|sgd|adam|_foreach|zero_grad",
    "loss": r"cross_entropy|log_softmax|nll_loss|softmax|argmax",
    "input: order, crop, mirror": r"index|flip|where|rand|bitwise",
    "copies and casts": r"copy|_to|clone|contiguous|cat|memcpy|memset|fill|zero|empty",
}


def profile(epoch: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Shares of `epoch`'s seconds by GROUPS; the rest is Python and what lies between."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        start = time.perf_counter()
        epoch()
        seconds = time.perf_counter() - start
    total: Counter[str] = Counter()
    for event in profiler.key_averages():
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        total[_group(event.key)] += spent / 1e6 / seconds
    return dict(total) | {"between the operators": max(0.0, 1 - sum(total.values()))}


def _group(operator: str) -> str:
    return next((name for name, pattern in GROUPS.items() if re.search(pattern, operator.lower())), "other operators")


def step_alone(model: nn.Module, batch: Split, spec: TrialSpec, precision: str) -> Callable[[], None]:
    """A training step on a batch that is there already: no order, no augmentation, no record."""
    optimizer = build_optimizer(model, spec.optimizer)
    device = batch.labels.device

    def step() -> None:
        with autocast(device, precision):
            logits = model(batch.images)
        F.cross_entropy(logits.float(), batch.labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ceilings(batch_size: int, precision: str, device: torch.device) -> dict[str, float]:
    """Floating-point operations a second: of a large matrix product, and of VGG16's fastest convolution, forward."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    matmul = rate(lambda: a @ b, 2.0 * side**3, REPEATS, device)
    convolutions = [
        _convolution(batch_size, side, channels, dtype, device) for side, block in blocks() for channels in set(block)
    ]
    return {"matmul": matmul, "convolution": max(convolutions)}


def _convolution(batch: int, side: int, channels: tuple[int, int], dtype: torch.dtype, device: torch.device) -> float:
    taken, given = channels
    kind = {"device": device, "dtype": dtype}
    images = torch.randn(batch, taken, side, side, **kind).contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kernel = torch.randn(given, taken, 3, 3, **kind).contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        return rate(lambda: F.conv2d(images, kernel, padding=1), 2.0 * 9 * taken * given * side**2 * batch, 2, device)


def rate(work: Callable[[], object], amount: float, repeats: int, device: torch.device) -> float:
    """`amount` a second of `work`, over `repeats` of it after one that warms up."""
    work()
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait(device)
    return amount * repeats / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
