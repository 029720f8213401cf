"""What a network is to this product, and the one module around all of them: uint8 images in, logits out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from raycifar.config.architectures import blocks_below
from raycifar.config.datasets import Facts
from raycifar.config.settings import Model

Prefixes = tuple[str, ...]  # names of modules in the trunk; a parameter belongs to the one that its name begins with
PIXELS_AT_ONCE = 1_000 * 32**2  # without gradients: activations of 0.3 GB in fp32 for VGG16


def as_it_is(module: nn.Module) -> None:
    """An initialisation that keeps the weights with which the module was made."""


@dataclass(frozen=True)
class Trunk:
    """A network without its head, as a builder makes it.

    `module` maps normalised float images (N, 3, S, S) to (N, features), or to (N, features, H, W), of which `pool`
    makes (N, features, 1, 1).
    """

    module: nn.Module
    features: int
    blocks: tuple[Prefixes, ...]  # input first: what `model.train` counts
    layers: tuple[Prefixes, ...]  # input first: what `optimizer.layer_decay` counts
    mean: tuple[float, float, float]  # of pixels in 0..1, that its pretrained weights expect
    std: tuple[float, float, float]
    side: int  # in pixels, that it was made for
    least: int  # a smaller side leaves it no pixel
    normed: bool  # batch norm behind every convolution, which Muon needs
    load: Callable[[dict[str, Tensor]], object]  # puts pretrained weights into `module`
    initialise: Callable[[nn.Module], object] = as_it_is  # of `module`, where it starts from random weights, too
    pool: Callable[[], nn.Module] = nn.Identity
    only: bool = False  # whether it takes images of its `side`, and no others


class Network(nn.Module):
    """uint8 images (N, 3, H, W) -> logits (N, classes). The trunk's parameters are called `features.*`."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk, spec: Model, facts: Facts) -> None:
        super().__init__()
        self.images_at_once = max(1, PIXELS_AT_ONCE // spec.sees(facts.side) ** 2)
        expected = trunk if spec.weights == "imagenet" else facts
        self.pixels = expected.mean, expected.std  # as it normalises them
        self.register_buffer("mean", _channels(expected.mean), persistent=False)
        self.register_buffer("std", _channels(expected.std), persistent=False)
        self.enlarge = _enlarging(spec, facts)
        self.features = trunk.module
        self.pool = trunk.pool()
        self.head = _head(spec, trunk.features, len(facts.classes))
        self.blocks, self.layers = trunk.blocks, trunk.layers

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.enlarge(normalised(images, self.mean, self.std))
        return cast(Tensor, self.head(self.pool(self.features(pixels)).flatten(1)))

    def depths(self) -> Iterator[tuple[int, nn.Parameter]]:
        """Each parameter with the depth of its layer: 0 in the head, 1 in the trunk's last layer, and so on."""
        depths = {prefix: len(self.layers) - number for number, layer in enumerate(self.layers) for prefix in layer}
        for name, parameter in self.named_parameters():
            yield 0 if belongs(name, ["head"]) else depths[_owner(name, depths)], parameter

    def freeze(self, train: str) -> None:
        """Parameters below the part that `model.train` names do not require gradients."""
        below = [prefix for block in self.blocks[: blocks_below(train, len(self.blocks))] for prefix in block]
        for name, parameter in self.features.named_parameters():
            if belongs(name, below):
                parameter.requires_grad_(False)


def belongs(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a parameter of this name lies in one of the modules."""
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)


def _owner(name: str, depths: Mapping[str, int]) -> str:
    inside = name.removeprefix("features.")
    return next(prefix for prefix in depths if belongs(inside, [prefix]))


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images (N, 3, H, W) -> float32, channels_last; `mean` and `std` (3, 1, 1) are those of pixels in 0..1."""
    return (images / 255).sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def _enlarging(spec: Model, facts: Facts) -> nn.Module:
    if spec.sees(facts.side) == facts.side:
        return nn.Identity()
    if spec.side:
        return nn.Upsample(size=(spec.side, spec.side), mode="bilinear")
    return nn.Upsample(scale_factor=spec.upsample, mode="bilinear")


def _channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)


def _head(spec: Model, features: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = features
    for hidden in spec.hidden:
        layers += [nn.Dropout(spec.dropout), nn.Linear(width, hidden), nn.ReLU(inplace=True)]
        width = hidden
    return nn.Sequential(*layers, nn.Dropout(spec.dropout), nn.Linear(width, classes))


def initialise(layer: nn.Module) -> None:
    """He et al. 2015 by fan-out: without batch norm, VGG16 does not train from PyTorch's default initialisation."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
    if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
