"""What a training step launches on a GPU, from its code alone: every operation with its bytes and its arithmetic.

The step runs once on PyTorch's FakeTensors, which have shapes and no numbers, as bf16 on a CPU; the Triton kernels are
stood in for by what notes their arguments. So no GPU is needed, and nothing is computed.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil, prod
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import Split
from raycifar.networks import convolution, fused_norm
from raycifar.networks.registry import build_network
from raycifar.training import muon
from raycifar.training.optimizers import build_optimizer
from raycifar.training.step import Step

NORM_KERNELS = ("moments", "statistics", "apply", "backward_sums", "gradients", "backward_input")
MUON_KERNELS = {"gather": 1, "move": 0}  # and which argument is written besides being read
NO_LAUNCH = ("aten::_unsafe_view", "aten::empty", "aten::new_empty", "prim::", "profiler::")
FOREACH = 320 * 65536  # numbers of one launch of PyTorch's operations on lists of tensors


@dataclass(frozen=True, slots=True)
class Launch:
    """An operation: `launches` kernels that read or write `bytes` of the GPU's memory in all."""

    name: str  # aten::mm, or a Triton kernel's own
    phase: str  # "input", "network", "optimizer"
    launches: int
    bytes: float
    flops: float = 0.0
    kinds: tuple[torch.dtype, ...] = ()  # of what is read and what is written
    dimensions: int = 0  # of the first tensor


class Recorder(TorchDispatchMode):
    """Notes every operation that launches something."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Launch] = []
        self.phase = "input"
        self._inside = 0  # of optimizers' steps

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        self._follow(operation.name())
        if launches := kernels_of(operation, args):
            written = tensors(result) if not writes(operation) else []
            read = tensors((args, {name: given for name, given in (kwargs or {}).items() if name != "out"}))
            changed = [t for i in writes(operation) for t in tensors(args[i : i + 1] or (kwargs or {}).get("out"))]
            kinds = tuple(t.dtype for t in (*read[:1], *written[:1]))
            if operation.name() == "aten::index.Tensor":
                read[0] = written[0]  # as much of it as is taken
            moved = float(sum(map(size_of, (*read, *written, *changed)))) + again(operation, args)
            dimensions = read[0].ndim if read else 0
            entry = Launch(operation.name(), self.phase, launches, moved, flops(operation, args), kinds, dimensions)
            self.seen.append(entry)
        return result

    def triton(self, name: str, args: Sequence[Any], also_written: int | None) -> None:
        given = [size_of(argument) for argument in args if isinstance(argument, Tensor)]
        self.seen.append(Launch(name, self.phase, 1, sum(given) + (0 if also_written is None else given[also_written])))

    def _follow(self, name: str) -> None:
        """The network begins with the first convolution; an optimizer's step is a record of PyTorch's profiler."""
        if name == "aten::convolution":
            self.phase = "network"
        self._inside += name.startswith("profiler::_record_function_enter")
        self._inside -= name.startswith("profiler::_record_function_exit")
        if self._inside:
            self.phase = "optimizer"
        elif self.phase == "optimizer":
            self.phase = "network"


class _StandIn:
    """Stands for a Triton kernel and computes nothing."""

    def __init__(self, recorder: Recorder, name: str, also_written: int | None = None) -> None:
        self._recorder, self._name, self._also_written = recorder, name, also_written

    def __getitem__(self, grid: object) -> Any:
        return lambda *args, **settings: self._recorder.triton(self._name, args, self._also_written)


def writes(operation: Any) -> list[int]:
    """The numbers of the arguments that the operation changes; SGD's gradients change with a GradScaler alone."""
    arguments = enumerate(operation._schema.arguments)
    changed = [i for i, argument in arguments if argument.alias_info is not None and argument.alias_info.is_write]
    return [i for i in changed if (operation.name(), i) != ("aten::_fused_sgd_.tensor_lr", 1)]


