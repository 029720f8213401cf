"""What a network of a library turns out to be: looked at without its weights, on PyTorch's meta device, once a side.

Operations are those of FlopCounterMode, forward only: its count of a backward pass takes grouped convolutions for whole
ones (PyTorch pull request 183405).
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from raycifar.config.architectures import ARCHITECTURES, blocks_below
from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model
from raycifar.config.sweep import TrialSpec
from raycifar.networks.network import Trunk, belongs
from raycifar.networks.registry import make_trunk


@dataclass(frozen=True, slots=True)
class Block:
    """Floating-point operations of a forward pass for one image, and what Muon would make of the kernels."""

    flops: float
    first: float  # of its first layer
    kernels: tuple[tuple[int, int], ...]  # (outputs, inputs) of each kernel as a matrix


@dataclass(frozen=True, slots=True)
class Inspected:
    """A trunk, without its tensors."""

    features: int
    parameters: int
    blocks: tuple[Block, ...]
    normed: bool

    @property
    def flops(self) -> float:
        return sum(block.flops for block in self.blocks)


@cache
def inspected(name: str, side: int) -> Inspected:
    """The network of this name for images of this side. Raises ValueError where there is none, or it takes no such."""
    spec = Model(name=name, weights="random", side=side)
    with torch.device("meta"):
        trunk = make_trunk(spec, CIFAR10)
    _check_side(name, side, trunk)
    trunk.module.requires_grad_(False)  # FlopCounterMode fails for tokens that do
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shape = _seen(trunk, name, side)
    if shape[:2] != (1, trunk.features):  # behind it may lie a map, which its `pool` takes
        raise ValueError(f"model.name = {name!r}: gives {shape} for an image, expected (1, {trunk.features})")
    return Inspected(
        trunk.features,
        sum(parameter.numel() for parameter in trunk.module.parameters()),
        _blocks(trunk, counter),
        trunk.normed,
    )


def check_network(trial: TrialSpec) -> None:
    """Raises ValueError where a network of a library does not exist here, or does not suit the trial's settings."""
    model = trial.model
    if model.name in ARCHITECTURES:
        return
    found = inspected(model.name, model.sees(trial.data.facts.side))
    try:
        blocks_below(model.train, len(found.blocks))
    except ValueError as why:
        raise ValueError(f"model.train = {why}") from None
    if trial.optimizer.name == "muon" and not found.normed:
        raise ValueError(
            f'optimizer.name = "muon": {model.name} has no batch norm behind each convolution, which alone makes up '
            'for the norms that it keeps: set "sgd"'
        )


def _check_side(name: str, side: int, trunk: Trunk) -> None:
    if trunk.only and side != trunk.side:
        raise ValueError(
            f"{name} takes images of {trunk.side} pixels a side alone, and sees {side}: {_set(trunk.side)}"
        )
    if side < trunk.least:
        advice = _set(max(64, trunk.least))
        raise ValueError(f"{name} needs images of at least {trunk.least} pixels a side, and sees {side}: {advice}")


def _set(side: int) -> str:
    return f"set model.side = {side}"


def _seen(trunk: Trunk, name: str, side: int) -> tuple[int, ...]:
    try:
        return tuple(trunk.module.to("meta").eval()(torch.zeros(1, 3, side, side, device="meta")).shape)
    except (RuntimeError, AssertionError, ValueError) as why:
        reason = (str(why).splitlines() or [type(why).__name__])[0]
        raise ValueError(f"{name} takes no images of {side} pixels a side ({reason}): {_set(trunk.side)}") from None


def _blocks(trunk: Trunk, counter: FlopCounterMode) -> tuple[Block, ...]:
    """What belongs to no layer with parameters, such as the products of an attention, is shared out evenly."""
    root = type(trunk.module).__name__
    counts = {name: float(sum(operations.values())) for name, operations in counter.get_flop_counts().items()}
    shapes = {name: tuple(parameter.shape) for name, parameter in trunk.module.named_parameters()}
    blocks = [[name for name in shapes if belongs(name, block)] for block in trunk.blocks]
    layers = [[flops for owner in _owners(block) if (flops := counts.get(f"{root}.{owner}", 0.0))] for block in blocks]
    known = sum(map(sum, layers))
    rest = counts.get("Global", 0.0) / known if known else 1.0
    return tuple(
        Block(rest * sum(flops), flops[0] if flops else 0.0, _kernels([shapes[name] for name in block]))
        for flops, block in zip(layers, blocks, strict=True)
    )


def _owners(block: list[str]) -> list[str]:
    """The modules of these parameters, each once, without those inside another of them."""
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in block))
    return [one for one in owners if not any(one.startswith(f"{other}.") for other in owners)]


def _kernels(shapes: list[tuple[int, ...]]) -> tuple[tuple[int, int], ...]:
    return tuple((shape[0], math.prod(shape[1:])) for shape in shapes if len(shape) == 4)
