"""torchvision's classification networks as trunks: `get_model` without weights, the classifier cut off."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from raycifar.config.datasets import Facts
from raycifar.config.settings import Model
from raycifar.networks.convolution import adopt
from raycifar.networks.network import Prefixes, Trunk
from raycifar.networks.vgg import IMAGENET_MEAN, IMAGENET_SIDE, IMAGENET_STD

PREFIX = "torchvision/"
COUNTERS = "num_batches_tracked"  # of batch norm, which nothing here reads
# Containers whose children, and not they themselves, are blocks.
_CONTAINERS = re.compile(r"((?:features|layers|blocks|trunk_output|encoder\.layers)\.\w+|encoder\.\w+|\w+)\.?")


@dataclass(frozen=True)
class Family:
    """How the networks whose names begin alike end: the `head` that is cut off, and what stays of it."""

    head: str  # the attribute
    keeps: int = 0  # the layers of the head that belong to the trunk, such as a norm, counted from its front
    pooled: bool = True  # whether one pixel comes to the head; else the trunk's last map is averaged
    least: int = 32  # the smallest side in pixels that it takes
    only: bool = False  # whether it takes no side but its own
    settings: tuple[tuple[str, object], ...] = ()  # that get_model takes


_NO_SIDE_EXITS = (("aux_logits", False), ("init_weights", True))
FAMILIES = {
    "alexnet": Family("classifier", pooled=False, least=64),
    "convnext": Family("classifier", keeps=2),
    "densenet": Family("classifier"),
    "efficientnet": Family("classifier"),
    "googlenet": Family("fc", settings=_NO_SIDE_EXITS),
    "inception": Family("fc", least=80, settings=_NO_SIDE_EXITS),
    "maxvit": Family("classifier", keeps=5, only=True),
    "mnasnet": Family("classifier"),
    "mobilenet": Family("classifier"),
    "regnet": Family("fc"),
    "resnet": Family("fc"),
    "resnext": Family("fc"),
    "shufflenet": Family("fc"),
    "squeezenet": Family("classifier", pooled=False, least=32),
    "swin": Family("head"),
    "vgg": Family("classifier", pooled=False),
    "vit": Family("heads", only=True),
    "wide_resnet": Family("fc"),
}


def _models() -> Any:
    """Imported for whom a network of it concerns alone: it brings PyTorch's compiler along, 1.7 s of a CPU."""
    from torchvision import models

    return models


def names() -> list[str]:
    """All that torchvision has and this module cuts, sorted."""
    return [name for name in _models().list_models(module=_models()) if _family(name)]


def _family(name: str) -> Family | None:
    return next((family for start, family in FAMILIES.items() if name.startswith(start)), None)


def refuse_unknown(library: str, name: str, known: Sequence[str]) -> None:
    """Raises ValueError where a library has no network of this name."""
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {library}{near[0]}? " if near else ""
        raise ValueError(f'model.name = "{library}{name}": unknown; {hint}raycifar lists them with --list-models')


def torchvision_trunk(spec: Model, facts: Facts) -> Trunk:
    """The network that `spec.name` names. Raises ValueError where torchvision has none of that name."""
    name = spec.name.removeprefix(PREFIX)
    refuse_unknown(PREFIX, name, names())
    family = _family(name)
    assert family is not None  # noqa: S101 - names() has those with a family alone
    module = made(partial(_models().get_model, name, weights=None, **dict(family.settings)))
    features = _cut(module, family)
    adopt(module)
    blocks = blocks_of(module)
    mean, std = _normalisation(name)
    return Trunk(
        module=module,
        features=features,
        blocks=blocks,
        layers=blocks,
        mean=mean,
        std=std,
        side=IMAGENET_SIDE,
        least=IMAGENET_SIDE if family.only else family.least,
        normed=is_normed(module),
        load=partial(load_into, module),
        only=family.only,
    )


def made(make: Callable[[], Any]) -> Any:
    """What `make` makes; on the CPU where it reads numbers, which the meta device has not."""
    try:
        return make()
    except NotImplementedError:
        with torch.device("cpu"):
            return make()


def _cut(module: nn.Module, family: Family) -> int:
    """Cut the head off; returns how many features come out of what is left."""
    head = getattr(module, family.head)
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    rest, cut = layers[: family.keeps], layers[family.keeps :]
    first = next(layer for layer in cut if isinstance(layer, nn.Linear | nn.Conv2d))
    if isinstance(first, nn.Conv2d):  # SqueezeNet's classifier is a convolution, pooled after it
        setattr(module, family.head, nn.AdaptiveAvgPool2d(1))
        return first.in_channels
    setattr(module, family.head, nn.Sequential(*rest) if rest else nn.Identity())
    if family.pooled:
        return first.in_features
    module.avgpool = nn.AdaptiveAvgPool2d(1)  # AlexNet and VGG lay a grid out; our head takes its mean
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return convolutions[-1].out_channels


def blocks_of(module: nn.Module) -> tuple[Prefixes, ...]:
    """The names of the parameters by block, input first; a part that has biases and norms alone joins the one before.

    A block is a child of the network, or of the containers in which libraries keep their layers.
    """
    parts: dict[str, list[str]] = {}
    weighs: set[str] = set()
    for name, parameter in module.named_parameters():
        found = _CONTAINERS.match(name)
        part = found[1] if found else name
        parts.setdefault(part, []).append(name)
        if parameter.ndim > 1:
            weighs.add(part)
    blocks: list[list[str]] = []
    for part, inside in parts.items():
        if part in weighs or not blocks:
            blocks.append([])
        blocks[-1] += inside
    return tuple(map(tuple, blocks))


def load_into(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load all but the counters, which start anew."""
    counters = {name: torch.zeros_like(one) for name, one in module.state_dict().items() if name.endswith(COUNTERS)}
    module.load_state_dict(counters | weights)


def is_normed(module: nn.Module) -> bool:
    """Whether batch norm follows every convolution: it is then that these libraries give it no bias."""
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    has_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())
    return has_norm and all(layer.bias is None for layer in convolutions)


def _normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The mean and deviation of pixels in 0..1 that its weights were trained with."""
    transform = _models().get_model_weights(name).DEFAULT.transforms()
    mean, std = getattr(transform, "mean", IMAGENET_MEAN), getattr(transform, "std", IMAGENET_STD)
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