def kernels_of(operation: Any, args: Sequence[Any]) -> int:
    """How many kernels it launches at least; 0 for a view."""
    name = operation.name()
    returned = [r.alias_info for r in operation._schema.returns]
    if name.startswith(NO_LAUNCH) or any(info is not None and not info.is_write for info in returned):
        return 0
    if name == "aten::convolution_backward":  # of the images, which the first layer does not need, and of the kernel
        return int(sum(args[-1][:2]))
    if name == "aten::baddbmm":  # a copy of what is added to, and the product
        return 2
    if name.startswith(("aten::_foreach", "aten::_fused")):
        return ceil(sum(t.numel() for t in tensors(args[0])) / FOREACH) + int(name.startswith("aten::_foreach_norm"))
    return 1


def again(operation: Any, args: Sequence[Any]) -> float:
    """Bytes that an operation's second kernel reads once more: both gradients of a convolution need the one above."""
    both = operation.name() == "aten::convolution_backward" and all(args[-1][:2])
    return float(size_of(args[0])) if both else 0.0


def flops(operation: Any, args: Sequence[Any]) -> float:
    """Of products and convolutions; a multiply-add counts as two."""
    name = operation.name().removesuffix(".out")
    if name == "aten::convolution":
        return _convolution(args[0], args[1])
    if name == "aten::convolution_backward":
        return _convolution(args[0], args[2]) * int(sum(args[-1][:2]))
    factors = {"aten::mm": 0, "aten::bmm": 0, "aten::addmm": 1, "aten::baddbmm": 1}
    at = factors.get(name)
    return 0.0 if at is None else float(2 * args[at].numel() * args[at + 1].shape[-1])


def _convolution(images: Tensor, kernel: Tensor) -> float:
    """`images` are the convolution's input or its output, which have the same number of pixels."""
    return 2.0 * kernel.numel() * len(images) * prod(images.shape[2:])


def tensors(given: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]


def size_of(tensor: Tensor) -> int:
    """Bytes in memory: what is only expanded is there once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * prod(side for side, stride in sides if stride)


def launches(spec: TrialSpec, fused: bool = False) -> list[Launch]:
    """Of one step of the trial; `fused`: with muon.FUSED."""
    model = build_network(spec.model.model_copy(update={"weights": "random"}), spec.data.facts, spec.seed)
    spec = spec.model_copy(update={"precision": "bf16"})
    recorder = Recorder()
    with _stood_in(recorder), patch.object(muon, "FUSED", fused), FakeTensorMode(allow_non_fake_inputs=True):
        _forget_numbers(model)
        step = Step(model, build_optimizer(model, spec.optimizer), None, _split(spec.data.images[0]), spec)
        index = torch.empty(spec.batch_size, dtype=torch.int64)
        step(index, 1, 0.1)  # the optimizer makes its buffers
        recorder.seen.clear()
        recorder.phase = "input"
        with recorder:
            step(index, 1, 0.1)
    return recorder.seen


def _forget_numbers(model: nn.Module) -> None:
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty_strided(weight.shape, weight.stride())))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty_strided(buffer.shape, buffer.stride(), dtype=buffer.dtype))


def _split(images: int) -> Split:
    return Split(torch.empty(images, 3, 32, 32, dtype=torch.uint8), torch.empty(images, dtype=torch.int64))


@contextmanager
def _stood_in(recorder: Recorder) -> Iterator[None]:
    """A CPU takes the ways of a GPU, and Triton's kernels are noted."""
    from raycifar.networks import norm_kernels
    from raycifar.training import muon_kernels

    with ExitStack() as stack:
        stack.enter_context(patch.object(convolution, "largest_side", lambda: 0))
        stack.enter_context(patch.object(fused_norm, "at_once", lambda layer, images: True))
        for name in NORM_KERNELS:
            stack.enter_context(patch.object(norm_kernels, name, _StandIn(recorder, name)))
        for name, written in MUON_KERNELS.items():
            stack.enter_context(patch.object(muon_kernels, name, _StandIn(recorder, name, written)))
        yield
